//! The BuddyAllocator that carves up the arena.
//!
//! Block sizes are powers of two, from [`MIN_BLOCK`] up. A block that is freed
//! merges with its buddy (the other half of the block both came from) for as
//! long as that one is free too. All bookkeeping is outside the arena, in this
//! side's own memory: nothing that the guest writes can mislead the allocator.
//!
//! A free list is last in, first out, so that a region freed a moment ago, whose
//! memory is still in the caches and backed by pages, is the next one handed out.
//!
//! The allocator remembers which blocks may hold something other than zeros.
//! [`Allocator::allocate_zeroed`] clears only those: a fresh arena is all zeros
//! already, and clearing it would touch, and so back with memory, every page.

use crate::memory::{Arena, ShmOffset};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use allocator_api2::alloc::{AllocError, Allocator, Layout};
use core::ops::Range;
use core::ptr::NonNull;
use spin::Mutex;

/// Smallest block, in bytes: one page. A pipe's slot in the ready sets is its
/// offset divided by this.
pub const MIN_BLOCK: usize = 4096;

/// No block: the end of a free list.
const NONE: u32 = u32::MAX;

/// A handle to the allocator of one arena; clones share it.
#[derive(Clone)]
pub struct BuddyAllocator {
    arena: Arena,
    blocks: Arc<Mutex<Blocks>>,
}

/// The bookkeeping, in units of smallest blocks.
struct Blocks {
    /// First free block of each order, or [`NONE`].
    heads: Vec<u32>,
    /// Links of the free lists, by first smallest block.
    next: Vec<u32>,
    prev: Vec<u32>,
    /// One more than the order of the free block that starts here, else 0: a
    /// zeroed vector says "not free" without being touched.
    free_order: Vec<u8>,
    /// One bit for each smallest block: it may hold something else than zeros.
    dirty: Vec<u64>,
    /// Blocks there are.
    count: u32,
    /// Blocks allocated now, and the most there ever were.
    used: u32,
    peak: u32,
}

impl BuddyAllocator {
    /// An allocator over a whole arena, whose memory must still be all zeros.
    /// What is left over behind the last smallest block is not used.
    #[must_use]
    pub fn new(arena: Arena) -> Self {
        let count = u32::try_from(arena.len() / MIN_BLOCK).unwrap_or(NONE - 1);
        Self {
            arena,
            blocks: Arc::new(Mutex::new(Blocks::new(count))),
        }
    }

    /// The arena that this allocator carves up.
    #[must_use]
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Bytes allocated now, rounded up to blocks.
    #[must_use]
    pub fn used(&self) -> usize {
        self.blocks.lock().used as usize * MIN_BLOCK
    }

    /// The most bytes that were ever allocated at once.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.blocks.lock().peak as usize * MIN_BLOCK
    }

    /// Bytes that the allocator has to give, allocated or not.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.blocks.lock().count as usize * MIN_BLOCK
    }

    /// Bytes of the largest block that is free.
    #[must_use]
    pub fn largest_free(&self) -> usize {
        let blocks = self.blocks.lock();
        let order = (0..blocks.heads.len()).rfind(|&order| blocks.heads[order] != NONE);
        order.map_or(0, |order| MIN_BLOCK << order)
    }

    /// Frees an allocation of which only `touched` (byte ranges from its start)
    /// may hold something else than zeros.
    ///
    /// # Safety
    ///
    /// As for [`Allocator::deallocate`]: `address` was allocated here with
    /// `layout` and is not used again. A wrong `touched` is no danger: it hands
    /// stale bytes to the next user of the region.
    pub unsafe fn release(&self, address: NonNull<u8>, layout: Layout, touched: &[Range<usize>]) {
        let Some((first, order)) = self.place_of(address, layout) else {
            return;
        };
        let size = MIN_BLOCK << order;
        let mut blocks = self.blocks.lock();
        for range in touched {
            let start = range.start.min(size) / MIN_BLOCK;
            let end = range.end.min(size).div_ceil(MIN_BLOCK);
            blocks.set_dirty(first as usize + start..first as usize + end);
        }
        blocks.free(first, order);
    }

    /// First smallest block and order of an allocation of ours.
    fn place_of(&self, address: NonNull<u8>, layout: Layout) -> Option<(u32, usize)> {
        let offset = self.arena.to_offset(address).ok()?;
        let order = order_of(layout)?;
        let first = u32::try_from(offset.0 / MIN_BLOCK as u64).ok()?;
        Some((first, order))
    }
}

/// The order whose blocks hold `layout`: its size rounded up to a power of two
/// of smallest blocks. A block is aligned to its size as seen from the arena's
/// base, which is aligned to a page; a larger alignment is refused.
fn order_of(layout: Layout) -> Option<usize> {
    if layout.align() > MIN_BLOCK {
        return None;
    }
    let blocks = layout.size().max(1).div_ceil(MIN_BLOCK);
    Some(blocks.checked_next_power_of_two()?.trailing_zeros() as usize)
}

