//! The regions of data pipes: how large each is, and when a freed one is used
//! again.

use crate::sizing::PipeSizes;
use arca_shared::buddy::BuddyAllocator;
use arca_shared::pipe::RingSize;
use arca_shared::region::PipeRegion;
use std::collections::VecDeque;

/// Hands out the regions of data pipes and takes them back.
pub(crate) struct Regions {
    allocator: BuddyAllocator,
    sizes: PipeSizes,
    /// Most bytes that data pipes may take.
    limit: u64,
    /// Bytes that they take now.
    used: u64,
    /// Pipes there are now.
    count: u64,
    /// Freed regions of a session without a hello, oldest first. A draft peer
    /// looks at a region's flags again after it has set its last one: the region
    /// rests here until others have run out.
    quarantine: VecDeque<PipeRegion>,
}

impl Regions {
    pub(crate) fn new(allocator: BuddyAllocator, sizes: PipeSizes, share_percent: u8) -> Self {
        let limit = allocator.capacity() as u64 * u64::from(share_percent.min(100)) / 100;
        Self {
            allocator,
            sizes,
            limit,
            used: 0,
            count: 0,
            quarantine: VecDeque::new(),
        }
    }

    pub(crate) fn allocator(&self) -> &BuddyAllocator {
        &self.allocator
    }

    /// Pipes allocated now.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// A zeroed region for a pipe; `None` if the arena, or the share of it that
    /// data pipes may take, is used up.
    pub(crate) fn allocate(&mut self) -> Option<PipeRegion> {
        loop {
            if let Some(region) = self.allocate_some_size() {
                self.used += bytes(&region);
                self.count += 1;
                return Some(region);
            }
            // Dropped: back to the allocator.
            self.quarantine.pop_front()?;
        }
    }

    fn allocate_some_size(&self) -> Option<PipeRegion> {
        let mut size = self.sizes.next(self.used, self.limit);
        loop {
            if self.used + size <= self.limit
                && let Ok(ring_size) = RingSize::for_region(size)
                && let Ok(region) = PipeRegion::allocate(&self.allocator, ring_size)
            {
                return Some(region);
            }
            size = self.sizes.smaller(size)?;
        }
    }

    /// Takes back a region that was never named to the guest.
    pub(crate) fn give_back(&mut self, mut region: PipeRegion) {
        region.set_touched(0, 0);
        self.forget(&region);
    }

    /// Takes back a region after use. `rest`: the peer is one that may still
    /// look at it.
    pub(crate) fn free(&mut self, region: PipeRegion, rest: bool) {
        self.forget(&region);
        if rest {
            self.quarantine.push_back(region);
        }
    }

    /// Lets every resting region go: the peer said hello, so it does not look
    /// at a region again.
    pub(crate) fn end_quarantine(&mut self) {
        self.quarantine.clear();
    }

    fn forget(&mut self, region: &PipeRegion) {
        self.used -= bytes(region);
        self.count -= 1;
    }
}

/// Bytes that a region takes in the arena.
fn bytes(region: &PipeRegion) -> u64 {
    RingSize::new(region.place().ring_size).map_or(0, RingSize::required_size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test_arena;

    fn regions(arena: usize) -> Regions {
        let sizes = PipeSizes {
            largest: 8192,
            smallest: 8192,
        };
        Regions::new(BuddyAllocator::new(test_arena(arena)), sizes, 100)
    }

    fn offset(region: &PipeRegion) -> u64 {
        region.place().shm_offset
    }

    #[test]
    fn resting_regions_are_reused_oldest_first_and_last() {
        let mut regions = regions(4 * 8192);
        let live: Vec<_> = (0..3).filter_map(|_| regions.allocate()).collect();
        let freed: Vec<u64> = live.iter().map(offset).collect();
        for region in live {
            regions.free(region, true);
        }
        assert_eq!(regions.count(), 0);
        let fresh = regions.allocate().expect("the fourth was never used");
        assert!(!freed.contains(&offset(&fresh)));
        let again: Vec<_> = (0..3).filter_map(|_| regions.allocate()).collect();
        assert_eq!(again.iter().map(offset).collect::<Vec<_>>(), freed);
        assert!(regions.allocate().is_none());
    }

    #[test]
    fn after_a_hello_the_last_freed_is_first() {
        let mut regions = regions(4 * 8192);
        let kept = regions.allocate().expect("room");
        let freed = regions.allocate().expect("room");
        let place = offset(&freed);
        regions.free(freed, false);
        let next = regions.allocate().expect("room");
        assert_eq!(offset(&next), place);
        regions.give_back(next);
        regions.give_back(kept);
        assert_eq!(regions.allocator().used(), 0);
    }

    #[test]
    fn the_share_is_kept() {
        let allocator = BuddyAllocator::new(test_arena(100 * 4096));
        let mut regions = Regions::new(
            allocator,
            PipeSizes {
                largest: 8192,
                smallest: 4096,
            },
            50,
        );
        let mut live = Vec::new();
        while let Some(region) = regions.allocate() {
            live.push(region);
        }
        let used: u64 = live.iter().map(bytes).sum();
        assert_eq!(used, 50 * 4096);
    }
}
