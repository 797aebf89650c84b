//! The guest's doorbells, as far as one may be deferred.
//!
//! Amid a burst the guest may mark something and ring a moment later, for what other
//! tasks have as well ([`DOORBELL_BURST`]). It does so where it expects to be done with
//! them soon. Where it is mistaken, the monitor finds the mark by itself.

use super::policy::WakePolicy;
use arca_shared::notify::DOORBELL_BURST;
use std::time::{Duration, Instant};

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

    /// Takes note of one that was heard.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.before_last = self.last.replace(now);
    }

    /// The longest sleep that begins at `now`, before the sleep flag is set: the guest
    /// looks at its own clock after that, and rang before this one heard it. `None` if no
    /// doorbell can be deferred any more.
    pub(crate) fn longest_sleep(&self, now: Instant) -> Option<Duration> {
        let heard = self.before_last?;
        let burst = now.saturating_duration_since(heard) < Duration::from_nanos(DOORBELL_BURST);
        burst.then_some(self.policy.look_again)
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
        doorbells.heard(at(0));
        assert_eq!(doorbells.longest_sleep(at(0)), None, "one is no burst");
        doorbells.heard(at(10));
        let look_again = Some(policy.look_again);
        assert_eq!(doorbells.longest_sleep(at(10)), look_again);
        assert_eq!(doorbells.longest_sleep(at(DOORBELL_BURST - 1)), look_again);
        assert_eq!(doorbells.longest_sleep(at(DOORBELL_BURST)), None);
        doorbells.heard(at(DOORBELL_BURST));
        let end = DOORBELL_BURST + 10;
        assert_eq!(doorbells.longest_sleep(at(end - 1)), look_again);
        assert_eq!(doorbells.longest_sleep(at(end)), None);
    }
}
