//! The monitor's poll for a guest's answer.
//!
//! A guest that was awake when it was notified is likely to answer at once. A monitor
//! that slept by then would have to be rung for, which costs the guest an exit. What
//! the network brings is not polled for: it wakes the monitor, and to block gives the
//! core to a peer on this host. But where the monitor waits for an answer that takes
//! longer than a moment, it gives way to that peer, and takes what it brings. To somebody
//! who computes it would give a time slice, milliseconds. For a while after that it keeps
//! its core while it polls, and then blocks: the answer that wakes it gives it the core at
//! once.

use super::policy::WakePolicy;
use arca_shared::client::adaptive_poll::AdaptivePoll;
use arca_shared::client::poll_yield::YieldRest;
use arca_shared::notify::ReadySet;
use std::thread;
use std::time::{Duration, Instant};

/// Polls for a guest's answer, and skips the epoll while answers come.
#[derive(Debug)]
pub(crate) struct BusyPoll {
    policy: WakePolicy,
    /// The longest poll, in nanoseconds.
    limit: u64,
    adaptive: AdaptivePoll,
    /// The next turn begins without the epoll: its events are already there, or a
    /// guest's answer goes first.
    pub(crate) skip_epoll: bool,
    /// Answers that were found so far.
    hits: u32,
    /// When it does not give way.
    rest: YieldRest,
    /// From when on time is counted.
    epoch: Instant,
}

impl BusyPoll {
    /// A poll by this policy. On a single core the guest cannot answer while the
    /// monitor polls: then there is none.
    pub(crate) fn new(policy: WakePolicy) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let limit = match cores {
            1 => Duration::ZERO,
            _ => policy.busy_poll,
        };
        Self {
            policy,
            limit: nanos(limit),
            adaptive: AdaptivePoll::new(),
            skip_epoll: false,
            hits: 0,
            rest: YieldRest::new(),
            epoch: Instant::now(),
        }
    }

    /// Whether it pays to poll.
    pub(crate) fn pays(&self) -> bool {
        self.adaptive.poll_budget(self.limit) > 0
    }

    /// Polls until the guest has marked something, `network` says that there is
    /// something else to do, or for as long as the policy has it; whether there is
    /// something. After a mark the next turn skips the epoll, but for every so many.
    pub(crate) fn poll(&mut self, marks: &ReadySet<'_>, mut network: impl FnMut() -> bool) -> bool {
        let began = self.now();
        let ends = began.saturating_add(self.adaptive.poll_budget(self.limit));
        let gives_way = match self.rest.is_over(began) {
            true => began.saturating_add(nanos(self.policy.keep_core)),
            false => ends,
        };
        loop {
            if self.look(marks) {
                self.adaptive.record_hit();
                return self.answered();
            }
            let now = self.now();
            if now >= ends {
                self.adaptive.record_miss();
                return false;
            }
            if now >= gives_way {
                thread::yield_now();
                let brought = !marks.any() && network();
                self.rest.record(now, self.now());
                if brought {
                    self.skip_epoll = true;
                    return true;
                }
            }
        }
    }

    /// Nanoseconds since the epoch.
    fn now(&self) -> u64 {
        nanos(self.epoch.elapsed())
    }

    /// Looks for a mark a few times.
    fn look(&self, marks: &ReadySet<'_>) -> bool {
        (0..self.policy.polls_per_clock_read).any(|_| {
            let any = marks.any();
            if !any {
                std::hint::spin_loop();
            }
            any
        })
    }

    /// Takes note of an answer.
    fn answered(&mut self) -> bool {
        let max = self.policy.max_turns_without_epoll;
        self.skip_epoll = !self.hits.is_multiple_of(max);
        self.hits = self.hits.wrapping_add(1);
        true
    }

    /// Takes note of a sleep that an answer has ended, and that no poll preceded.
    pub(crate) fn slept_for_answer(&mut self, slept: Duration) {
        self.adaptive.record_sleep(nanos(slept), self.limit);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arca_shared::notify::Slot;
    use std::sync::atomic::AtomicU64;

    /// A poll that has paid off, of a monitor that has cores enough.
    fn poll(limit: Duration) -> BusyPoll {
        let mut poll = BusyPoll::new(WakePolicy::new(limit));
        poll.limit = nanos(limit);
        poll.slept_for_answer(Duration::ZERO);
        poll
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn the_network_has_its_turn_after_so_many_answers() {
        let (summary, leaf) = ([AtomicU64::new(0)], [AtomicU64::new(0)]);
        let marks = ReadySet::new(&summary, &leaf);
        let mut poll = poll(LONG);
        marks.mark(Slot(3));
        let max = poll.policy.max_turns_without_epoll;
        for turn in 0..3 * max {
            assert!(poll.poll(&marks, || unreachable!("a mark goes first")));
            assert_eq!(poll.skip_epoll, turn % max != 0, "turn {turn}");
        }
    }

    #[test]
    fn what_the_network_brings_ends_a_poll_and_is_taken_by_the_next_turn() {
        let (summary, leaf) = ([AtomicU64::new(0)], [AtomicU64::new(0)]);
        let marks = ReadySet::new(&summary, &leaf);
        let mut asked = 0;
        loop {
            let mut poll = poll(LONG);
            let brought = || {
                asked += 1;
                asked >= 3
            };
            if poll.poll(&marks, brought) {
                assert!(asked >= 3 && poll.skip_epoll && poll.pays());
                break;
            }
            // A machine that is busy otherwise ended it.
        }
    }

    #[test]
    fn a_poll_does_not_give_way_soon_after_that_has_given_a_time_slice_away() {
        let (summary, leaf) = ([AtomicU64::new(0)], [AtomicU64::new(0)]);
        let marks = ReadySet::new(&summary, &leaf);
        let slice = Duration::from_micros(501);
        loop {
            let mut poll = poll(Duration::from_micros(400));
            let mut asked = 0;
            let computes = || {
                asked += 1;
                let began = Instant::now();
                while began.elapsed() < slice {}
                false
            };
            assert!(!poll.poll(&marks, computes));
            // A machine that is busy otherwise may have ended it before.
            if asked > 0 {
                assert!(!poll.rest.is_over(0), "a rest has begun");
                break;
            }
        }
        let mut poll = poll(Duration::from_millis(1));
        poll.rest.record(0, nanos(LONG));
        assert!(poll.pays());
        assert!(!poll.poll(&marks, || unreachable!("it keeps its core")));
        assert!(!poll.pays(), "it has polled, and missed");
    }

    #[test]
    fn polls_that_miss_are_given_up_and_tried_again_when_an_answer_was_quick() {
        let (summary, leaf) = ([AtomicU64::new(0)], [AtomicU64::new(0)]);
        let marks = ReadySet::new(&summary, &leaf);
        let mut poll = poll(Duration::from_nanos(1));
        assert!(poll.pays());
        assert!(!poll.poll(&marks, || false) && !poll.pays());
        poll.slept_for_answer(Duration::from_secs(1));
        assert!(!poll.pays());
        for _ in 0..100 {
            poll.slept_for_answer(Duration::ZERO);
        }
        assert!(poll.pays());
    }
}
