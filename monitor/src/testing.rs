//! Memory for this crate's unit tests.

use arca_shared::memory::Arena;
use std::alloc::{Layout, alloc_zeroed};
use std::ptr::NonNull;

/// A zeroed arena of `size` bytes, leaked: an arena must outlive every handle
/// to it.
pub(crate) fn test_arena(size: usize) -> Arena {
    let layout = Layout::from_size_align(size, 4096).expect("a power-of-two alignment");
    // SAFETY: the layout is not empty, and the memory is never freed.
    let base = NonNull::new(unsafe { alloc_zeroed(layout) }).expect("the host has memory");
    // SAFETY: allocated for good, and reached only through the arena.
    unsafe { Arena::new(base, size) }
}
