//! Notification: how each side learns that the other did something, without
//! spinning and without being woken for nothing.
//!
//! The notification area is a place in the arena that the VMM tells the guest at
//! boot. It holds
//!
//! - for each direction a [`ReadySet`]: one bit for each slot, a slot being an
//!   offset in the arena divided by the smallest block, so that a pipe's slot
//!   follows from its place;
//! - for each sleeper (the monitor, each vCPU) a [`Sleeper`] word, by which it
//!   says that it is going to sleep.
//!
//! ```text
//!   offset        what
//!   0             monitor: state u32
//!   64 × (1 + n)  vCPU n: state u32, then counters of the guest (u64 each):
//!                 doorbells rung at 8, suppressed at 16, parks at 24
//!   1,088         ready set toward the monitor: summary words, then leaf words
//!   ...           ready set toward the guest: the same
//! ```
//!
//! # The handshake
//!
//! ```text
//!   sender                             receiver
//!   publish the ring change            raise the sleeper flag
//!   mark leaf, then summary            fence (SeqCst)
//!   fence (SeqCst)                     look at the summary once more
//!   sleeper flag up? take it down,     empty: sleep
//!     and wake whoever it was          else: take the flag down, go on
//! ```
//!
//! One of the two fences is first. If it is the sender's, the receiver's look
//! finds the mark; if it is the receiver's, the sender finds the flag up. Only
//! the sender whose swap took the flag down wakes, so a sleep costs one wake.
//!
//! Where several may sleep, the sender wakes one of them, whichever it finds first.
//! That one is then answerable for all that was published: before it goes on with
//! what it waited for, it looks whether anything is left, and hands the wake on.
//!
//! A receiver clears summary, then leaf, and then looks at the rings: a mark that
//! comes after the clearing sets the bits again, one that came before is acted on.

pub mod request;

use crate::memory::MIN_BLOCK;
use crate::memory::{Arena, ArenaError, ShmOffset};
use crate::protocol::layout::MAX_VCPUS;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use core::ptr::NonNull;

/// Bytes between what different sides write: a cache line.
const LINE: usize = 64;
/// Bytes before the ready sets.
const SETS_OFFSET: usize = LINE * (1 + MAX_VCPUS);
/// Bits in a word.
const BITS: usize = 64;

/// Number of a pipe in the ready sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

impl From<ShmOffset> for Slot {
    fn from(offset: ShmOffset) -> Self {
        Self((offset.0 / MIN_BLOCK as u64) as u32)
    }
}

/// A set of slots in which something happened: a bit for each in the leaf words,
/// and a bit for each leaf word in the summary.
#[derive(Clone, Copy, Debug)]
pub struct ReadySet<'a> {
    summary: &'a [AtomicU64],
    leaf: &'a [AtomicU64],
}

impl<'a> ReadySet<'a> {
    /// A set over these words; the summary has a bit for each leaf word.
    #[must_use]
    pub fn new(summary: &'a [AtomicU64], leaf: &'a [AtomicU64]) -> Self {
        Self { summary, leaf }
    }

    /// Marks a slot. What was published before is seen by whoever takes the
    /// mark. A slot out of range is ignored.
    pub fn mark(&self, Slot(slot): Slot) {
        let (word, bit) = (slot as usize / BITS, 1 << (slot as usize % BITS));
        let Some(leaf) = self.leaf.get(word) else {
            return;
        };
        // AcqRel: Release pairs with the Acquire of the swap in `take`, and
        // carries the ring change. If the bit is set already, whoever set it
        // marks the summary; the swap that takes the bit reads our store too,
        // because it is in that bit's release sequence.
        if leaf.fetch_or(bit, Ordering::AcqRel) & bit == 0
            && let Some(summary) = self.summary.get(word / BITS)
        {
            // Release: pairs with the Acquire of the swap in `take`; the leaf
            // is marked before the summary says so.
            summary.fetch_or(1 << (word % BITS), Ordering::Release);
        }
    }

    /// Whether anything is marked, as of now.
    #[must_use]
    pub fn any(&self) -> bool {
        // Relaxed: a mark found here is taken with `take`; one missed is
        // excluded by the fences of the handshake.
        let mut words = self.summary.iter();
        words.any(|word| word.load(Ordering::Relaxed) != 0)
    }

    /// Takes every mark and calls `each` for its slot. Bits that stand for no
    /// leaf word are dropped.
    pub fn take(&self, mut each: impl FnMut(Slot)) {
        for (index, summary) in self.summary.iter().enumerate() {
            if summary.load(Ordering::Relaxed) == 0 {
                continue;
            }
            // Acquire: pairs with the Release in `mark`.
            for word in bits(summary.swap(0, Ordering::Acquire)) {
                let word = index * BITS + word;
                let Some(leaf) = self.leaf.get(word) else {
                    break;
                };
                // Acquire: pairs with the Release in `mark`.
                for bit in bits(leaf.swap(0, Ordering::Acquire)) {
                    each(Slot((word * BITS + bit) as u32));
                }
            }
        }
    }
}

/// The positions of the bits that are set, lowest first.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit)
    })
}

/// The word by which a sleeper says that it is going to sleep.
#[derive(Clone, Copy, Debug)]
pub struct Sleeper<'a>(&'a AtomicU32);

/// Values of a sleeper's word. Any other value counts as awake.
const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;

impl<'a> Sleeper<'a> {
    /// The sleeper of this word.
    #[must_use]
    pub fn new(word: &'a AtomicU32) -> Self {
        Self(word)
    }

    /// Raises the flag. The sleeper looks once more at all it sleeps for before
    /// it sleeps.
    pub fn prepare_sleep(&self) {
        // A swap, not a store: it comes after every sender's swap that it does
        // not undo. Release: pairs with the Acquire in `is_asleep`; what the sleeper
        // wrote about its sleep before is seen with the flag. The fence pairs with
        // the one in `is_asleep`.
        self.0.swap(ASLEEP, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Takes the own flag down: awake again.
    pub fn finish_sleep(&self) {
        // Relaxed: a sender that still sees the flag up wakes us for nothing. The
        // fence pairs with the one in `is_asleep`: either the sender sees that we are
        // awake and looks for another, or what it published is there when the
        // sleeper looks whether to hand its wake on.
        self.0.store(AWAKE, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// For a sender, after it published and marked: whether it is the one that
    /// has to wake the sleeper.
    #[must_use]
    pub fn claim_wake(&self) -> bool {
        // Relaxed: nothing is read on the strength of the flag.
        self.is_asleep() && self.0.swap(AWAKE, Ordering::Relaxed) == ASLEEP
    }

    /// For a sender, after it published and marked: whether the sleeper sleeps. One
    /// that does has to be woken ([`Sleeper::claim_wake`]), now or later; one that does
    /// not finds the mark by itself.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        // The fence pairs with the one in `prepare_sleep`: either we see the flag, or
        // the sleeper sees what we published.
        fence(Ordering::SeqCst);
        // Acquire: pairs with the Release in `prepare_sleep`.
        self.0.load(Ordering::Acquire) == ASLEEP
    }
}

/// What the guest counts about its notifications, one line for each vCPU. Only
/// that vCPU writes its line; the monitor reads it to report, and believes
/// nothing.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum Counter {
    /// Doorbells rung.
    Doorbells = 1,
    /// Doorbells not rung because the monitor was awake.
    Suppressed = 2,
    /// Parks.
    Parks = 3,
}

/// One side's view of the notification area.
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

#[cfg(all(test, not(loom)))]
mod tests;
