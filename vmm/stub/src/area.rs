//! The memory that VMM and stub share, besides the guest's: what is to be mapped
//! where, and what each vCPU left the guest for.
//!
//! The VMM writes the plan before the stub starts. From then on the guest can write
//! all of it too, so every field is an atomic and the VMM believes none.
//!
//! Plain numbers are loaded and stored Relaxed; the two words that say whose turn it
//! is, [`Area::stage`] and [`Slot::turn`], order them.

use crate::park::ParkWord;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Most vCPUs.
pub const VCPUS: usize = 16;
/// Most ranges of guest memory.
pub const RANGES: usize = 128;
/// A vCPU's registers: those of the processor's encoding from rax to r15, then the
/// instruction pointer and the flags.
pub const REGISTERS: usize = 18;
/// Index of the stack pointer among them.
pub const RSP: usize = 4;
/// Index of the instruction pointer among them.
pub const RIP: usize = 16;
/// Index of the flags among them.
pub const FLAGS: usize = 17;

/// A number that goes from one side to the other.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Word(AtomicU64);

impl Word {
    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Writes it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Counts one more. Only one thread counts a word of this kind.
    pub fn count(&self) {
        self.set(self.get().wrapping_add(1));
    }
}

/// A range of guest memory.
#[derive(Debug, Default)]
#[repr(C)]
pub struct RangePlan {
    /// Its first address.
    pub start: Word,
    /// The address after its last.
    pub end: Word,
    /// Where it is in the file of guest memory.
    pub offset: Word,
    /// What it may be used for: PROT_READ, PROT_WRITE and PROT_EXEC of mmap(2).
    pub protection: Word,
}

/// Where the vCPUs start.
#[derive(Debug, Default)]
#[repr(C)]
pub struct StartPlan {
    /// The first instruction.
    pub entry: Word,
    /// The first argument.
    pub boot_info: Word,
    /// The stack pointer of each.
    pub stack_pointers: [Word; VCPUS],
}

/// The registers of the MMIO page that the stub serves itself: their addresses.
#[derive(Debug, Default)]
#[repr(C)]
pub struct RegisterPlan {
    /// First address of the page.
    pub page: Word,
    /// Wakes the monitor.
    pub doorbell: Word,
    /// Puts the vCPU to sleep.
    pub park: Word,
    /// Wakes a vCPU.
    pub kick: Word,
}

/// How far the stub is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    /// It starts.
    Starting,
    /// It has given up what it does not need, and waits for [`Stage::Running`].
    Ready,
    /// The guest may run: the VMM says so.
    Running,
    /// It could not start: [`Area::failed_step`] and [`Area::failed_errno`] say why.
    Failed,
}

/// What the stub does before it is ready, for the VMM to name what failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum SetupStep {
    /// The address space is emptied.
    Unmap = 1,
    /// A range of guest memory is mapped.
    Map,
    /// Descriptors are closed.
    Close,
    /// The VMM's end is to be the stub's.
    DeathSignal,
    /// A limit is set.
    Limit,
    /// Signals are caught.
    Signals,
    /// New privileges are given up.
    NoNewPrivileges,
    /// A thread is started.
    Thread,
    /// System calls are given up.
    Filter,
}

impl SetupStep {
    /// All of them, with what each was to do.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Unmap, "empty its address space"),
        (Self::Map, "map guest memory"),
        (Self::Close, "close its descriptors"),
        (Self::DeathSignal, "tie its life to the VMM's"),
        (Self::Limit, "limit its resources"),
        (Self::Signals, "catch exceptions"),
        (Self::NoNewPrivileges, "give up new privileges"),
        (Self::Thread, "start a thread for a vCPU"),
        (Self::Filter, "give up system calls by seccomp"),
    ];
}

/// Whose turn it is at a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Turn {
    /// The guest runs, or sleeps.
    Guest,
    /// It left, and waits for the VMM.
    Vmm,
    /// There is no process any more: the VMM says so to its own threads.
    Nobody,
}

