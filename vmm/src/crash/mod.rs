//! What a crash looked like: why, where, and how it got there.

mod backtrace;
pub(crate) mod exception;
pub(crate) mod report;
pub(crate) mod symbols;

use std::fmt;

pub use crate::crash::symbols::Place;
use exception::Attempt;

pub(crate) use report::{At, report};

/// What a vCPU that crashed leaves behind for the report.
#[derive(Debug)]
pub(crate) struct CrashState {
    /// Index of the vCPU.
    pub vcpu: usize,
    /// Why it crashed.
    pub cause: Cause,
    /// Its registers when it did.
    pub registers: Registers,
}

/// Why a guest crashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The processor raised an exception.
    Exception {
        /// Which one.
        vector: u8,
        /// Its error code, where it has one.
        error_code: Option<u64>,
        /// The address whose access faulted, for a page fault.
        address: Option<u64>,
    },
    /// The program panicked. The message was written to the UART.
    Panic,
    /// An access to the MMIO page that has no meaning.
    BadAccess {
        /// The guest-physical address.
        address: u64,
        /// What was written; nothing was when it read.
        written: Option<Vec<u8>>,
    },
    /// A system call: there is no kernel that would answer it.
    SystemCall,
    /// A KICK of a vCPU that there is not.
    NoSuchVcpu(u64),
    /// An exception came while another was being delivered, with nowhere to go.
    Shutdown,
    /// KVM could not emulate what the guest did.
    Emulation,
    /// The processor refused the guest's state.
    EntryRefused(u64),
    /// The guest did something that no guest program has reason to.
    Unexpected(String),
}

/// The general registers of a vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// rax, rbx, rcx, rdx, rsi, rdi, rbp, r8 … r15, in this order.
    pub general: [u64; 15],
    /// Stack pointer.
    pub rsp: u64,
    /// Instruction pointer.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
}

/// Names of [`Registers::general`].
const GENERAL_NAMES: [&str; 15] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

impl Registers {
    /// The counter register, where a system call leaves its return address.
    #[must_use]
    pub fn rcx(&self) -> u64 {
        self.general[2]
    }

    pub(crate) fn set_rcx(&mut self, value: u64) {
        self.general[2] = value;
    }

    pub(crate) fn set_r11(&mut self, value: u64) {
        self.general[10] = value;
    }

    /// The register where a system call leaves the flags.
    #[must_use]
    pub fn r11(&self) -> u64 {
        self.general[10]
    }

    /// The frame pointer.
    #[must_use]
    pub fn rbp(&self) -> u64 {
        self.general[6]
    }
}

/// The flag that lets interrupts in. The guest takes none: those that come are the
/// host's, and so is the flag where a platform shows it.
pub(crate) const INTERRUPTS: u64 = 1 << 9;

/// The flag by which the processor marks an instruction that has faulted. Not every
/// machine does, and it says nothing of the program.
pub(crate) const RESUME: u64 = 1 << 16;

/// One step of a backtrace.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The instruction: the one that crashed, or the one after a call.
    pub address: u64,
    /// What is there: inlined functions first. Empty where nothing is known.
    pub places: Vec<Place>,
    /// How many such steps follow one another: a function that calls itself.
    pub times: usize,
    /// How many steps after this one are left out of the backtrace.
    pub left_out: usize,
}

/// What a crash looked like. [`fmt::Display`] is the report for people.
#[derive(Clone, Debug)]
pub struct CrashReport {
    /// Index of the vCPU that crashed.
    pub vcpu: usize,
    /// Why.
    pub cause: Cause,
    /// What the faulting address is, for a page fault.
    pub address_is: Option<String>,
    /// What went wrong, in a few words.
    pub summary: String,
    /// Registers when it happened.
    pub registers: Registers,
    /// Bytes at the instruction pointer, as many as could be read; none for a panic.
    pub code: Vec<u8>,
    /// How it got there, innermost first. The first is where it crashed; for a panic,
    /// the program's call that panicked.
    pub backtrace: Vec<Frame>,
}

impl CrashReport {
    /// The program's function that crashed or panicked: the innermost that is
    /// not of the standard library.
    #[must_use]
    pub fn function(&self) -> Option<&str> {
        const LIBRARY: [&str; 6] = ["core::", "alloc::", "<core", "<alloc", "__rustc", "<&"];
        let own = |name: &&str| !LIBRARY.iter().any(|library| name.starts_with(library));
        self.backtrace
            .iter()
            .filter_map(|frame| frame.places.iter().find(|place| !place.inlined))
            .map(|place| place.function.as_str())
            .find(own)
    }

