//! When a poll lets others run on its core.
//!
//! Whoever is to bring what is polled for may have been woken on the poller's core. It
//! waits there until the poll is over, which has found nothing: both sleep and wake each
//! other from then on. A poll that yields now and then finds what they bring.
//!
//! A yield pays where it costs little, and that is measured. In a thread it takes less
//! than a microsecond, in a guest that is a process a few more for the signal handler
//! around it; a guest that leaves a machine for it may take tens. Where somebody computes
//! on the same core, a yield gives a time slice away, milliseconds, and is not repeated
//! soon.

/// What a poll does after a yield.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It yields once more, whether or not it has found something: the yield was dear, or
    /// others ran, and the next says which.
    AtOnce,
    /// It yields again at that time.
    At(u64),
    /// It yields no more.
    Never,
}

/// When a sleeper's polls yield. All times are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct PollYield {
    /// The least that a yield has taken of late: what it costs if nobody else wants to run.
    cost: u64,
    /// How long to poll before a yield.
    gap: u64,
    /// The last one was answered with [`Next::AtOnce`].
    again: bool,
    rest: YieldRest,
}

/// For how long nothing is yielded after a yield that has given a time slice away. All
/// times are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct YieldRest {
    /// No yield before that.
    until: u64,
    /// How long the next rest is.
    next: u64,
}

/// What is dear: a tenth of what a guest polls for at most where exits are cheap.
const DEAR: u64 = 10_000;
/// A yield that takes so much longer than its cost has let somebody run.
const RAN: u64 = 2_000;
/// Whoever runs for longer than that computes: others are done in tens of microseconds.
const COMPUTES: u64 = 500_000;
/// The shortest and the longest poll before a yield. An answer that takes no more than a
/// round trip on loopback comes before the longest is over.
const GAP_MIN: u64 = 2_000;
const GAP_MAX: u64 = 25_000;
/// The first and the longest rest.
const REST_MIN: u64 = 1_000_000;
const REST_MAX: u64 = 1_000_000_000;
/// Each yield that is none of those forgives so many-th of the rest: a time slice that was
/// given away costs as much as some tens of them gain.
const FORGIVEN: u64 = 64;

impl YieldRest {
    /// Of a sleeper that has not yielded yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            until: 0,
            next: REST_MIN,
        }
    }

    /// Whether there is none at that time.
    #[must_use]
    pub const fn is_over(&self, now: u64) -> bool {
        now >= self.until
    }

    /// Takes note of a yield: a rest begins if somebody has computed meanwhile.
    pub fn record(&mut self, began: u64, ended: u64) {
        match gave_a_slice_away(began, ended) {
            true => self.begin(ended),
            false => self.forgive(),
        }
    }

    /// Begins a rest; the next is twice as long.
    fn begin(&mut self, now: u64) {
        self.until = now.saturating_add(self.next);
        self.next = (self.next * 2).min(REST_MAX);
    }

    /// Makes the next one shorter: a yield has given nothing away.
    fn forgive(&mut self) {
        self.next = (self.next - self.next / FORGIVEN).max(REST_MIN);
    }
}

impl Default for YieldRest {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether somebody has computed in a yield.
const fn gave_a_slice_away(began: u64, ended: u64) -> bool {
    ended.saturating_sub(began) > COMPUTES
}

impl PollYield {
    /// Of a sleeper that has not yielded yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            cost: u64::MAX,
            gap: GAP_MAX,
            again: false,
            rest: YieldRest::new(),
        }
    }

    /// A poll begins now: when it is to yield, if at all.
    #[must_use]
    pub const fn first(&self, now: u64) -> Option<u64> {
        match self.rest.is_over(now) {
            true => Some(now.saturating_add(self.gap)),
            false => None,
        }
    }

    /// Takes note of a yield.
    pub fn record(&mut self, began: u64, ended: u64) -> Next {
        let took = ended.saturating_sub(began);
        // It rises by and by, so that one that was measured too low is not the last word.
        let risen = self.cost.saturating_add(self.cost / 64 + 1);
        self.cost = took.min(risen);
        let again = core::mem::take(&mut self.again);
        let given_away = gave_a_slice_away(began, ended);
        if !given_away && self.cost > DEAR && !again {
            self.again = true;
            return Next::AtOnce;
        }
        if given_away || self.cost > DEAR {
            self.gap = GAP_MAX;
            self.rest.begin(ended);
            return Next::Never;
        }
        self.rest.forgive();
        self.gap = match took > self.cost.saturating_add(RAN) {
            true => (self.gap / 4).max(GAP_MIN).max(self.cost),
            false => (self.gap * 2).min(GAP_MAX),
        };
        Next::At(ended.saturating_add(self.gap))
    }
}

impl Default for PollYield {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a yield of that many microseconds at time 0: the next, from its end on.
    fn after(yields: &mut PollYield, took: u64) -> Next {
        let ended = took * 1000;
        match yields.record(0, ended) {
            Next::At(at) => Next::At(at - ended),
            next => next,
        }
    }

