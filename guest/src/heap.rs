//! The heap: what `alloc` allocates from.
//!
//! One talc allocator behind a spin lock. The whole of the heap's memory is
//! claimed at boot, but only its ends are touched then: the rest is backed by
//! memory of the host when it is first used.

use arca_shared::protocol::boot::BootInfo;
use talc::TalcLock;
use talc::source::Manual;

#[cfg_attr(feature = "image", global_allocator)]
static HEAP: TalcLock<spin::Mutex<()>, Manual> = TalcLock::new(Manual);

/// Gives the heap its memory.
///
/// # Safety
///
/// The memory that `info` names as the heap must be mapped writable, used by
/// nothing else, and stay so for ever; to be called once.
pub(crate) unsafe fn init(info: &BootInfo) {
    let base = core::ptr::with_exposed_provenance_mut::<u8>(info.heap_base as usize);
    // SAFETY: the caller gives this memory to the heap for good.
    let claimed = unsafe { HEAP.lock().claim(base, info.heap_len as usize) };
    assert!(
        claimed.is_some(),
        "a heap of {} bytes is too small",
        info.heap_len
    );
}
