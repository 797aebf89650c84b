//! How long a task runs before it waits again.
//!
//! A run is measured by the clock, less the exits that wake somebody: the first task of a
//! crowd rings for all of them. It may hold more that is not the task's: its vCPU had lost
//! its core, or waited for a lock of one that had. So what is expected is the least of
//! late. It doubles with each run that takes longer: a task that has come to compute is
//! known after a few.

use core::sync::atomic::{AtomicU32, Ordering};

/// How long one task is expected to run, in ticks of the time-stamp counter; `u32::MAX`
/// is not known, or longer.
pub(crate) struct RunLength(AtomicU32);

impl RunLength {
    /// Of a task that has not run yet.
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(u32::MAX))
    }

    /// Forgets all: it is another task's from now on.
    pub(crate) fn reset(&self) {
        self.0.store(u32::MAX, Ordering::Relaxed);
    }

    /// How long the task is expected to run now; [`u64::MAX`] if it has not run yet.
    pub(crate) fn expected(&self) -> u64 {
        // Relaxed, here and below: an estimate, which only the vCPU that runs the task
        // changes, and the queue orders those one after the other.
        match self.0.load(Ordering::Relaxed) {
            u32::MAX => u64::MAX,
            ticks => ticks.into(),
        }
    }

    /// Takes note of a run.
    pub(crate) fn note(&self, ticks: u64) {
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
        let known = self.0.load(Ordering::Relaxed);
        let most = known.saturating_mul(2).saturating_add(1);
        self.0.store(ticks.min(most), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(runs: &[u64]) -> u64 {
        let length = RunLength::new();
        for &ticks in runs {
            length.note(ticks);
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
    fn another_task_is_not_known() {
        let length = RunLength::new();
        length.note(5);
        length.reset();
        assert_eq!(length.expected(), u64::MAX);
        length.note(7);
        assert_eq!(length.expected(), 7);
    }
}
