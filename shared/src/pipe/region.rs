//! The memory of one pipe, owned.

use super::{PipePlace, RingSize};
use crate::memory::ShmOffset;
use crate::memory::{BuddyAllocator, MIN_BLOCK};
use crate::ring::RingHeader;
use allocator_api2::alloc::{AllocError, Layout};
use allocator_api2::boxed::Box;
use core::mem::MaybeUninit;
use core::ops::Range;
use core::ptr::NonNull;

/// A pipe's region of the arena; dropping it returns the region to the
/// allocator.
///
/// It starts as a boxed slice and becomes a raw address at once, because the
/// guest writes there: no Rust reference into the region is ever formed.
#[derive(Debug)]
pub struct PipeRegion {
    address: NonNull<u8>,
    allocator: BuddyAllocator,
    offset: ShmOffset,
    ring_size: RingSize,
    /// How far into each ring's data anything was put, in bytes: what has to be
    /// cleared before the region is used again.
    touched: (u64, u64),
}

// SAFETY: the region is an owned address range; nothing is read or written
// through it here.
unsafe impl Send for PipeRegion {}

impl PipeRegion {
    /// Allocates a zeroed region for a pipe.
    ///
    /// # Errors
    ///
    /// [`AllocError`] if the arena has no block of that size left.
    pub fn allocate(allocator: &BuddyAllocator, ring_size: RingSize) -> Result<Self, AllocError> {
        let size = usize::try_from(ring_size.required_size()).map_err(|_| AllocError)?;
        // Box aligns for its element type: u64, so that the headers are aligned.
        let boxed: Box<[MaybeUninit<u64>], BuddyAllocator> =
            Box::try_new_zeroed_slice_in(size / 8, allocator.clone())?;
        let (raw, allocator) = Box::into_raw_with_allocator(boxed);
        let address = NonNull::new(raw.cast::<u8>()).ok_or(AllocError)?;
        let offset = allocator
            .arena()
            .to_offset(address)
            .map_err(|_| AllocError)?;
        // The headers are cleared whatever the last user of this memory said to
        // have touched: its pipe may have been of another size, and a guest may
        // have written where it had no business to.
        for header in [0, size / 2] {
            // SAFETY: inside the block just allocated, which has two headers and
            // two rings of the same size, and is nobody else's.
            unsafe { address.add(header).write_bytes(0, RingHeader::SIZE) };
        }
        Ok(Self {
            address,
            allocator,
            offset,
            ring_size,
            touched: (ring_size.get(), ring_size.get()),
        })
    }

    /// Where the pipe is, as the wire says it.
    #[must_use]
    pub fn place(&self) -> PipePlace {
        PipePlace {
            shm_offset: self.offset.0,
            ring_size: self.ring_size.get(),
        }
    }

    /// Where ring A and ring B are, with their headers, as offsets in the arena.
    #[must_use]
    pub fn rings(&self) -> [Range<u64>; 2] {
        let (start, size) = (self.offset.0, self.ring_size.required_size());
        [start..start + size / 2, start + size / 2..start + size]
    }

    /// Says how many bytes ever went through ring A and ring B, so that only
    /// what they touched is cleared before the region is used again.
    pub fn set_touched(&mut self, a: u64, b: u64) {
        self.touched = (a.min(self.ring_size.get()), b.min(self.ring_size.get()));
    }

    /// Bytes of the region that were touched, headers included, in whole blocks:
    /// what it costs the host.
    #[must_use]
    pub fn touched(&self) -> u64 {
        let size = self.ring_size.required_size();
        let blocks = self.touched_ranges().map(|range| {
            let end = range.end.next_multiple_of(MIN_BLOCK);
            end - range.start / MIN_BLOCK * MIN_BLOCK
        });
        (blocks.iter().sum::<usize>() as u64).min(size.next_multiple_of(MIN_BLOCK as u64))
    }

    /// The header of each ring, and what was touched behind it.
    fn touched_ranges(&self) -> [Range<usize>; 2] {
        let half = self.ring_size.required_size() as usize / 2;
        let (a, b) = self.touched;
        [
            0..RingHeader::SIZE + a as usize,
            half..half + RingHeader::SIZE + b as usize,
        ]
    }
}

