//! Boot information: what the VMM tells the guest before its first
//! instruction.
//!
//! The VMM writes a [`BootInfo`] at [`BOOT_INFO_BASE`](crate::protocol::layout::BOOT_INFO_BASE),
//! which the guest has mapped read-only, and starts every vCPU at the image's
//! entry point with
//!
//! | register | holds |
//! |---|---|
//! | rdi | address of the [`BootInfo`] |
//! | rsi | index of this vCPU, 0 for the one that runs `main` |
//! | rsp | top of this vCPU's stack, 16-byte aligned less 8, as after a call |
//!
//! in ring 3, with interrupts off for good and SSE (and AVX where the host has
//! it) usable.

use crate::pipe::PipePlace;

/// Version of the interface between image and VMM: the memory map, the MMIO
/// registers, [`BootInfo`], the notification area and the standard pipes. Image and VMM must agree
/// on it exactly.
pub const INTERFACE_VERSION: u32 = 2;

/// Name of the ELF section that holds the image's interface version, a
/// little-endian u32. The VMM reads it before it loads anything.
pub const INTERFACE_SECTION: &str = ".arca.interface";

/// `BootInfo::magic`: "ARCABOOT" in memory order.
pub const BOOT_MAGIC: u64 = u64::from_le_bytes(*b"ARCABOOT");

/// What the VMM tells the guest. All fields are plain integers in the guest's
/// byte order; every address is guest-virtual.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BootInfo {
    /// [`BOOT_MAGIC`].
    pub magic: u64,
    /// [`INTERFACE_VERSION`].
    pub version: u32,
    /// Number of vCPUs, 1 to [`MAX_VCPUS`](crate::protocol::layout::MAX_VCPUS).
    pub vcpus: u32,

    /// Address of the arena's first byte.
    pub arena_base: u64,
    /// Size of the arena, in bytes.
    pub arena_len: u64,
    /// The control pipe: the guest is side A.
    pub control: PipePlace,
    /// Offset of the notification area in the arena ([`crate::notify`]).
    pub notify_offset: u64,
    /// Standard input: the guest reads ring B.
    pub stdin: PipePlace,
    /// Standard output: the guest writes ring A.
    pub stdout: PipePlace,
    /// Log records ([`crate::protocol::log_record`]): the guest writes ring A.
    pub log: PipePlace,

    /// Address of the heap's first byte.
    pub heap_base: u64,
    /// Size of the heap, in bytes.
    pub heap_len: u64,

    /// Address of the arguments: `args_count` strings, each ended by a zero
    /// byte; the first is the program's name.
    pub args_base: u64,
    /// Size of the arguments, in bytes, zeros included.
    pub args_len: u64,
    /// Number of arguments, the program's name included.
    pub args_count: u32,
    /// Most verbose log level that the host wants: 0 off, 1 error, … 5 trace.
    pub log_level: u32,

    /// Frequency of the time-stamp counter, in kHz.
    pub tsc_khz: u64,
    /// Value of the time-stamp counter at boot: time zero of the guest's
    /// monotonic clock.
    pub tsc_boot: u64,
    /// Wall clock at boot, in nanoseconds since the Unix epoch.
    pub unix_boot_ns: u64,
    /// Random bytes from the host, new at every boot.
    pub seed: [u8; 32],
}
