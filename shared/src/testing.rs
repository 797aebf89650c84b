//! What this crate's tests run on: memory, a machine, and a peer.

pub(crate) mod hal;
pub(crate) mod peer;

use crate::memory::{Arena, MIN_BLOCK};
use core::ptr::NonNull;

/// A zeroed arena of `blocks` smallest blocks, leaked: an arena must outlive
/// every handle to it.
pub(crate) fn test_arena(blocks: usize) -> Arena {
    let size = blocks * MIN_BLOCK;
    // A block more, to align by hand: memory of a word's alignment comes zeroed
    // from the system, untouched, where an allocation aligned to a page is
    // written to and so takes all its pages.
    let layout = core::alloc::Layout::array::<u64>((size + MIN_BLOCK) / 8);
    let layout = layout.expect("a small size");
    // SAFETY: the layout is not empty, and the memory is never freed.
    let memory = unsafe { alloc::alloc::alloc_zeroed(layout) };
    let memory = NonNull::new(memory).expect("the host has memory");
    // SAFETY: less than a block from the start of a block more than `size`.
    let base = unsafe { memory.add(memory.align_offset(MIN_BLOCK)) };
    // SAFETY: `size` bytes are left, allocated for good, and reached only
    // through the arena.
    unsafe { Arena::new(base, size) }
}
