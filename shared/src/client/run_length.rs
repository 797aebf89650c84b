//! How long something runs before it waits again: a task, or the future that a sleeper is
//! blocked on.
//!
//! A run is measured by the clock, less what of it is known to be none of its own (of a
//! task, the exits that wake somebody: the first one of a crowd rings for all of them). It
//! may hold more of that kind: the vCPU had lost its core, or waited for a lock of one that
//! had. So what is expected is the least of late. It doubles with each run that takes
//! longer: one that has come to compute is known after a few. Where that some runs are
//! long matters more than that most are short, the longest of late but one counts: a single
//! one had lost its core, perhaps. An eighth of it is forgotten with each run.

use core::sync::atomic::{AtomicU32, Ordering};

/// What those that wait behind a run must have to wait for another sleeper to be woken
/// for them, in nanoseconds: a few times what a wake takes of the one that wakes, and of a
/// core that others may need.
pub const WORTH_A_WAKE: u64 = 200_000;

/// How long one of them runs, in whatever unit its runs are noted; `u32::MAX` is not
/// known, or longer.
#[derive(Debug)]
pub struct RunLength {
    expected: AtomicU32,
    longest: AtomicU32,
    longest_but_one: AtomicU32,
}

impl Default for RunLength {
    fn default() -> Self {
        Self::new()
    }
}

impl RunLength {
    /// Of one that has not run yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            expected: AtomicU32::new(u32::MAX),
            longest: AtomicU32::new(u32::MAX),
            longest_but_one: AtomicU32::new(u32::MAX),
        }
    }

    /// Forgets all: it is another's from now on.
    pub fn reset(&self) {
        self.expected.store(u32::MAX, Ordering::Relaxed);
        self.longest.store(u32::MAX, Ordering::Relaxed);
        self.longest_but_one.store(u32::MAX, Ordering::Relaxed);
    }

    /// How long it is expected to run now; [`u64::MAX`] if it has not run yet.
    #[must_use]
    pub fn expected(&self) -> u64 {
        // Relaxed, here and below: an estimate, which only the sleeper that runs it
        // changes, and whatever hands it to another orders those one after the other.
        known(self.expected.load(Ordering::Relaxed))
    }

    /// How long it has run of late at most, but for one time; [`u64::MAX`] if it has not
    /// run yet.
    #[must_use]
    pub fn longest_but_one(&self) -> u64 {
        known(self.longest_but_one.load(Ordering::Relaxed))
    }

    /// Takes note of a run.
    pub fn note(&self, length: u64) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let expected = self.expected.load(Ordering::Relaxed);
        let most = expected.saturating_mul(2).saturating_add(1);
        self.expected.store(length.min(most), Ordering::Relaxed);
        // It has run now.
        let length = length.min(u32::MAX - 1);
        let longest = left_of(&self.longest).unwrap_or(length);
        self.longest.store(longest.max(length), Ordering::Relaxed);
        let second = length.min(longest);
        let but_one = left_of(&self.longest_but_one).unwrap_or(second);
        let but_one = but_one.max(second);
        self.longest_but_one.store(but_one, Ordering::Relaxed);
    }
}

/// What is not forgotten of a length by the next run, if there was one before.
fn left_of(length: &AtomicU32) -> Option<u32> {
    match length.load(Ordering::Relaxed) {
        u32::MAX => None,
        length => Some(length - length / 8),
    }
}

/// A length that may not be known.
fn known(length: u32) -> u64 {
    match length {
        u32::MAX => u64::MAX,
        length => length.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(runs: &[u64]) -> u64 {
        let length = RunLength::new();
        for &run in runs {
            length.note(run);
        }
        length.expected()
    }

    #[test]
    fn the_first_run_is_all_that_is_known_after_it() {
        assert_eq!(after(&[]), u64::MAX);
        assert_eq!(after(&[0]), 0);
        assert_eq!(after(&[800]), 800);
        assert_eq!(after(&[u64::MAX]), u64::MAX, "longer than can be said");
        assert_eq!(after(&[u64::MAX, 800]), 800);
    }

    #[test]
    fn a_long_run_is_believed_by_and_by_and_a_short_one_at_once() {
        assert_eq!(after(&[8, 900]), 17);
        assert_eq!(after(&[8, 900, 8]), 8);
        assert_eq!(after(&[8, 900, 900, 900]), 71);
        assert_eq!(after(&[8, 900, 900, 900, 900, 900, 900, 900]), 900);
        assert_eq!(after(&[0, 900, 900]), 3);
    }

    #[test]
    fn the_longest_runs_are_forgotten_by_and_by_and_a_single_one_does_not_count() {
        let length = RunLength::new();
        assert_eq!(length.longest_but_one(), u64::MAX, "it has not run yet");
        let runs = [
            (10, 10),
            (800, 9),
            (10, 10),
            (900, 613),
            (10, 537),
            (640, 640),
        ];
        for (run, longest) in runs {
            length.note(run);
            assert_eq!(length.longest_but_one(), longest, "after {run}");
        }
        (0..100).for_each(|_| length.note(10));
        assert_eq!(length.longest_but_one(), 9);
        length.note(900);
        assert!(length.longest_but_one() <= 10);
        (0..2).for_each(|_| length.note(u64::MAX));
        let longest = length.longest_but_one();
        assert!(longest > 1 << 31 && longest < u64::MAX, "it has run");
    }

    #[test]
    fn another_is_not_known() {
        let length = RunLength::new();
        length.note(5);
        length.reset();
        assert_eq!(length.expected(), u64::MAX);
        assert_eq!(length.longest_but_one(), u64::MAX);
        length.note(7);
        assert_eq!((length.expected(), length.longest_but_one()), (7, 7));
    }
}
