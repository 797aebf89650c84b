//! The set of pipes in which something happened.

use crate::memory::{MIN_BLOCK, ShmOffset};
use crate::sync::{AtomicU64, Ordering};

/// Bits in a word.
pub(super) const BITS: usize = 64;

/// Number of a pipe in the ready sets: its offset in the arena divided by the
/// smallest block, so that both sides know it without being told.
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
    pub(super) summary: &'a [AtomicU64],
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

    /// Whether that slot's mark stands, as of now.
    #[must_use]
    pub fn is_marked(&self, Slot(slot): Slot) -> bool {
        let (word, bit) = (slot as usize / BITS, 1 << (slot as usize % BITS));
        // Relaxed: nothing is read on the strength of it. A wake may be given up: whoever
        // has taken the mark looks once more before it sleeps.
        let leaf = self.leaf.get(word);
        leaf.is_some_and(|leaf| leaf.load(Ordering::Relaxed) & bit != 0)
    }

    /// The lowest slot whose mark stands, as of now.
    #[must_use]
    pub fn first(&self) -> Option<Slot> {
        let mut words = self.summary.iter().enumerate();
        // Relaxed, here and below: as in `is_marked`.
        words.find_map(|(index, summary)| {
            bits(summary.load(Ordering::Relaxed)).find_map(|word| {
                let word = index * BITS + word;
                let bit = bits(self.leaf.get(word)?.load(Ordering::Relaxed)).next()?;
                Some(Slot((word * BITS + bit) as u32))
            })
        })
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
