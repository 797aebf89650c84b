//! The memory map: where everything is in guest-physical and guest-virtual
//! memory.
//!
//! ```text
//!  guest-physical                               guest-virtual
//!
//!  0x0000_0000  null page                       unmapped
//!  0x0001_0000  tables: GDT, IDT, stubs, TSSs,  supervisor only
//!               exception stacks
//!  0x0010_0000  page tables                     unmapped
//!  0x0018_0000  boot information, arguments     same, read-only
//!  0x0020_0000  image: text r-x, rodata r--,    same
//!               data rw-
//!     ...       a stack for each vCPU, a guard  same, rw-
//!               page unmapped below each
//!     ...       heap, to the end of low memory  same, rw-
//!
//!  0xD000_0000  MMIO page (no memory behind)    same, rw-
//!
//!  0x1_0000_0000  arena                         0x40_0000_0000, rw-
//! ```
//!
//! Low memory below the arena is identity-mapped. The arena is not, on purpose:
//! what crosses the boundary is an offset, and an address passed by mistake
//! would fault instead of working by luck.

/// Size of a page, in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// Most vCPUs that one guest can have.
pub const MAX_VCPUS: usize = 16;

/// First byte of the descriptor tables, exception stubs and exception stacks
/// (supervisor only).
pub const TABLES_BASE: u64 = 0x1_0000;
/// First byte of the page tables (not mapped in the guest).
pub const PAGE_TABLES_BASE: u64 = 0x10_0000;
/// First byte of the boot information ([`crate::protocol::boot::BootInfo`]) and of the
/// program's arguments behind it; mapped read-only.
pub const BOOT_INFO_BASE: u64 = 0x18_0000;
/// End of the boot information and arguments: what does not fit is refused.
pub const BOOT_INFO_END: u64 = 0x20_0000;
/// Where the image is linked: its first segment's address.
pub const IMAGE_BASE: u64 = 0x20_0000;
/// Smallest and default size of low memory, in bytes.
pub const LOW_MEMORY_MIN: u64 = 16 << 20;
/// Default size of low memory (image, stacks and heap), in bytes.
pub const LOW_MEMORY_DEFAULT: u64 = 256 << 20;
/// Largest size of low memory: it ends below the MMIO page.
pub const LOW_MEMORY_MAX: u64 = 3 << 30;
/// Size of each vCPU's stack, in bytes; a guard page is below it.
pub const STACK_SIZE: u64 = 1 << 20;

/// Guest-physical address of the arena.
pub const ARENA_GPA: u64 = 0x1_0000_0000;
/// Guest-virtual address of the arena.
pub const ARENA_GVA: u64 = 0x40_0000_0000;
/// Default size of the arena, in bytes. It is sparse: only what is touched is
/// backed by memory.
pub const ARENA_SIZE_DEFAULT: u64 = 1 << 30;
/// Smallest size of an arena, in bytes.
pub const ARENA_SIZE_MIN: u64 = 1 << 20;
/// Largest size of an arena, in bytes.
pub const ARENA_SIZE_MAX: u64 = 64 << 30;

/// Guest-physical and guest-virtual address of the MMIO page
/// ([`Register`](super::register::Register)). No memory is behind it.
pub const MMIO_BASE: u64 = 0xD000_0000;
