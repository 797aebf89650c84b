//! How long to poll for work before sleeping for it.
//!
//! A sleep and its wake-up cost tens of microseconds, more than many waits last.
//! Polling costs a core, which others may need: a peer that cannot run because we
//! poll is a peer whose answer does not come. So a sleeper polls only while that
//! pays off. When it does not, the sleeper sleeps at once, and tries polling again
//! after a while, the later the less it has paid off.
//!
//! Where a scheduler gives the core to another thread in the middle of a poll, and
//! not for a moment, more threads want to run than there are cores. One that polls
//! uses up its share of them and is then kept waiting; one that sleeps is given a core
//! soon after it is woken. So it sleeps, and tries polling again after a time that
//! doubles as long as it is kept waiting.

/// Whether and how long one sleeper polls. All times are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct AdaptivePoll {
    /// The longest poll; 0 is never to poll.
    max: u64,
    /// What hits have earned; without any, the sleeper does not poll.
    credit: u8,
    /// Short sleeps to let pass before a poll is tried again.
    pause: u32,
    /// How many those will be the next time.
    penalty: u32,
    /// When the core was last taken away; 0 if it never was.
    switched_out: u64,
    /// When polling may be tried again after that.
    quiet_until: u64,
    /// How long it was not to be tried.
    quiet: u64,
}

/// What a miss costs, and a first try is lent; a hit earns 1.
const MISS: u8 = 4;
/// The most credit that is kept: so many misses, times [`MISS`], are forgiven.
const CREDIT_MAX: u8 = 16;
/// First and longest pause after polling has not paid off, in short sleeps.
const PENALTY_MIN: u32 = 8;
const PENALTY_MAX: u32 = 64;
/// A poll that stood still for so long was switched out for another thread that
/// computes: one that serves a request or takes an interrupt is done sooner.
pub const SWITCHED_OUT: u64 = 1_000_000;
/// Once may be an accident, such as a host that takes its processor back. Twice within
/// this time is a thread that has its turn again and again.
const AGAIN: u64 = 30_000_000;
/// First and longest time without polling after the core was taken away. The longest
/// makes what polling costs then, a time slice of some milliseconds, a hundredth.
const QUIET_MIN: u64 = 5_000_000;
const QUIET_MAX: u64 = 320_000_000;

impl AdaptivePoll {
    /// A sleeper that polls for at most `max` nanoseconds.
    #[must_use]
    pub const fn new(max: u64) -> Self {
        Self {
            max,
            credit: 0,
            pause: 0,
            penalty: PENALTY_MIN,
            switched_out: 0,
            quiet_until: 0,
            quiet: 0,
        }
    }

    /// How long to poll now; 0 is not at all.
    #[must_use]
    pub const fn poll_budget(&self) -> u64 {
        match self.credit {
            0 => 0,
            _ => self.max,
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

    /// Takes note of a poll that stood still for [`SWITCHED_OUT`] until `now`,
    /// whatever it found then.
    pub fn record_switched_out(&mut self, now: u64) {
        let before = core::mem::replace(&mut self.switched_out, now);
        let tried_again = self.quiet > 0 && now.saturating_sub(self.quiet_until) < AGAIN;
        if !tried_again && (before == 0 || now.saturating_sub(before) > AGAIN) {
            return;
        }
        self.credit = 0;
        // It went well for much longer than it was not tried: that was long ago.
        let forgotten = now.saturating_sub(self.quiet_until) > 8 * self.quiet;
        self.quiet = match forgotten {
            true => QUIET_MIN,
            false => (self.quiet * 2).clamp(QUIET_MIN, QUIET_MAX),
        };
        self.quiet_until = now.saturating_add(self.quiet);
    }

    /// Takes note of a sleep of `slept` that ended at `now` and that no poll preceded:
    /// a poll instead of a short one would have been a hit. One of up to twice the
    /// longest poll is short: the sleep itself and the wake-up are part of it, which a
    /// poll would have saved both sides.
    pub fn record_sleep(&mut self, slept: u64, now: u64) {
        if slept >= self.max.saturating_mul(2) || now < self.quiet_until {
            return;
        }
        match self.pause.checked_sub(1) {
            Some(left) => self.pause = left,
            None => self.credit = MISS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_sleep_starts_polling_and_hits_keep_it() {
        let mut poll = AdaptivePoll::new(100);
        assert_eq!(poll.poll_budget(), 0);
        poll.record_sleep(200, 0);
        assert_eq!(poll.poll_budget(), 0);
        poll.record_sleep(199, 0);
        assert_eq!(poll.poll_budget(), 100);
        for _ in 0..4 {
            poll.record_hit();
        }
        // Four hits forgive one miss.
        poll.record_miss();
        assert_eq!(poll.poll_budget(), 100);
        poll.record_miss();
        assert_eq!(poll.poll_budget(), 0);
    }

    #[test]
    fn polls_that_miss_are_tried_ever_more_seldom() {
        let mut poll = AdaptivePoll::new(100);
        let mut pauses = [0; 6];
        for pause in &mut pauses {
            while poll.poll_budget() == 0 {
                poll.record_sleep(5, 0);
                *pause += 1;
            }
            poll.record_miss();
        }
        assert_eq!(pauses, [1, 9, 17, 33, 65, 65]);
    }

    #[test]
    fn without_a_limit_nothing_polls() {
        let mut poll = AdaptivePoll::new(0);
        poll.record_sleep(0, 0);
        assert_eq!(poll.poll_budget(), 0);
    }

    /// A sleeper that polls at `now`.
    fn polling(poll: &mut AdaptivePoll, now: u64) {
        while poll.poll_budget() == 0 {
            poll.record_sleep(5, now);
        }
    }

    #[test]
    fn one_that_is_switched_out_again_sleeps_for_a_while_that_doubles() {
        let mut poll = AdaptivePoll::new(100);
        let mut now = 1;
        polling(&mut poll, now);
        poll.record_switched_out(now);
        now += AGAIN + 1;
        poll.record_switched_out(now);
        assert_eq!(poll.poll_budget(), 100, "once may be an accident");
        now += AGAIN;
        for quiet in [QUIET_MIN, 2 * QUIET_MIN, 4 * QUIET_MIN] {
            polling(&mut poll, now);
            poll.record_hit();
            poll.record_switched_out(now);
            for ago in [quiet, 1] {
                assert_eq!(poll.poll_budget(), 0);
                poll.record_sleep(5, now + quiet - ago);
            }
            now += quiet;
        }
        for _ in 0..20 {
            polling(&mut poll, now);
            poll.record_switched_out(now);
            now += poll.quiet;
        }
        assert_eq!(poll.quiet, QUIET_MAX);
        now += 10 * QUIET_MAX;
        for _ in 0..2 {
            now += AGAIN;
            poll.record_switched_out(now);
        }
        assert_eq!(poll.quiet, QUIET_MIN, "it was long ago");
    }
}
