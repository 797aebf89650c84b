//! The guest's doorbells, as far as one may be deferred.
//!
//! Amid a burst the guest may mark something and ring a moment later, for what other
//! tasks have as well ([`DOORBELL_BURST`]). It does so where it expects to be done with
//! them soon. Where it is mistaken, the monitor finds the mark by itself.

use super::policy::WakePolicy;
use arca_shared::notify::DOORBELL_BURST;
use std::time::{Duration, Instant};

/// For how long a burst lasts here.
const BURST: Duration = Duration::from_nanos(2 * DOORBELL_BURST);

/// When the guest rang.
#[derive(Debug)]
pub(crate) struct Doorbells {
    policy: WakePolicy,
    last: Option<Instant>,
    before_last: Option<Instant>,
}

impl Doorbells {
    pub(crate) fn new(policy: WakePolicy) -> Self {
        Self {
            policy,
            last: None,
            before_last: None,
        }
    }

    /// Takes note of so many that were heard, in one event perhaps.
    pub(crate) fn heard(&mut self, count: u64, now: Instant) {
        for _ in 0..count.min(2) {
            self.before_last = self.last.replace(now);
        }
    }

    /// The longest sleep that begins at `now`, before the sleep flag is set: the guest
    /// looks at its own clock after that, and rang before this one heard it. `None` if no
    /// doorbell can be deferred any more, were the guest's clock half as fast.
    pub(crate) fn longest_sleep(&self, now: Instant) -> Option<Duration> {
        let since = now.saturating_duration_since(self.before_last?);
        (since < BURST).then_some(self.policy.look_again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monitor_looks_again_while_the_last_two_are_a_burst() {
        let policy = WakePolicy::new(Duration::ZERO);
        let mut doorbells = Doorbells::new(policy);
        let began = Instant::now();
        let at = |nanos| began + Duration::from_nanos(nanos);
        assert_eq!(doorbells.longest_sleep(at(0)), None);
        doorbells.heard(1, at(0));
        assert_eq!(doorbells.longest_sleep(at(0)), None, "one is no burst");
        doorbells.heard(1, at(10));
        let look_again = Some(policy.look_again);
        let burst = 2 * DOORBELL_BURST;
        assert_eq!(doorbells.longest_sleep(at(10)), look_again);
        assert_eq!(doorbells.longest_sleep(at(burst - 1)), look_again);
        assert_eq!(doorbells.longest_sleep(at(burst)), None);
        doorbells.heard(1, at(burst));
        assert_eq!(doorbells.longest_sleep(at(burst + 9)), look_again);
        assert_eq!(doorbells.longest_sleep(at(burst + 10)), None);
    }

    #[test]
    fn an_event_may_stand_for_several_and_for_none() {
        let now = Instant::now();
        for (count, burst) in [(0, false), (1, false), (2, true), (u64::MAX, true)] {
            let mut doorbells = Doorbells::new(WakePolicy::new(Duration::ZERO));
            doorbells.heard(count, now);
            assert_eq!(doorbells.longest_sleep(now).is_some(), burst, "{count}");
        }
    }
}
