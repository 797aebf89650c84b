//! The monitor's poll for a guest's answer.
//!
//! A guest that was awake when it was notified is likely to answer at once. A monitor
//! that slept by then would have to be rung for, which costs the guest an exit. What
//! the network brings is not polled for: it wakes the monitor, and to block gives the
//! core to a peer on this host.

use super::policy::WakePolicy;
use arca_shared::notify::ReadySet;
use std::time::Instant;

/// Polls for a guest's answer, and skips the epoll while answers come.
#[derive(Debug)]
pub(crate) struct BusyPoll {
    policy: WakePolicy,
    /// The next turn begins without the epoll: its events are already there, or a
    /// guest's answer goes first.
    pub(crate) skip_epoll: bool,
    /// Answers that were found so far.
    hits: u32,
}

impl BusyPoll {
    pub(crate) fn new(policy: WakePolicy) -> Self {
        Self {
            policy,
            skip_epoll: false,
            hits: 0,
        }
    }

    /// Polls until the guest has marked something, or for as long as the policy has
    /// it; whether there is a mark. After one the next turn skips the epoll, but for
    /// every so many.
    pub(crate) fn poll(&mut self, marks: &ReadySet<'_>) -> bool {
        let began = Instant::now();
        loop {
            for _ in 0..self.policy.polls_per_clock_read {
                if marks.any() {
                    let max = self.policy.max_turns_without_epoll;
                    self.skip_epoll = !self.hits.is_multiple_of(max);
                    self.hits = self.hits.wrapping_add(1);
                    return true;
                }
                std::hint::spin_loop();
            }
            if began.elapsed() >= self.policy.busy_poll {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arca_shared::notify::Slot;
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    #[test]
    fn the_network_has_its_turn_after_so_many_answers() {
        let (summary, leaf) = ([AtomicU64::new(0)], [AtomicU64::new(0)]);
        let marks = ReadySet::new(&summary, &leaf);
        let policy = WakePolicy::new(Duration::ZERO);
        let mut poll = BusyPoll::new(policy);
        assert!(!poll.poll(&marks) && !poll.skip_epoll);
        marks.mark(Slot(3));
        let max = policy.max_turns_without_epoll;
        for turn in 0..3 * max {
            assert!(poll.poll(&marks));
            assert_eq!(poll.skip_epoll, turn % max != 0, "turn {turn}");
        }
    }
}
