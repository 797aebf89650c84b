//! How long to look for work before sleeping for it.
//!
//! A sleep and its wake-up cost tens of microseconds, more than many waits last.
//! Looking instead costs a core, which others may need: a peer that cannot run
//! because we look is a peer we wait for in vain. So a sleeper looks only while
//! looking pays off, and when it does not, it sleeps at once, and tries again
//! after a while, the later the less it has paid off.

/// Whether and how long one sleeper looks. All times are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The longest look; 0 is never to look.
    max: u64,
    /// The next look.
    look: u64,
    /// Short sleeps to let pass before looking is tried again.
    pause: u32,
    /// How many those will be the next time.
    penalty: u32,
}

/// A look shorter than this part of the longest is not worth it.
const WORTH: u64 = 8;
/// First and longest pause after looking has not paid off, in short sleeps.
const PENALTY_MIN: u32 = 8;
const PENALTY_MAX: u32 = 1024;

impl Patience {
    /// A sleeper that looks for at most `max` nanoseconds.
    #[must_use]
    pub const fn new(max: u64) -> Self {
        Self {
            max,
            look: 0,
            pause: 0,
            penalty: PENALTY_MIN,
        }
    }

    /// How long to look now; 0 is not at all.
    #[must_use]
    pub const fn look(&self) -> u64 {
        self.look
    }

    /// Takes note of a look that found something after `took`.
    pub fn found(&mut self, took: u64) {
        self.penalty = PENALTY_MIN;
        // Room for the next to take longer.
        self.look = took.saturating_mul(4).clamp(self.max / 4, self.max);
    }

    /// Takes note of a look in vain.
    pub fn in_vain(&mut self) {
        self.look /= 2;
        if self.look < self.max / WORTH {
            self.look = 0;
            self.pause = self.penalty;
            self.penalty = (self.penalty * 2).min(PENALTY_MAX);
        }
    }

    /// Takes note of a sleep of `slept` that no look preceded.
    pub fn slept(&mut self, slept: u64) {
        if slept >= self.max {
            return;
        }
        match self.pause.checked_sub(1) {
            Some(left) => self.pause = left,
            None => self.look = self.max / 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_sleeps_start_a_look_and_success_keeps_it() {
        let mut patience = Patience::new(100);
        assert_eq!(patience.look(), 0);
        patience.slept(100);
        assert_eq!(patience.look(), 0);
        patience.slept(99);
        assert_eq!(patience.look(), 50);
        for took in [10, 20, 3] {
            patience.found(took);
            assert_eq!(patience.look(), (took * 4).clamp(25, 100));
        }
    }

    #[test]
    fn looks_in_vain_end_and_are_tried_ever_more_seldom() {
        let mut patience = Patience::new(100);
        let mut pauses = [0; 4];
        for pause in &mut pauses {
            while patience.look() == 0 {
                patience.slept(5);
                *pause += 1;
            }
            while patience.look() > 0 {
                patience.in_vain();
            }
        }
        assert_eq!(pauses, [1, 9, 17, 33]);
    }

    #[test]
    fn who_never_looks_never_looks() {
        let mut patience = Patience::new(0);
        patience.slept(0);
        assert_eq!(patience.look(), 0);
    }
}