    #[test]
    fn the_first_is_after_the_longest_gap_and_others_that_run_make_it_shorter() {
        let mut yields = PollYield::new();
        assert_eq!(yields.first(7), Some(25_007));
        assert_eq!(after(&mut yields, 1), Next::At(25_000), "nobody ran");
        for gap in [6_250, 2_000, 2_000] {
            assert_eq!(after(&mut yields, 500), Next::At(gap));
            assert_eq!(yields.first(7), Some(7 + gap));
        }
        for gap in [4_000, 8_000, 16_000, 25_000, 25_000] {
            assert_eq!(after(&mut yields, 3), Next::At(gap), "nobody ran");
        }
        let ran = yields.cost + yields.cost / 64 + 1 + RAN;
        assert_eq!(yields.record(0, ran), Next::At(ran + 25_000));
        yields.cost = 1_000;
        assert_eq!(
            yields.record(0, 1_016 + RAN + 1),
            Next::At(1_017 + RAN + 6_250)
        );
    }

    #[test]
    fn a_cost_that_was_measured_too_low_is_corrected() {
        let mut yields = PollYield::new();
        assert_eq!(yields.record(5, 5), Next::At(25_005));
        assert_eq!(
            after(&mut yields, 4),
            Next::At(6_250),
            "somebody ran, it seems"
        );
        for _ in 0..400 {
            after(&mut yields, 4);
        }
        assert_eq!((yields.cost, yields.gap), (4_000, 25_000));
    }

    #[test]
    fn no_more_than_half_of_a_poll_is_spent_on_yields() {
        let mut yields = PollYield::new();
        assert_eq!(after(&mut yields, 9), Next::At(25_000));
        for _ in 0..4 {
            let next = after(&mut yields, 50);
            assert!(matches!(next, Next::At(9_000..)), "{next:?}");
        }
    }

    #[test]
    fn what_is_dear_is_tried_twice_and_then_ever_more_seldom() {
        let mut yields = PollYield::new();
        let mut now = 0;
        for rest in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 1000] {
            assert_eq!(yields.first(now), Some(now + 25_000));
            assert_eq!(yields.record(now, now + 10_001), Next::AtOnce);
            assert_eq!(yields.record(now, now + 17_000), Next::Never);
            let until = now + 17_000 + rest * 1_000_000;
            assert_eq!(yields.first(until - 1), None);
            now = until;
        }
        assert!(yields.first(now).is_some());
    }

    #[test]
    fn one_that_others_ran_in_is_not_taken_for_dear() {
        let mut yields = PollYield::new();
        assert_eq!(after(&mut yields, 40), Next::AtOnce, "once more");
        assert_eq!(
            after(&mut PollYield::new(), 10),
            Next::At(25_000),
            "not dear"
        );
        assert_eq!(after(&mut yields, 4), Next::At(25_000));
        assert_eq!(after(&mut yields, 40), Next::At(6_250));
    }

    #[test]
    fn who_computes_is_not_yielded_to_soon_again() {
        let mut yields = PollYield::new();
        assert_eq!(after(&mut yields, 4), Next::At(25_000));
        assert_eq!(after(&mut yields, 40), Next::At(6_250));
        assert_eq!(after(&mut yields, 501), Next::Never);
        assert_eq!(yields.first(1_500_999), None);
        assert_eq!(yields.first(1_501_000), Some(1_526_000), "the longest gap");
        assert_eq!(after(&mut yields, 3_000), Next::Never);
        assert_eq!(yields.first(4_999_999), None, "for twice as long");
        assert!(yields.first(5_000_000).is_some());
        // That nobody computes any more is forgiven by and by.
        assert_eq!(after(&mut yields, 4), Next::At(25_000));
        assert_eq!(yields.rest.next, 4_000_000 - 62_500);
        for _ in 0..100 {
            after(&mut yields, 40);
            after(&mut yields, 4);
        }
        assert_eq!(yields.rest.next, 1_000_000);
        // Nor is one that was never cheap tried a second time at once.
        assert_eq!(after(&mut PollYield::new(), 501), Next::Never);
    }

    #[test]
    fn a_rest_begins_when_a_slice_was_given_away_and_only_then() {
        let mut rest = YieldRest::new();
        rest.record(7, 7 + COMPUTES);
        assert!(rest.is_over(0), "short work");
        rest.record(7, 8 + COMPUTES);
        let until = 8 + COMPUTES + REST_MIN;
        assert!(!rest.is_over(until - 1) && rest.is_over(until));
        rest.record(until, until + 1);
        assert!(!rest.is_over(until - 1), "that one is not made shorter");
        assert_eq!(rest.next, 2 * REST_MIN - 2 * REST_MIN / FORGIVEN);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_harms_nothing() {
        let mut yields = PollYield::new();
        assert_eq!(yields.record(9, 9), Next::At(25_009));
        assert_eq!(yields.record(9, 3), Next::At(25_003));
        assert_eq!(yields.first(u64::MAX), Some(u64::MAX));
        assert_eq!(yields.record(0, u64::MAX), Next::Never);
        assert_eq!(yields.first(u64::MAX - 1), None);
    }
}
