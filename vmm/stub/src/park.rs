//! The word on which a vCPU sleeps.
//!
//! A wake is a token: it ends the sleep, or is kept for the next one. Waking costs a
//! system call only if somebody sleeps. How to sleep and to wake is the caller's: the
//! VMM and the stub have different ways to ask the kernel for it.
//!
//! Every change is a swap or a compare-exchange. A wake releases what was written
//! before it; the park that consumes the token acquires that.

use core::sync::atomic::{AtomicU32, Ordering};

/// Nothing is waiting, nobody sleeps.
const EMPTY: u32 = 0;
/// A wake is waiting for the next park.
const TOKEN: u32 = 1;
/// The vCPU sleeps, or is about to.
const ASLEEP: u32 = 2;

/// One vCPU's place to sleep.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct ParkWord(AtomicU32);

impl ParkWord {
    /// Sleeps until woken or until `sleep` says that the time is up, by `false`
    /// instead of sleeping. `sleep` is given the word and what it holds while a sleep
    /// may go on, as futex(2) wants them. Says whether it slept at all.
    pub fn park(&self, mut sleep: impl FnMut(&AtomicU32, u32) -> bool) -> bool {
        // Acquire pairs with `wake`'s Release.
        let before = self
            .0
            .compare_exchange(EMPTY, ASLEEP, Ordering::Acquire, Ordering::Acquire);
        let mut slept = false;
        if before.is_ok() {
            while sleep(&self.0, ASLEEP) {
                slept = true;
                // Relaxed: the swap below acquires.
                if self.0.load(Ordering::Relaxed) != ASLEEP {
                    break;
                }
            }
        }
        // Consumes the token, or ends a sleep that nobody ended. Acquire as
        // above.
        self.0.swap(EMPTY, Ordering::Acquire);
        slept
    }

    /// Ends the sleep, or leaves a token. `wake` is called with the word if somebody
    /// sleeps, and has to wake one.
    pub fn wake(&self, wake: impl FnOnce(&AtomicU32)) {
        // Release pairs with `park`'s Acquire.
        if self.0.swap(TOKEN, Ordering::Release) == ASLEEP {
            wake(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    #[test]
    fn a_wake_without_a_sleeper_is_a_token_for_one_park() {
        let word = ParkWord::default();
        for _ in 0..2 {
            word.wake(|_| panic!("nobody sleeps"));
        }
        assert!(!word.park(|_, _| panic!("a token is there")));
        let asked = Cell::new(0);
        let up = |_: &AtomicU32, _| {
            asked.set(asked.get() + 1);
            false
        };
        assert!(!word.park(up), "the time was up before it slept");
        assert_eq!(asked.get(), 1, "one token was kept");
    }

    #[test]
    fn a_sleeper_is_woken_by_its_word() {
        let word = ParkWord::default();
        let (slept, woken) = (Cell::new(0), Cell::new(0));
        let result = word.park(|futex, asleep| {
            assert_eq!(futex.load(Ordering::Relaxed), asleep);
            slept.set(slept.get() + 1);
            // The first time it returns for no reason.
            if slept.get() == 2 {
                word.wake(|woke| {
                    assert_eq!(woke.as_ptr(), futex.as_ptr());
                    woken.set(woken.get() + 1);
                });
                assert_ne!(futex.load(Ordering::Relaxed), asleep);
            }
            true
        });
        assert_eq!((result, slept.get(), woken.get()), (true, 2, 1));
        // That wake was for that sleep.
        let mut times = 0;
        let again = word.park(|_, _| {
            times += 1;
            times == 1
        });
        assert_eq!((again, times), (true, 2));
        word.wake(|_| panic!("it sleeps no more"));
    }
}
