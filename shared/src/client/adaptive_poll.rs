//! How long to look for work before sleeping for it.
//!
//! A sleep and its wake-up cost tens of microseconds, more than many waits last.
//! Looking instead costs a core, which others may need: a peer that cannot run
//! because we look is a peer we wait for in vain. So a sleeper looks only while
//! looking pays off, and when it does not, it sleeps at once, and tries again
//! after a while, the later the less it has paid off.

/// Whether and how long one sleeper looks. All times are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct AdaptivePoll {
    /// How long a look is at most; 0 is never to look.
    max: u64,
    /// What looks have earned; without any, the sleeper does not look.
    credit: u8,
    /// Short sleeps to let pass before looking is tried again.
    pause: u32,
    /// How many those will be the next time.
    penalty: u32,
}

/// What a look in vain costs, and a first try is lent; one that finds something
/// earns 1.
const LOOK: u8 = 4;
/// The most that is kept: so many looks in vain, times [`LOOK`], are forgiven.
const CREDIT_MAX: u8 = 16;
/// First and longest pause after looking has not paid off, in short sleeps.
const PENALTY_MIN: u32 = 8;
const PENALTY_MAX: u32 = 64;

impl AdaptivePoll {
    /// A sleeper that looks for at most `max` nanoseconds.
    #[must_use]
    pub const fn new(max: u64) -> Self {
        Self {
            max,
            credit: 0,
            pause: 0,
            penalty: PENALTY_MIN,
        }
    }

    /// How long to look now; 0 is not at all.
    #[must_use]
    pub const fn poll_budget(&self) -> u64 {
        match self.credit {
            0 => 0,
            _ => self.max,
        }
    }

    /// Takes note of a look that found something.
    pub fn record_hit(&mut self) {
        self.penalty = PENALTY_MIN;
        self.credit = (self.credit + 1).min(CREDIT_MAX);
    }

    /// Takes note of a look in vain.
    pub fn record_miss(&mut self) {
        self.credit = self.credit.saturating_sub(LOOK);
        if self.credit == 0 {
            self.pause = self.penalty;
            self.penalty = (self.penalty * 2).min(PENALTY_MAX);
        }
    }

    /// Takes note of a sleep of `slept` that no look preceded: had it been a
    /// look, it would have found something if it was short.
    pub fn record_sleep(&mut self, slept: u64) {
        if slept >= self.max {
            return;
        }
        match self.pause.checked_sub(1) {
            Some(left) => self.pause = left,
            None => self.credit = LOOK,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_sleep_starts_looking_and_success_keeps_it() {
        let mut poll = AdaptivePoll::new(100);
        assert_eq!(poll.poll_budget(), 0);
        poll.record_sleep(100);
        assert_eq!(poll.poll_budget(), 0);
        poll.record_sleep(99);
        assert_eq!(poll.poll_budget(), 100);
        for _ in 0..4 {
            poll.record_hit();
        }
        // Four successes forgive one look in vain.
        poll.record_miss();
        assert_eq!(poll.poll_budget(), 100);
        poll.record_miss();
        assert_eq!(poll.poll_budget(), 0);
    }

    #[test]
    fn looks_in_vain_are_tried_ever_more_seldom() {
        let mut poll = AdaptivePoll::new(100);
        let mut pauses = [0; 6];
        for pause in &mut pauses {
            while poll.poll_budget() == 0 {
                poll.record_sleep(5);
                *pause += 1;
            }
            poll.record_miss();
        }
        assert_eq!(pauses, [1, 9, 17, 33, 65, 65]);
    }

    #[test]
    fn who_never_looks_never_looks() {
        let mut poll = AdaptivePoll::new(0);
        poll.record_sleep(0);
        assert_eq!(poll.poll_budget(), 0);
    }
}
