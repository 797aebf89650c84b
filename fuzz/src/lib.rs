//! What the fuzz targets share: memory that plays the arena, and is gone with it,
//! and the operations of a session.

pub mod operation;

use arca_shared::memory::Arena;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Zeroed memory. It lies on the heap, where the address sanitizer watches its
/// edges.
pub struct Memory {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: an address; what is behind it is reached atomically, or by rings.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// So many bytes, aligned to a page.
    ///
    /// # Panics
    ///
    /// If the host has none.
    #[must_use]
    pub fn new(size: usize) -> Arc<Self> {
        let layout = Layout::from_size_align(size.max(8), 4096).expect("small");
        // SAFETY: the layout is not empty.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).expect("memory");
        Arc::new(Self { base, layout })
    }

    /// The memory as an arena, which keeps it.
    #[must_use]
    pub fn arena(self: &Arc<Self>) -> Arena {
        // SAFETY: valid for as long as its owner, which goes along; nothing refers
        // to it but atomics.
        unsafe { Arena::new(self.base, self.layout.size()) }.with_owner(self.clone())
    }

    /// What a guest does that writes where it likes: stores a word.
    pub fn poke(&self, word: usize, value: u64) {
        let index = word % (self.layout.size() / 8);
        // SAFETY: inside the memory, aligned, and an atomic.
        let word = unsafe { self.base.cast::<AtomicU64>().add(index).as_ref() };
        // Relaxed: a hostile value has no order.
        word.store(value, Ordering::Relaxed);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; the last arena is gone.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}

/// A value of the kind that breaks things: small, near `limit`, or anything.
#[must_use]
pub fn telling(kind: u8, value: u64, limit: u64) -> u64 {
    match kind % 4 {
        0 => value % 4,
        1 => limit.wrapping_add(value % 16).wrapping_sub(8),
        2 => value % limit.max(1),
        _ => value,
    }
}
