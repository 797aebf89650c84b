//! Where the stub is in its address space: far above everything of the guest's.

use core::ops::Range;

/// Where the program is linked to. The build script has the same number.
pub const STUB_BASE: u64 = 0x6000_0000_0000;
/// Where the area is mapped.
pub const AREA_BASE: u64 = 0x6100_0000_0000;
/// End of the addresses that a process can have.
pub const USER_END: u64 = 0x7fff_ffff_f000;

/// What the guest may have mapped: below the stub, and above what no process may map.
pub const GUEST: Range<u64> = 0x1_0000..STUB_BASE;

/// The signal on which a thread leaves its registers in the area: SIGURG, which does
/// nothing to whoever does not expect it.
pub const SAMPLE_SIGNAL: i32 = 23;

/// Descriptor by which the stub gets the area and, behind it, guest memory. It closes
/// it.
pub const MEMORY_FD: i32 = 0;
/// Descriptor of the doorbell's eventfd. It stays open.
pub const DOORBELL_FD: i32 = 1;
/// Descriptor of the tether, a pipe that the VMM has the other end of: what is written
/// there, and the end of all who could write, kills the process. It stays open.
pub const TETHER_FD: i32 = 2;
