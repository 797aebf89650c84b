//! The regions of data pipes: how large each is, and when a freed one is used
//! again.
//!
//! A peer written against the draft touches a pipe once more after it has set its
//! last flag in it: it stores reader_closed again, and checks whether all four are
//! set. Both follow the flag at once, unless the peer's thread is not run just
//! then. So a region that such a peer gives back rests for a second, and its flags
//! stay as they are. Two things end the rest of the oldest sooner:
//!
//! - Resting regions hold more than a sixteenth of what data pipes may take,
//!   counting what was touched in them: that is what they cost the host.
//! - A pipe is asked for, and no other room is left for one of the size that it is
//!   to have. So what rests makes no ring smaller.

use crate::connections::sizing::PipeSizes;
use arca_shared::memory::BuddyAllocator;
use arca_shared::pipe::PipeRegion;
use arca_shared::pipe::RingSize;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a region rests. A thread that does not run for longer than this
/// between two instructions is one that its host has stopped.
const REST: Duration = Duration::from_secs(1);
/// The part of what data pipes may take that resting regions may hold.
const RESTING_SHARE: u64 = 16;

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
    /// Freed regions of a session without a hello, oldest first.
    resting: VecDeque<Resting>,
    /// Bytes touched in them.
    resting_bytes: u64,
}