impl Drop for PipeRegion {
    fn drop(&mut self) {
        let size = self.ring_size.required_size() as usize;
        let Ok(layout) = Layout::from_size_align(size, align_of::<u64>()) else {
            return;
        };
        let touched = self.touched_ranges();
        // SAFETY: allocated in `allocate` from the same allocator as a slice of
        // u64 of this size, and owned by this value alone.
        unsafe { self.allocator.release(self.address, layout, &touched) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::testing::test_arena;

    #[test]
    fn headers_are_clear_whatever_was_left_behind() {
        let allocator = BuddyAllocator::new(test_arena(8));
        let size = |region| RingSize::for_region(region).expect("even");
        let mut large = PipeRegion::allocate(&allocator, size(32 << 10)).expect("fits");
        // The whole region is scribbled over, and nothing of it admitted.
        // SAFETY: inside the region, which nobody else uses.
        unsafe { large.address.write_bytes(0xFF, 32 << 10) };
        large.set_touched(0, 0);
        drop(large);
        for _ in 0..2 {
            let small = PipeRegion::allocate(&allocator, size(8 << 10)).expect("fits");
            for at in [0, 4 << 10] {
                let mut header = [1u8; RingHeader::SIZE];
                // SAFETY: as above.
                unsafe {
                    small
                        .address
                        .add(at)
                        .copy_to_nonoverlapping(NonNull::from(&mut header).cast(), header.len());
                }
                assert_eq!(header, [0; RingHeader::SIZE]);
            }
            core::mem::forget(small);
        }
    }

    #[test]
    fn a_region_is_a_pipes_and_comes_back_when_dropped() {
        let allocator = BuddyAllocator::new(test_arena(8));
        let size = RingSize::for_region(8 << 10).expect("even");
        let first = PipeRegion::allocate(&allocator, size).expect("fits");
        let second = PipeRegion::allocate(&allocator, size).expect("fits");
        let place = |shm_offset| PipePlace {
            shm_offset,
            ring_size: 4072,
        };
        assert_eq!((first.place(), second.place()), (place(0), place(8192)));
        assert_eq!(allocator.used(), 16 << 10);
        assert_eq!(second.rings(), [8192..12_288, 12_288..16_384]);
        drop((first, second));
        assert_eq!(allocator.used(), 0);
    }

    /// The blocks that are cleared when a region of two rings of four blocks less
    /// a header, scribbled over, is dropped as touched that far and used again.
    fn cleared(a: u64, b: u64) -> alloc::vec::Vec<usize> {
        let allocator = BuddyAllocator::new(test_arena(8));
        let size = RingSize::for_region(32 << 10).expect("even");
        let mut region = PipeRegion::allocate(&allocator, size).expect("fits");
        // SAFETY: inside the region, which nobody else uses.
        unsafe { region.address.write_bytes(0xFF, 32 << 10) };
        region.set_touched(a, b);
        drop(region);
        let again = PipeRegion::allocate(&allocator, size).expect("fits");
        let is_cleared = |block: &usize| {
            // Behind the header, which is cleared in any case.
            // SAFETY: inside the region, which nobody else uses.
            let byte = unsafe { again.address.add(block * 4096 + 100).read() };
            byte == 0
        };
        (0..8).filter(is_cleared).collect()
    }

    #[test]
    fn what_a_pipe_touched_is_cleared_before_the_next() {
        // A header is touched by whoever makes the pipe.
        assert_eq!(cleared(0, 0), [0, 4]);
        assert_eq!(cleared(4072, 0), [0, 4]);
        assert_eq!(cleared(4073, 0), [0, 1, 4]);
        assert_eq!(cleared(0, 4072), [0, 4]);
        assert_eq!(cleared(0, 4073), [0, 4, 5]);
        assert_eq!(cleared(u64::MAX, 0), [0, 1, 2, 3, 4]);
        assert_eq!(cleared(0, u64::MAX), [0, 4, 5, 6, 7]);
    }

    #[test]
    fn what_was_touched_is_said_in_whole_blocks() {
        let allocator = BuddyAllocator::new(test_arena(16));
        for (region, touched, bytes) in [
            // Both headers lie in one block.
            (4 << 10, (0, 0), 4 << 10),
            (8 << 10, (0, 0), 8 << 10),
            (32 << 10, (0, 0), 8 << 10),
            (32 << 10, (4072, 0), 8 << 10),
            (32 << 10, (4073, 0), 12 << 10),
            (32 << 10, (0, 4073), 12 << 10),
            (32 << 10, (u64::MAX, 0), 20 << 10),
            (32 << 10, (u64::MAX, u64::MAX), 32 << 10),
        ] {
            let size = RingSize::for_region(region).expect("even");
            let mut region = PipeRegion::allocate(&allocator, size).expect("fits");
            assert_eq!(region.touched(), size.required_size());
            region.set_touched(touched.0, touched.1);
            assert_eq!(region.touched(), bytes, "{touched:?}");
        }
    }
}