    /// Whether a function whose name contains this is in the backtrace.
    #[must_use]
    pub fn names(&self, function: &str) -> bool {
        self.backtrace
            .iter()
            .flat_map(|frame| &frame.places)
            .any(|place| place.function.contains(function))
    }
}

impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest crashed on vCPU {}", self.vcpu)?;
        if let Some(function) = self.function() {
            write!(f, " in {function}")?;
        }
        writeln!(f, ": {}", self.summary)?;
        if let Cause::Exception {
            vector,
            error_code,
            address,
        } = &self.cause
        {
            let (name, mnemonic) = exception::name(*vector);
            writeln!(f, "  exception:  {name} ({mnemonic}, vector {vector})")?;
            if let Some(code) = error_code {
                let meaning = exception::explain(*vector, *code);
                writeln!(f, "  error code: {code:#x}: {meaning}")?;
            }
            if let Some(address) = address {
                let what = self.address_is.as_deref().unwrap_or("unknown");
                writeln!(f, "  address:    {address:#x}: {what}")?;
            }
        }
        let first = self.backtrace.first();
        let at = first.map_or(self.registers.rip, |frame| frame.address);
        write!(f, "  at:         {at:#x}")?;
        if let Some(place) = first.and_then(|frame| frame.places.first()) {
            write!(f, " {place}")?;
        }
        if self.cause != Cause::Panic {
            write!(f, "\n  code:      ")?;
            if self.code.is_empty() {
                write!(f, " not readable")?;
            }
            for byte in &self.code {
                write!(f, " {byte:02x}")?;
            }
        }
        writeln!(f, "\n  registers:")?;
        let named = GENERAL_NAMES.into_iter().zip(self.registers.general);
        let rest = [("rsp", self.registers.rsp), ("rip", self.registers.rip)];
        for (index, (name, value)) in named.chain(rest).enumerate() {
            let end = if index % 4 == 3 { "\n" } else { " " };
            let start = if index % 4 == 0 { "   " } else { "" };
            write!(f, "{start} {name:>3} {value:016x}{end}")?;
        }
        writeln!(f, " rfl {:016x}", self.registers.rflags)?;
        write!(f, "  backtrace:{}", Backtrace(&self.backtrace))
    }
}

/// Frames as lines that each begin with a newline.
pub(crate) struct Backtrace<'a>(pub &'a [Frame]);

impl fmt::Display for Backtrace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut index = 0;
        for frame in self.0 {
            write!(f, "\n    {index:>2}: {:#x}", frame.address)?;
            match frame.places.split_first() {
                None => write!(f, " unknown function")?,
                Some((first, rest)) => {
                    write!(f, " {first}")?;
                    for place in rest {
                        write!(f, "\n        {place}")?;
                    }
                }
            }
            if frame.times > 1 {
                write!(f, "\n        ... {} times", frame.times)?;
            }
            if frame.left_out > 0 {
                write!(f, "\n        ... {} more left out", frame.left_out)?;
            }
            index += frame.times + frame.left_out;
        }
        Ok(())
    }
}

/// What a page fault was, in a few words, beyond what its address is.
fn page_fault_summary(
    attempt: Attempt,
    address: u64,
    kind: Option<crate::memory::map::Kind>,
) -> String {
    use crate::memory::elf::Access;
    use crate::memory::map::Kind;
    let verb = match attempt {
        Attempt::Read => "read of",
        Attempt::Write => "write to",
        Attempt::Execute => "jump to",
    };
    match (kind, attempt) {
        (Some(Kind::StackGuard(vcpu)), _) => {
            format!("stack overflow: {verb} the guard page of vCPU {vcpu}'s stack")
        }
        (Some(Kind::Null), _) => format!("null pointer: {verb} {address:#x}"),
        (Some(Kind::Image(Access::Execute)), Attempt::Write) => {
            format!("write to read-only text at {address:#x}")
        }
        (Some(Kind::Image(Access::ReadOnly) | Kind::BootInfo), Attempt::Write) => {
            format!("write to read-only data at {address:#x}")
        }
        (Some(Kind::Tables | Kind::Stubs | Kind::PageTables), _) => {
            format!("{verb} memory of the VMM at {address:#x}")
        }
        (Some(_), Attempt::Execute) => format!("jump to data at {address:#x}"),
        (Some(_), _) => format!("{verb} {address:#x}"),
        (None, _) => format!("{verb} an address that is not mapped, {address:#x}"),
    }
}
