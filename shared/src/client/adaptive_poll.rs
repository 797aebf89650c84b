//! How long to poll for work before sleeping for it.
//!
//! A sleep and its wake-up cost tens of microseconds, more than many waits last.
//! Polling costs a core, which others may need: a peer that cannot run because we
//! poll is a peer whose answer does not come. So a sleeper polls only while that
//! pays off. When it does not, the sleeper sleeps at once, and tries polling again
//! after a while, the later the less it has paid off.
//!
//! Where others compute, a poll is switched out now and then. That is no reason to stop:
//! in its time slices a poller is as quick as ever, and one that sleeps instead
//! pays for a wake-up each time.

/// Whether and how long one sleeper polls. All times are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct AdaptivePoll {
    /// What hits have earned; without any, the sleeper does not poll.
    credit: u8,
    /// Short sleeps to let pass before a poll is tried again.
    pause: u32,
    /// How many those will be the next time.
    penalty: u32,
}

/// What a miss costs, and a first try is lent; a hit earns 1.
const MISS: u8 = 4;
/// The most credit that is kept: so many misses, times [`MISS`], are forgiven.
const CREDIT_MAX: u8 = 16;
/// First and longest pause after polling has not paid off, in short sleeps.
const PENALTY_MIN: u32 = 8;
const PENALTY_MAX: u32 = 64;

impl AdaptivePoll {
    /// A sleeper that has not slept yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            credit: 0,
            pause: 0,
            penalty: PENALTY_MIN,
        }
    }

    /// How long to poll now, which is `max` at most; 0 is not at all.
    #[must_use]
    pub const fn poll_budget(&self, max: u64) -> u64 {
        match self.credit {
            0 => 0,
            _ => max,
        }
    }

    /// Takes note of a poll that found something.
    pub fn record_hit(&mut self) {
        self.penalty = PENALTY_MIN;
        self.credit = (self.credit + 1).min(CREDIT_MAX);
    }

    /// Takes note of a poll that found nothing.
    pub fn record_miss(&mut self) {
        self.credit = self.credit.saturating_sub(MISS);
        if self.credit == 0 {
            self.pause = self.penalty;
            self.penalty = (self.penalty * 2).min(PENALTY_MAX);
        }
    }

    /// Takes note of a sleep of `slept` that no poll preceded: a poll instead of a short
    /// one would have been a hit. One of up to twice the longest poll, `max`, is short: the
    /// sleep itself and the wake-up are part of it, which a poll would have saved both sides.
    pub fn record_sleep(&mut self, slept: u64, max: u64) {
        if slept >= max.saturating_mul(2) {
            return;
        }
        match self.pause.checked_sub(1) {
            Some(left) => self.pause = left,
            None => self.credit = MISS,
        }
    }
}

impl Default for AdaptivePoll {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 100;

    #[test]
    fn a_short_sleep_starts_polling_and_hits_keep_it() {
        let mut poll = AdaptivePoll::new();
        assert_eq!(poll.poll_budget(MAX), 0);
        poll.record_sleep(200, MAX);
        assert_eq!(poll.poll_budget(MAX), 0);
        poll.record_sleep(199, MAX);
        assert_eq!(poll.poll_budget(MAX), 100);
        for _ in 0..4 {
            poll.record_hit();
        }
        // Four hits forgive one miss.
        poll.record_miss();
        assert_eq!(poll.poll_budget(MAX), 100);
        poll.record_miss();
        assert_eq!(poll.poll_budget(MAX), 0);
    }

    #[test]
    fn polls_that_miss_are_tried_ever_more_seldom() {
        let mut poll = AdaptivePoll::new();
        let mut pauses = [0; 6];
        for pause in &mut pauses {
            while poll.poll_budget(MAX) == 0 {
                poll.record_sleep(5, MAX);
                *pause += 1;
            }
            poll.record_miss();
        }
        assert_eq!(pauses, [1, 9, 17, 33, 65, 65]);
    }

    #[test]
    fn without_a_limit_nothing_polls() {
        let mut poll = AdaptivePoll::new();
        poll.record_sleep(0, 0);
        assert_eq!(poll.poll_budget(0), 0);
        assert_eq!(poll.poll_budget(MAX), 0, "nor did that earn anything");
    }
}
