//! The boot information, kept for the rest of the program.

use arca_shared::protocol::boot::{BootInfo, INTERFACE_VERSION};
use spin::Once;

/// The interface version in the image, which the VMM compares with its own
/// before it loads anything.
#[used]
#[cfg_attr(feature = "image", unsafe(link_section = ".arca.interface"))]
static INTERFACE: [u8; 4] = INTERFACE_VERSION.to_le_bytes();

static INFO: Once<&'static BootInfo> = Once::new();

/// Keeps the boot information for [`info`].
pub(crate) fn set(info: &'static BootInfo) {
    INFO.call_once(|| info);
}

/// Whether [`info`] has something to give.
pub(crate) fn is_known() -> bool {
    INFO.get().is_some()
}

/// What the VMM says of this guest.
///
/// # Panics
///
/// If there is none, as outside a guest.
#[must_use]
pub fn info() -> &'static BootInfo {
    INFO.get().expect("the boot information is read first")
}