impl Blocks {
    fn new(count: u32) -> Self {
        let size = count as usize;
        let orders = usize::try_from(u32::BITS - count.leading_zeros()).unwrap_or(0);
        let mut blocks = Self {
            heads: vec![NONE; orders],
            // Zeroed vectors are not touched until they are used; the links'
            // content matters only for blocks on a free list.
            next: vec![0; size],
            prev: vec![0; size],
            free_order: vec![0; size],
            dirty: vec![0; size.div_ceil(64)],
            count,
            used: 0,
            peak: 0,
        };
        // The largest aligned blocks that fit, from the front.
        let mut first = 0;
        while first < count {
            let fit = (count - first).ilog2();
            let aligned = if first == 0 {
                fit
            } else {
                first.trailing_zeros()
            };
            let order = fit.min(aligned);
            blocks.push(first, order as usize);
            first += 1 << order;
        }
        blocks
    }

    fn push(&mut self, first: u32, order: usize) {
        let head = self.heads[order];
        self.next[first as usize] = head;
        self.prev[first as usize] = NONE;
        if head != NONE {
            self.prev[head as usize] = first;
        }
        self.heads[order] = first;
        self.free_order[first as usize] = order as u8 + 1;
    }

    fn remove(&mut self, first: u32, order: usize) {
        let (prev, next) = (self.prev[first as usize], self.next[first as usize]);
        if prev == NONE {
            self.heads[order] = next;
        } else {
            self.next[prev as usize] = next;
        }
        if next != NONE {
            self.prev[next as usize] = prev;
        }
        self.free_order[first as usize] = 0;
    }

    fn is_free(&self, first: u32, order: usize) -> bool {
        self.free_order
            .get(first as usize)
            .is_some_and(|&stored| stored == order as u8 + 1)
    }

    fn allocate(&mut self, order: usize) -> Option<u32> {
        let found = (order..self.heads.len()).find(|&o| self.heads[o] != NONE)?;
        let first = self.heads[found];
        self.remove(first, found);
        // Give back the upper half until the block is as small as asked for.
        for half in (order..found).rev() {
            self.push(first + (1 << half), half);
        }
        self.used += 1 << order;
        self.peak = self.peak.max(self.used);
        Some(first)
    }

    fn free(&mut self, mut first: u32, mut order: usize) {
        self.used -= 1 << order;
        while order + 1 < self.heads.len() {
            let buddy = first ^ (1 << order);
            if !self.is_free(buddy, order) {
                break;
            }
            self.remove(buddy, order);
            first = first.min(buddy);
            order += 1;
        }
        self.push(first, order);
    }

    fn set_dirty(&mut self, range: Range<usize>) {
        for block in range {
            self.dirty[block / 64] |= 1 << (block % 64);
        }
    }

    /// Whether a block is dirty; clears the mark.
    fn take_dirty(&mut self, block: usize) -> bool {
        let bit = 1 << (block % 64);
        let dirty = self.dirty[block / 64] & bit != 0;
        self.dirty[block / 64] &= !bit;
        dirty
    }
}

// SAFETY: blocks handed out are disjoint (a block leaves the free lists when it
// is allocated and returns when it is freed), lie inside the arena, are aligned
// to MIN_BLOCK, and stay valid until freed: clones share one bookkeeping, and
// the arena keeps its mapping alive.
unsafe impl Allocator for BuddyAllocator {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let order = order_of(layout).ok_or(AllocError)?;
        let mut blocks = self.blocks.lock();
        let first = blocks.allocate(order).ok_or(AllocError)?;
        // Whatever is there, the caller may now write it.
        blocks.set_dirty(first as usize..first as usize + (1 << order));
        drop(blocks);
        self.slice(first, order)
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let order = order_of(layout).ok_or(AllocError)?;
        let mut blocks = self.blocks.lock();
        let first = blocks.allocate(order).ok_or(AllocError)?;
        let slice = self.slice(first, order)?;
        for block in 0..1usize << order {
            if blocks.take_dirty(first as usize + block) {
                // SAFETY: the block was just allocated: inside the arena, and
                // nobody else's.
                unsafe {
                    let address = slice.cast::<u8>().add(block * MIN_BLOCK);
                    address.write_bytes(0, MIN_BLOCK);
                }
            }
        }
        Ok(slice)
    }

    unsafe fn deallocate(&self, address: NonNull<u8>, layout: Layout) {
        // SAFETY: the same contract; everything may have been written.
        unsafe { self.release(address, layout, core::slice::from_ref(&(0..usize::MAX))) }
    }
}

impl BuddyAllocator {
    fn slice(&self, first: u32, order: usize) -> Result<NonNull<[u8]>, AllocError> {
        let offset = ShmOffset(u64::from(first) * MIN_BLOCK as u64);
        let size = MIN_BLOCK << order;
        let address = self
            .arena
            .from_offset(offset, size as u64, 1)
            .map_err(|_| AllocError)?;
        Ok(NonNull::slice_from_raw_parts(address, size))
    }
}

impl core::fmt::Debug for BuddyAllocator {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (used, capacity) = (self.used(), self.capacity());
        write!(f, "BuddyAllocator({used} of {capacity} bytes used)")
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
