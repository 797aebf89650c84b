//! The time-stamp counter's frequency, measured.
//!
//! A process is not told it. Two readings of the counter and the system's clock give
//! it, the better the further they are apart: the set-up of a machine lies between.

use std::arch::x86_64::_rdtsc;
use std::thread;
use std::time::{Duration, Instant};

/// Readings of which the quickest counts.
const TRIES: usize = 16;
/// Least time between two readings. One is off by some 20 ns at most.
const LEAST: Duration = Duration::from_millis(1);

/// A reading of the processor's time-stamp counter and of the system's clock at the
/// same moment.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    ticks: u64,
    at: Instant,
}

impl Reading {
    /// Reads both.
    #[must_use]
    pub fn now() -> Self {
        let mut best: Option<(u64, Self)> = None;
        for _ in 0..TRIES {
            let before = counter();
            let at = Instant::now();
            let after = counter();
            let took = after.wrapping_sub(before);
            if best.is_none_or(|(least, _)| took < least) {
                let ticks = before.wrapping_add(took / 2);
                best = Some((took, Self { ticks, at }));
            }
        }
        best.map_or_else(
            || Self {
                ticks: counter(),
                at: Instant::now(),
            },
            |(_, reading)| reading,
        )
    }

    /// The frequency in kHz, from this reading to one that is taken now; `None` if
    /// the counter stands still.
    #[must_use]
    pub fn frequency(self) -> Option<u64> {
        // Rarely: a machine is not made in less.
        while self.at.elapsed() < LEAST {
            thread::yield_now();
        }
        let now = Self::now();
        let ticks = u128::from(now.ticks.wrapping_sub(self.ticks));
        let nanoseconds = (now.at - self.at).as_nanos().max(1);
        let khz = u64::try_from(ticks * 1_000_000 / nanoseconds).ok()?;
        (khz > 0).then_some(khz)
    }
}

fn counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and it touches nothing.
    unsafe { _rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_agree() {
        let start = Reading::now();
        let first = start.frequency().expect("it counts");
        let second = start.frequency().expect("it counts");
        assert!(first.abs_diff(second) < first / 1000, "{first} {second}");
    }
}
