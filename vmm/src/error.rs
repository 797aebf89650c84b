//! Why a guest could not start: one line each, with what to do about it.
//!
//! An error's text does not repeat its source's; whoever prints it prints the
//! sources behind it ([`in_one_line`]).

use arca_monitor::{LinkError, MonitorError};
use arca_shared::protocol::layout;
use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a [`crate::Vm`] could not be built.
#[derive(Debug, Error)]
pub enum StartError {
    /// There is no KVM on this machine.
    #[error(
        "/dev/kvm does not exist: enable virtualization in the firmware and load the kvm module, or give this machine nested virtualization"
    )]
    KvmMissing,
    /// The user may not use KVM.
    #[error(
        "/dev/kvm is not accessible: add your user to the group that owns it (usually `sudo usermod -aG kvm $USER`, then log in again)"
    )]
    KvmDenied,
    /// A request to KVM failed.
    #[error("/dev/kvm: KVM could not {action}")]
    Kvm {
        /// What was asked of it.
        action: &'static str,
        /// What it answered.
        source: io::Error,
    },
    /// The kernel lacks what a guest's process needs, or forbids it.
    #[error("a guest cannot run in a process here: {what}; {mend}")]
    ProcessLacks {
        /// What.
        what: String,
        /// What mends it, with a command.
        mend: &'static str,
    },
    /// Neither platform can be used.
    #[error("{kvm}; and {process}")]
    NoPlatform {
        /// Why not KVM.
        kvm: String,
        /// Why not a process.
        process: String,
    },
    /// The image's file could not be opened.
    #[error("no such image: {}: {reason}", path.display())]
    ImageUnreadable {
        /// The file's path.
        path: PathBuf,
        /// Why it cannot be opened.
        reason: String,
    },
    /// The image's file is not an image that can be run.
    #[error("{name} cannot be run: {reason}")]
    Image {
        /// The image's path, or what stands for it.
        name: String,
        /// What is wrong with it.
        reason: ImageError,
    },
    /// The file that the trace is to be written to could not be made.
    #[error("the trace file {} could not be made", path.display())]
    TraceFile {
        /// The file's path.
        path: PathBuf,
        /// What the host answered.
        source: io::Error,
    },
    /// No debugger can be waited for on that port.
    #[error("gdb cannot be waited for on port {port} of 127.0.0.1")]
    Gdb {
        /// The port.
        port: u16,
        /// What the host answered.
        source: io::Error,
    },
    /// The platform has no debugger for its vCPUs.
    #[error("--gdb is for KVM: {instead}")]
    NoDebugger {
        /// What to use.
        instead: &'static str,
    },
    /// The arguments do not fit into the guest's boot information.
    #[error(
        "the arguments take {len} bytes, and the guest has room for {max}: pass fewer or shorter ones"
    )]
    ArgumentsTooLong {
        /// Bytes they take.
        len: u64,
        /// Bytes there are.
        max: u64,
    },
    /// An argument has a zero byte in it, which ends a string in the guest.
    #[error("argument {index} contains a zero byte")]
    ArgumentWithZero {
        /// Which one; 0 is the program's name.
        index: usize,
    },
    /// The size of low memory is not one that a guest can have.
    #[error("low memory of {size} bytes is not possible: give it {} MiB to {} MiB, in whole pages", layout::LOW_MEMORY_MIN >> 20, layout::LOW_MEMORY_MAX >> 20)]
    LowMemorySize {
        /// The size asked for.
        size: u64,
    },
    /// Image and stacks leave no room for a heap.
    #[error(
        "low memory of {size} bytes is too small: image and stacks need {needed} bytes, give the guest more memory"
    )]
    LowMemoryTooSmall {
        /// The size asked for.
        size: u64,
        /// What is needed at least.
        needed: u64,
    },
    /// The size of the arena is not one that a guest can have.
    #[error("an arena of {size} bytes is not possible: give it {} MiB to {} GiB, in whole pages", layout::ARENA_SIZE_MIN >> 20, layout::ARENA_SIZE_MAX >> 30)]
    ArenaSize {
        /// The size asked for.
        size: u64,
    },
    /// The number of vCPUs is not one that a guest can have.
    #[error("{vcpus} vCPUs are not possible: give it 1 to {}", layout::MAX_VCPUS)]
    VcpuCount {
        /// The number asked for.
        vcpus: usize,
    },
    /// The host gave no memory.
    #[error("guest memory of {size} bytes could not be had: {reason}")]
    Memory {
        /// Bytes of low memory and arena together.
        size: u64,
        /// What the host said.
        reason: String,
    },
    /// The image is so scattered that its page tables do not fit.
    #[error(
        "the image needs more page tables than there is room for: link its segments closer together"
    )]
    PageTables,
    /// The image has more segments than the guest's process can map.
    #[error(
        "the image has too many segments: {max} ranges of memory can be mapped; link it with fewer"
    )]
    TooManySegments {
        /// Ranges that can be mapped.
        max: usize,
    },
    /// The session's memory could not be set up in the arena.
    #[error("the session could not be set up in the arena")]
    Link(#[source] LinkError),
    /// The monitor could not be set up.
    #[error("the monitor could not be set up")]
    Monitor(#[source] MonitorError),
    /// A service of the host failed.
    #[error("could not {action}")]
    Host {
        /// What was asked of it.
        action: &'static str,
        /// What it answered.
        source: io::Error,
    },
}

/// What is wrong with an image.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ImageError {
    /// It is not an ELF file for this machine.
    #[error("it is not a 64-bit x86 ELF file, or it is cut short; build it again")]
    NotElf,
    /// A part of it is cut off or damaged.
    #[error("its {part} cannot be read: the file is cut short or damaged; build it again")]
    Damaged {
        /// Which part.
        part: &'static str,
    },
    /// It is not linked to run at a fixed address.
    #[error(
        "it is not statically linked to a fixed address (ELF type {e_type}); link it with -static -no-pie"
    )]
    NotExecutable {
        /// The ELF header's type.
        e_type: u16,
    },
    /// It asks for a dynamic linker.
    #[error("it asks for a dynamic linker; link it with -static -no-pie")]
    Dynamic,
    /// It does not say which interface it was built for.
    #[error("it has no section {section}: it is not an Arca guest program")]
    NoInterface {
        /// The section that is missing.
        section: &'static str,
    },
    /// It was built for another interface.
    #[error(
        "it was built for interface version {found}, and this VMM has version {wanted}: build both from the same source"
    )]
    WrongInterface {
        /// The image's version.
        found: u32,
        /// This VMM's version.
        wanted: u32,
    },
    /// It has nothing to load.
    #[error("it has no segment to load")]
    Empty,
    /// A segment lies where none may lie.
    #[error("its segment at {start:#x}..{end:#x} is outside the image's range {low:#x}..{high:#x}")]
    SegmentOutside {
        /// First address of the segment.
        start: u64,
        /// Address after its last.
        end: u64,
        /// First address that it may have.
        low: u64,
        /// Address after the last that it may have.
        high: u64,
    },
    /// A segment's physical address is not its virtual one.
    #[error("its segment at {start:#x} is to be loaded elsewhere ({physical:#x})")]
    SegmentMoved {
        /// Virtual address of the segment.
        start: u64,
        /// Its physical address.
        physical: u64,
    },
    /// A segment has more bytes in the file than in memory.
    #[error("its segment at {start:#x} is larger in the file than in memory")]
    SegmentSize {
        /// Address of the segment.
        start: u64,
    },
    /// A segment is writable and executable.
    #[error(
        "its segment at {start:#x} is writable and executable; separate the two in the linker script"
    )]
    WritableText {
        /// Address of the segment.
        start: u64,
    },
    /// Two segments share a page.
    #[error("its segments share the page at {page:#x}; align them to pages in the linker script")]
    SegmentsOverlap {
        /// The page's address.
        page: u64,
    },
    /// The entry point is not in executable memory.
    #[error("its entry point {entry:#x} is not in an executable segment")]
    Entry {
        /// The entry point.
        entry: u64,
    },
    /// Loading it failed although it looked right.
    #[error("it could not be loaded: {0}")]
    Load(String),
}

/// An error and its sources, as one line.
#[must_use]
pub fn in_one_line(error: &StartError) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        line.push_str(": ");
        line.push_str(&error.to_string());
        source = error.source();
    }
    line
}
