//! Polling mode: the peer may be one that knows only the draft, and neither marks nor
//! rings. Everything is checked at each tick, until the first doorbell or hello.

use super::policy::WakePolicy;
use std::time::Duration;

/// Whether a session is in polling mode, and how long its ticks are.
#[derive(Debug)]
pub(crate) struct PollingMode {
    policy: WakePolicy,
    active: bool,
    tick: Duration,
}

impl PollingMode {
    pub(crate) fn new(policy: WakePolicy) -> Self {
        Self {
            policy,
            active: true,
            tick: policy.tick_min,
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        self.active
    }

    /// Leaves polling mode for good; whether the session was in it.
    pub(crate) fn end(&mut self) -> bool {
        std::mem::take(&mut self.active)
    }

    /// The longest sleep until the next tick; `None` out of polling mode.
    pub(crate) fn tick(&self) -> Option<Duration> {
        self.active.then_some(self.tick)
    }

    /// Takes note of a turn: while nothing moves, each tick is twice the one before.
    pub(crate) fn ticked(&mut self, moved: bool) {
        self.tick = match moved {
            true => self.policy.tick_min,
            false => (self.tick * 2).min(self.policy.tick_max),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_backs_off_and_a_busy_one_does_not() {
        let policy = WakePolicy::new(Duration::ZERO);
        let mut mode = PollingMode::new(policy);
        assert_eq!(mode.tick(), Some(policy.tick_min));
        mode.ticked(false);
        assert_eq!(mode.tick(), Some(2 * policy.tick_min));
        for _ in 0..64 {
            mode.ticked(false);
        }
        assert_eq!(mode.tick(), Some(policy.tick_max));
        mode.ticked(true);
        assert_eq!(mode.tick(), Some(policy.tick_min));
        assert!(mode.end() && !mode.end());
        assert_eq!(mode.tick(), None);
    }
}