/// What a vCPU left the guest for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum ExitKind {
    /// A store to the MMIO page: [`Slot::address`], [`Slot::width`], [`Slot::value`].
    Store = 1,
    /// A load from the MMIO page: [`Slot::address`], [`Slot::width`]; the VMM leaves
    /// what is read in [`Slot::value`].
    Load,
    /// An access to the MMIO page by an instruction that is neither, or its
    /// execution.
    Undecoded,
    /// An exception: [`Slot::vector`], [`Slot::error_code`], [`Slot::address`].
    Exception,
    /// A system call: [`Slot::address`] is the audit(7) architecture whose it is.
    SystemCall,
}

impl ExitKind {
    /// The kind of that number.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        let all = [
            Self::Store,
            Self::Load,
            Self::Undecoded,
            Self::Exception,
            Self::SystemCall,
        ];
        all.into_iter().find(|&kind| kind as u64 == number)
    }
}

/// What the VMM and the thread of one vCPU share.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Slot {
    /// A [`Turn`]; a futex for both sides. Whoever hands the turn over stores
    /// (Release) after it wrote the rest; the other loads it (Acquire) first.
    pub turn: AtomicU32,
    /// Where the vCPU sleeps; a futex shared with the VMM.
    pub parker: ParkWord,
    /// An [`ExitKind`].
    pub kind: Word,
    /// The address that was accessed.
    pub address: Word,
    /// Bytes that were accessed.
    pub width: Word,
    /// What was written, or read.
    pub value: Word,
    /// The exception's number.
    pub vector: Word,
    /// Its error code.
    pub error_code: Word,
    /// The guest's registers when the vCPU last left it, or when they were asked for.
    pub registers: [Word; REGISTERS],
    /// The thread's id, to signal it.
    pub thread: Word,
    /// How often the thread was signalled to leave its registers here, and did.
    pub samples: Word,
    /// Whether it sleeps: 0 or 1.
    pub asleep: Word,
    /// Since when, in nanoseconds since boot.
    pub since: Word,
    /// Until when at the latest; `u64::MAX` for ever.
    pub deadline: Word,
    /// How often it asked to sleep.
    pub parks: Word,
    /// How often it slept.
    pub sleeps: Word,
    /// How often it woke another.
    pub kicks: Word,
}

/// All of it.
#[derive(Debug)]
#[repr(C)]
pub struct Area {
    /// A [`Stage`]; a futex for both sides. Stored (Release) after what belongs to
    /// it, loaded (Acquire) before.
    pub stage: AtomicU32,
    /// vCPUs whose threads have started; a futex of the stub's own. Each adds itself
    /// (Release) when it needs no more system calls than the filter leaves; the first
    /// thread loads it (Acquire) before it sets the filter.
    pub started: AtomicU32,
    /// Number of a [`SetupStep`].
    pub failed_step: Word,
    /// Its errno(3).
    pub failed_errno: Word,
    /// How many vCPUs there are.
    pub vcpus: Word,
    /// How many ranges there are.
    pub range_count: Word,
    /// Process id of the VMM.
    pub parent: Word,
    /// Frequency of the time-stamp counter, in kHz. Written before
    /// [`Stage::Running`].
    pub tsc_khz: Word,
    /// The counter at boot. Written before [`Stage::Running`].
    pub tsc_boot: Word,
    /// The registers of the MMIO page.
    pub registers: RegisterPlan,
    /// The ranges, in order of addresses.
    pub ranges: [RangePlan; RANGES],
    /// Where the vCPUs start.
    pub start: StartPlan,
    /// What each vCPU shares with the VMM.
    pub slots: [Slot; VCPUS],
}

/// Size of the area's mapping, in bytes: whole pages.
pub const AREA_SIZE: usize = size_of::<Area>().next_multiple_of(4096);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_holds_a_number() {
        let word = Word::default();
        assert_eq!(word.get(), 0);
        word.set(u64::MAX - 1);
        word.count();
        assert_eq!(word.get(), u64::MAX);
        word.count();
        assert_eq!(word.get(), 0);
    }

    #[test]
    fn numbers_stand_for_kinds_of_exits_or_for_none() {
        for kind in [
            ExitKind::Store,
            ExitKind::Load,
            ExitKind::Undecoded,
            ExitKind::Exception,
            ExitKind::SystemCall,
        ] {
            assert_eq!(ExitKind::from_number(kind as u64), Some(kind));
        }
        for number in [0, 6, 1 << 32 | 1, u64::MAX] {
            assert_eq!(ExitKind::from_number(number), None, "{number}");
        }
    }
}
