//! How long something runs before it waits again: a task, or the future that a sleeper is
//! blocked on.
//!
//! A run is measured by the clock, less what of it is known to be none of its own (of a
//! task, the exits that wake somebody: the first one of a crowd rings for all of them). It
//! may hold more of that kind: the vCPU had lost its core, or waited for a lock of one that
//! had. So what is expected is the least of late. It doubles with each run that takes
//! longer: one that has come to compute is known after a few.

use core::sync::atomic::{AtomicU32, Ordering};

/// What those that wait behind a run must have to wait for another sleeper to be woken
/// for them, in nanoseconds: a few times what a wake takes of the one that wakes, and of a
/// core that others may need.
pub const WORTH_A_WAKE: u64 = 200_000;

/// How long one of them is expected to run, in whatever unit its runs are noted;
/// `u32::MAX` is not known, or longer.
#[derive(Debug)]
pub struct RunLength(AtomicU32);

impl Default for RunLength {
    fn default() -> Self {
        Self::new()
    }
}

impl RunLength {
    /// Of one that has not run yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU32::new(u32::MAX))
    }

    /// Forgets all: it is another's from now on.
    pub fn reset(&self) {
        self.0.store(u32::MAX, Ordering::Relaxed);
    }

    /// How long it is expected to run now; [`u64::MAX`] if it has not run yet.
    #[must_use]
    pub fn expected(&self) -> u64 {
        // Relaxed, here and below: an estimate, which only the sleeper that runs it
        // changes, and whatever hands it to another orders those one after the other.
        match self.0.load(Ordering::Relaxed) {
            u32::MAX => u64::MAX,
            length => length.into(),
        }
    }

    /// Takes note of a run.
    pub fn note(&self, length: u64) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let known = self.0.load(Ordering::Relaxed);
        let most = known.saturating_mul(2).saturating_add(1);
        self.0.store(length.min(most), Ordering::Relaxed);
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
    fn another_is_not_known() {
        let length = RunLength::new();
        length.note(5);
        length.reset();
        assert_eq!(length.expected(), u64::MAX);
        length.note(7);
        assert_eq!(length.expected(), 7);
    }
}
