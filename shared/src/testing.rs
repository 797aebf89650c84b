//! Memory for this crate's tests.

use crate::arena::Arena;
use crate::buddy::MIN_BLOCK;
use core::ptr::NonNull;

/// A zeroed arena of `blocks` smallest blocks, leaked: an arena must outlive
/// every handle to it.
pub(crate) fn test_arena(blocks: usize) -> Arena {
    let layout = core::alloc::Layout::from_size_align(blocks * MIN_BLOCK, MIN_BLOCK);
    let layout = layout.expect("a small power-of-two alignment");
    // SAFETY: the layout is not empty, and the memory is never freed.
    let base = unsafe { alloc::alloc::alloc_zeroed(layout) };
    let base = NonNull::new(base).expect("the host has memory");
    // SAFETY: allocated for good, and reached only through the arena.
    unsafe { Arena::new(base, layout.size()) }
}