/// A freed region that its peer may still touch.
struct Resting {
    region: PipeRegion,
    since: Instant,
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
            resting: VecDeque::new(),
            resting_bytes: 0,
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
        self.allocate_at(Instant::now())
    }

    fn allocate_at(&mut self, now: Instant) -> Option<PipeRegion> {
        self.end_rests(now);
        let mut size = self.sizes.next(self.used, self.limit);
        loop {
            if let Some(region) = self.allocate_of(size) {
                self.used += bytes(&region);
                self.count += 1;
                return Some(region);
            }
            size = self.sizes.smaller(size)?;
        }
    }

    /// A region of `size` bytes, if need be in place of some that rest.
    fn allocate_of(&mut self, size: u64) -> Option<PipeRegion> {
        if self.used + size > self.limit {
            return None;
        }
        let ring_size = RingSize::for_region(size).ok()?;
        loop {
            if let Ok(region) = PipeRegion::allocate(&self.allocator, ring_size) {
                return Some(region);
            }
            // The oldest that is large enough; else the oldest, which may be one
            // half of what is.
            let large = |resting: &Resting| bytes(&resting.region) >= size;
            let index = self.resting.iter().position(large).unwrap_or(0);
            self.end_rest(index)?;
        }
    }

    /// Takes back a region that was never named to the guest.
    pub(crate) fn give_back(&mut self, mut region: PipeRegion) {
        region.set_touched(0, 0);
        self.forget(&region);
    }

    /// Takes back a region after use. `rest`: the peer is one that may still
    /// touch it.
    pub(crate) fn free(&mut self, region: PipeRegion, rest: bool) {
        self.forget(&region);
        if rest {
            self.rest(region, Instant::now());
        }
    }

    fn rest(&mut self, region: PipeRegion, since: Instant) {
        self.resting_bytes += region.touched();
        self.resting.push_back(Resting { region, since });
        self.end_rests(since);
    }

    /// Gives back what has rested for long enough, and the oldest of what is too
    /// much.
    fn end_rests(&mut self, now: Instant) {
        while let Some(oldest) = self.resting.front()
            && (now.saturating_duration_since(oldest.since) >= REST
                || self.resting_bytes > self.limit / RESTING_SHARE)
        {
            self.end_rest(0);
        }
    }

    /// Gives a resting region back; `None` if there is none.
    fn end_rest(&mut self, index: usize) -> Option<()> {
        let rested = self.resting.remove(index)?;
        self.resting_bytes -= rested.region.touched();
        Some(())
    }

    /// Lets every resting region go: the peer said hello, so it does not
    /// touch a region again.
    pub(crate) fn end_all_rests(&mut self) {
        self.resting.clear();
        self.resting_bytes = 0;
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
        // Room for four, in an arena of which a sixteenth is enough for all to rest.
        let allocator = BuddyAllocator::new(test_arena(1 << 20));
        let sizes = PipeSizes {
            largest: 256 << 10,
            smallest: 256 << 10,
        };
        let mut regions = Regions::new(allocator, sizes, 100);
        let now = Instant::now();
        let mut live: Vec<_> = (0..3).filter_map(|_| regions.allocate_at(now)).collect();
        let freed: Vec<u64> = live.iter().map(offset).collect();
        for mut region in live.drain(..) {
            region.set_touched(0, 0);
            regions.forget(&region);
            regions.rest(region, now);
        }
        assert_eq!(regions.count(), 0);
        let fresh = regions.allocate_at(now).expect("the fourth was never used");
        assert!(!freed.contains(&offset(&fresh)));
        let again: Vec<_> = (0..3).filter_map(|_| regions.allocate_at(now)).collect();
        assert_eq!(again.iter().map(offset).collect::<Vec<_>>(), freed);
        assert!(regions.allocate_at(now).is_none());
    }

    /// A region that was touched as said, and is given back at `since`.
    fn use_and_free(regions: &mut Regions, touched: u64, since: Instant) -> u64 {
        let mut region = regions.allocate_at(since).expect("room");
        let offset = offset(&region);
        region.set_touched(touched, 0);
        regions.forget(&region);
        regions.rest(region, since);
        offset
    }

    #[test]
    fn a_rest_ends_after_a_second() {
        let mut regions = regions(256 * 8192);
        let start = Instant::now();
        let first = use_and_free(&mut regions, 0, start);
        for millis in 1..8 {
            let now = start + Duration::from_millis(millis * 140);
            assert_ne!(use_and_free(&mut regions, 0, now), first, "after {millis}");
        }
        let now = start + REST;
        assert_eq!(use_and_free(&mut regions, 0, now), first);
    }

    #[test]
    fn what_rests_makes_no_ring_smaller() {
        // Of 64 KiB while little is used: four of them.
        let sizes = PipeSizes {
            largest: 1 << 20,
            smallest: 8192,
        };
        let allocator = BuddyAllocator::new(test_arena(2 << 20));
        let mut regions = Regions::new(allocator, sizes, 100);
        let now = Instant::now();
        for _ in 0..100 {
            let region = regions.allocate_at(now).expect("room");
            assert_eq!(bytes(&region), 64 << 10);
            regions.forget(&region);
            regions.rest(region, now);
        }
        // Halves of what is asked for make room together.
        regions.end_all_rests();
        let half = RingSize::for_region(32 << 10).expect("even");
        let all = std::iter::from_fn(|| PipeRegion::allocate(regions.allocator(), half).ok());
        let mut all: Vec<_> = all.collect();
        for mut region in all.drain(..4) {
            region.set_touched(0, 0);
            regions.rest(region, now);
        }
        let region = regions.allocate_at(now).expect("room");
        assert_eq!(bytes(&region), 64 << 10);
    }

    #[test]
    fn what_rests_is_a_small_share_of_the_arena() {
        let sizes = PipeSizes {
            largest: 64 << 10,
            smallest: 64 << 10,
        };
        let allocator = BuddyAllocator::new(test_arena(16 << 20));
        let mut regions = Regions::new(allocator, sizes, 100);
        let now = Instant::now();
        let places = |regions: &mut Regions, touched, count| {
            let places = (0..count).map(|_| use_and_free(regions, touched, now));
            places.collect::<std::collections::BTreeSet<u64>>().len()
        };
        // A half of each is touched: so many make a sixteenth, and one is in use.
        assert_eq!(places(&mut regions, 32 << 10, 100), 29);
        // Of those of which the headers are touched all rest.
        regions.end_all_rests();
        assert_eq!(places(&mut regions, 0, 100), 100);
        regions.end_all_rests();
        assert_eq!(regions.allocator().used(), 0);
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

    #[test]
    fn pipes_and_their_bytes_are_counted() {
        let mut regions = regions(64 * 8192);
        let live: Vec<_> = (0..3).filter_map(|_| regions.allocate()).collect();
        assert_eq!((regions.count(), regions.used), (3, 3 * 8192));
        for (index, region) in live.into_iter().enumerate() {
            match index {
                0 => regions.give_back(region),
                1 => regions.free(region, false),
                _ => regions.free(region, true),
            }
            let left = 2 - index as u64;
            assert_eq!((regions.count(), regions.used), (left, left * 8192));
        }
        assert_eq!(regions.resting.len(), 1, "only who may be looked at rests");
    }

    #[test]
    fn a_sixteenth_may_rest_and_no_byte_more() {
        let sizes = PipeSizes {
            largest: 64 << 10,
            smallest: 64 << 10,
        };
        let allocator = BuddyAllocator::new(test_arena(16 << 20));
        let mut regions = Regions::new(allocator, sizes, 100);
        let now = Instant::now();
        let mut live: Vec<_> = (0..18).filter_map(|_| regions.allocate_at(now)).collect();
        for (index, region) in live.drain(..).enumerate() {
            regions.rest(region, now);
            let resting = 16.min(index + 1);
            assert_eq!(regions.resting.len(), resting);
            assert_eq!(regions.resting_bytes, resting as u64 * (64 << 10));
        }
    }

    #[test]
    fn the_oldest_that_is_large_enough_ends_its_rest() {
        let mut regions = regions(4 * 8192);
        let now = Instant::now();
        let of = |regions: &Regions, size| {
            let size = RingSize::for_region(size).expect("even");
            PipeRegion::allocate(regions.allocator(), size).expect("room")
        };
        // All of the arena rests: small, large, and three small again.
        for size in [4096, 8192, 4096, 8192, 4096, 4096] {
            let mut region = of(&regions, size);
            region.set_touched(0, 0);
            regions.resting_bytes += region.touched();
            regions.resting.push_back(Resting { region, since: now });
        }
        let large = offset(&regions.resting[1].region);
        let region = regions.allocate_of(8192).expect("room");
        assert_eq!(offset(&region), large);
        assert_eq!(regions.resting.len(), 5);
    }
}
