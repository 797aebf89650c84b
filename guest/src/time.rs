//! Time: a monotonic clock and the wall clock, both from the time-stamp
//! counter.
//!
//! Reading the time takes some twenty nanoseconds and never leaves the guest: the
//! VMM says at boot how fast the counter runs and what it and the wall clock
//! showed. The processors' counters run together, so that a time which one vCPU
//! hands to another is not later than what that one reads next.

use crate::boot;
use core::arch::x86_64::{_mm_lfence, _rdtsc};
use core::ops::{Add, AddAssign, Sub};
pub use core::time::Duration;

/// Bits after the binary point of the factor from ticks to nanoseconds: as many
/// as leave the factor's numerator in 64 bits. At 2.6 GHz the clock is then
/// right to four parts in 10^12.
const FACTOR_BITS: u32 = 40;

/// Nanoseconds for `ticks` of a counter of `khz`.
fn ticks_to_ns(ticks: u64, khz: u64) -> u64 {
    let factor = (1_000_000_u64 << FACTOR_BITS) / khz.max(1);
    ((u128::from(ticks) * u128::from(factor)) >> FACTOR_BITS) as u64
}

/// The time-stamp counter, read after every load that comes before in the program.
/// The processor may read the counter alone earlier: then a time that was loaded
/// just before, from another vCPU, could be later than this one.
fn counter() -> u64 {
    // SAFETY: the fence is part of SSE2, which every x86-64 processor has.
    unsafe { _mm_lfence() };
    // SAFETY: reading the time-stamp counter has no precondition; the VMM leaves
    // it enabled in ring 3.
    unsafe { _rdtsc() }
}

/// Nanoseconds for so many ticks of this machine's counter.
pub(crate) fn ticks_as_ns(ticks: u64) -> u64 {
    ticks_to_ns(ticks, boot::info().tsc_khz)
}

/// Nanoseconds since boot.
#[must_use]
pub fn since_boot_ns() -> u64 {
    let info = boot::info();
    let now = counter();
    // Another core's counter may be read a little behind the one that booted.
    ticks_as_ns(now.saturating_sub(info.tsc_boot))
}

/// A point in time on a clock that never goes back, like `std`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    ns: u64,
}

impl Instant {
    /// Now.
    #[must_use]
    pub fn now() -> Instant {
        Instant {
            ns: since_boot_ns(),
        }
    }

    /// Nanoseconds from boot to this point: what deadlines are given in.
    #[must_use]
    pub const fn as_boot_ns(self) -> u64 {
        self.ns
    }

    /// How long ago this point was; zero if it is still to come.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Instant::now().duration_since(self)
    }

    /// Time from `earlier` to this point; zero if it comes later.
    #[must_use]
    pub fn duration_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.ns.saturating_sub(earlier.ns))
    }
}

/// A sum beyond the clock's range, 584 years, stops there: a deadline that never
/// comes.
impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Instant {
            ns: self.ns.saturating_add(ns),
        }
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.duration_since(earlier)
    }
}

/// The wall clock: time since the Unix epoch, as the host's clock stood at boot
/// and has run since. A correction of the host's clock is not seen.
#[must_use]
pub fn since_unix_epoch() -> Duration {
    Duration::from_nanos(boot::info().unix_boot_ns.saturating_add(since_boot_ns()))
}

#[cfg(test)]
mod tests {
    use super::ticks_to_ns;

    #[test]
    fn ticks_of_usual_frequencies() {
        assert_eq!(ticks_to_ns(0, 2_600_000), 0);
        assert!(ticks_to_ns(2_600_000_000, 2_600_000).abs_diff(1_000_000_000) <= 1);
        // A year at an odd frequency: off by less than a millisecond.
        let khz = 2_599_998;
        let year = 365 * 86_400;
        let ns = ticks_to_ns(khz * 1000 * year, khz);
        assert!(ns.abs_diff(year * 1_000_000_000) < 1_000_000);
    }

    #[test]
    fn a_frequency_of_zero_does_no_harm() {
        let _ = ticks_to_ns(1, 0);
    }
}
