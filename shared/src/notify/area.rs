//! The notification area: where ready sets, sleep flags and counters lie.

use super::ready_set::BITS;
use super::{ReadySet, Sleeper, SleeperState};
use crate::memory::{Arena, ArenaError, MIN_BLOCK, ShmOffset};
use crate::protocol::layout::MAX_VCPUS;
use crate::sync::{AtomicU64, Ordering};
use core::ptr::NonNull;

/// Bytes between what different sides write: a cache line.
const LINE: usize = 64;
/// Bytes before the ready sets.
const SETS_OFFSET: usize = LINE * (1 + MAX_VCPUS);

/// What the guest counts about its notifications, in each vCPU's line. Only that
/// vCPU writes its line; the monitor reads it for reports, and decides nothing by
/// it.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum Counter {
    /// Doorbells rung.
    Doorbells = 1,
    /// Doorbells not rung: the monitor was awake, or one was deferred, and rung for
    /// several marks.
    Suppressed = 2,
    /// Parks.
    Parks = 3,
}

/// One side's view of the notification area, whose place the VMM names at boot:
///
/// ```text
///   offset        what
///   0             monitor: sleep flag u32
///   64 × (1 + n)  vCPU n: sleep flag u32, then counters of the guest (u64 each):
///                 doorbells rung at 8, suppressed at 16, parks at 24
///   1,088         ready set toward the monitor: summary words, then leaf words
///   ...           ready set toward the guest: the same
/// ```
#[derive(Clone, Debug)]
pub struct NotifyArea {
    arena: Arena,
    base: NonNull<u8>,
    offset: ShmOffset,
    leaf_words: usize,
    summary_words: usize,
}

// SAFETY: everything behind the address is atomic.
unsafe impl Send for NotifyArea {}
// SAFETY: as above.
unsafe impl Sync for NotifyArea {}

impl NotifyArea {
    /// Words of leaf and summary for an arena of that many bytes.
    fn words(arena_len: usize) -> (usize, usize) {
        let leaf = arena_len.div_ceil(MIN_BLOCK).div_ceil(BITS);
        // Whole cache lines, so that the two directions share none.
        let leaf = leaf.next_multiple_of(LINE / 8);
        let summary = leaf.div_ceil(BITS).next_multiple_of(LINE / 8);
        (leaf, summary)
    }

    /// Bytes that the area takes for an arena of that many bytes.
    #[must_use]
    pub fn required_size(arena_len: usize) -> usize {
        let (leaf, summary) = Self::words(arena_len);
        SETS_OFFSET + 2 * 8 * (leaf + summary)
    }

    /// Joins the area at `offset`, which must start as all zeros.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] if it does not lie in the arena, aligned to a cache line.
    pub fn join(arena: &Arena, offset: ShmOffset) -> Result<Self, ArenaError> {
        let size = Self::required_size(arena.len());
        let base = arena.from_offset(offset, size as u64, LINE as u64)?;
        let (leaf_words, summary_words) = Self::words(arena.len());
        Ok(Self {
            arena: arena.clone(),
            base,
            offset,
            leaf_words,
            summary_words,
        })
    }

    /// Where the area is in the arena.
    #[must_use]
    pub fn offset(&self) -> ShmOffset {
        self.offset
    }

    /// The arena that the area lies in.
    #[must_use]
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    fn set(&self, index: usize) -> ReadySet<'_> {
        let start = SETS_OFFSET + index * 8 * (self.leaf_words + self.summary_words);
        // SAFETY: `join` checked that required_size bytes, both sets included,
        // are in the arena at `base`, aligned to a cache line; words are atomic.
        unsafe {
            let summary = self.base.add(start).cast::<AtomicU64>();
            let leaf = summary.add(self.summary_words);
            ReadySet::new(
                NonNull::slice_from_raw_parts(summary, self.summary_words).as_ref(),
                NonNull::slice_from_raw_parts(leaf, self.leaf_words).as_ref(),
            )
        }
    }

    /// Slots in which Arca did something.
    #[must_use]
    pub fn to_monitor(&self) -> ReadySet<'_> {
        self.set(0)
    }

    /// Slots in which the monitor did something.
    #[must_use]
    pub fn to_guest(&self) -> ReadySet<'_> {
        self.set(1)
    }

    fn line(&self, index: usize) -> NonNull<u8> {
        debug_assert!(index <= MAX_VCPUS);
        // SAFETY: the lines of the monitor and of MAX_VCPUS vCPUs lie before
        // SETS_OFFSET, inside the area that `join` checked.
        unsafe { self.base.add(LINE * index.min(MAX_VCPUS)) }
    }

    /// The monitor's sleep flag.
    #[must_use]
    pub fn monitor(&self) -> Sleeper<'_> {
        // SAFETY: inside the area, aligned, atomic.
        Sleeper::new(unsafe { self.line(0).cast().as_ref() })
    }

    /// The sleep flag of a vCPU; an index past the last is taken as the last.
    #[must_use]
    pub fn vcpu(&self, index: usize) -> Sleeper<'_> {
        // SAFETY: inside the area, aligned, atomic.
        Sleeper::new(unsafe { self.line(1 + index.min(MAX_VCPUS - 1)).cast().as_ref() })
    }

    /// What each of the first `count` vCPUs does: [`Sleeper::states`].
    pub fn vcpu_states(&self, count: usize) -> impl Iterator<Item = SleeperState> + '_ {
        Sleeper::states((0..count).map(|vcpu| self.vcpu(vcpu)))
    }

    fn counter(&self, vcpu: usize, counter: Counter) -> &AtomicU64 {
        let line = self.line(1 + vcpu.min(MAX_VCPUS - 1));
        // SAFETY: inside the vCPU's line, aligned to 8, atomic.
        unsafe { line.cast::<AtomicU64>().add(counter as usize).as_ref() }
    }

    /// Adds one to a counter of the vCPU that this code runs on.
    pub fn count(&self, vcpu: usize, counter: Counter) {
        // Relaxed, and no read-modify-write: the line has one writer, and a
        // count orders nothing.
        let counter = self.counter(vcpu, counter);
        let value = counter.load(Ordering::Relaxed);
        counter.store(value.wrapping_add(1), Ordering::Relaxed);
    }

    /// The sum of a counter over all vCPUs, as the guest says it.
    #[must_use]
    pub fn counted(&self, counter: Counter) -> u64 {
        (0..MAX_VCPUS).fold(0u64, |sum, vcpu| {
            let value = self.counter(vcpu, counter).load(Ordering::Relaxed);
            sum.wrapping_add(value)
        })
    }
}
