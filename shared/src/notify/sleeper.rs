//! The flag by which one side is woken only when it sleeps.

use crate::sync::{AtomicU32, Ordering, fence};

/// A sleep flag: the word by which the monitor, or a vCPU, says that it is going to
/// sleep. See [`notify`](super) for the handshake.
#[derive(Clone, Copy, Debug)]
pub struct Sleeper<'a>(&'a AtomicU32);

/// Values of a sleeper's word. Any other value counts as awake.
const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
/// Awake, and with nothing else to do than to find marks.
const POLLING: u32 = 2;

/// What a sleeper does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SleeperState {
    /// It does something.
    Awake,
    /// It has nothing else to do than to find marks.
    Polling,
    /// It sleeps, or is about to.
    Asleep,
}

impl<'a> Sleeper<'a> {
    /// The sleeper of this word.
    #[must_use]
    pub fn new(word: &'a AtomicU32) -> Self {
        Self(word)
    }

    /// Says that the sleeper polls, and then either sleeps ([`Sleeper::prepare_sleep`])
    /// or goes on ([`Sleeper::finish_sleep`]). In both cases it then checks once more
    /// everything that it polls for: nobody else was woken for it meanwhile.
    pub fn prepare_poll(&self) {
        // Release: pairs with the Acquire in `state_now`; what the sleeper wrote
        // about itself before is seen with it. A sender that does not see it yet wakes
        // one for nothing.
        self.0.store(POLLING, Ordering::Release);
    }

    /// What the sleeper does; for a sender, after it published and marked. One that
    /// sleeps has to be woken ([`Sleeper::claim_wake`]), now or later; one that is awake
    /// finds the mark by itself. While one polls nobody need be woken: it finds the mark,
    /// or hands it on.
    #[must_use]
    pub fn state(&self) -> SleeperState {
        order_before_states();
        self.state_now()
    }

    /// What each of several does: [`Sleeper::state`], with one fence for all of them.
    pub fn states(sleepers: impl Iterator<Item = Self>) -> impl Iterator<Item = SleeperState> {
        order_before_states();
        sleepers.map(|sleeper| sleeper.state_now())
    }

    /// What its word says, in no order with what was published before.
    fn state_now(self) -> SleeperState {
        // Acquire: pairs with the Release in `prepare_sleep` and in `prepare_poll`.
        match self.0.load(Ordering::Acquire) {
            ASLEEP => SleeperState::Asleep,
            POLLING => SleeperState::Polling,
            _ => SleeperState::Awake,
        }
    }

    /// Whether the sleeper polls: see [`Sleeper::state`].
    #[must_use]
    pub fn is_polling(&self) -> bool {
        self.state() == SleeperState::Polling
    }

    /// Sets the flag. Before it sleeps, the sleeper checks once more everything that
    /// it would sleep for.
    pub fn prepare_sleep(&self) {
        // A swap, not a store: in the order of this word's changes it stands after
        // every sender's swap that it does not overwrite. Release: pairs with the Acquire
        // in `state_now`; what the sleeper wrote about its sleep before is seen
        // with the flag. The fence pairs with the one in `order_before_states`.
        self.0.swap(ASLEEP, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Clears the flag: awake again.
    pub fn finish_sleep(&self) {
        // Relaxed: a sender that still sees the flag causes a spurious wake-up. The
        // fence pairs with the one in `order_before_states`: either the sender sees that we are
        // awake and wakes another, or what it published is there when we check
        // whether to hand our wake on.
        self.0.store(AWAKE, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Clears the flag of a sleeper that sleeps; for a sender, after it published and
    /// marked. The one sender that gets true has to wake the sleeper.
    #[must_use]
    pub fn claim_wake(&self) -> bool {
        // Relaxed: nothing is read on the strength of the flag.
        self.is_asleep() && self.0.swap(AWAKE, Ordering::Relaxed) == ASLEEP
    }

    /// Whether the sleeper sleeps: see [`Sleeper::state`].
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.state() == SleeperState::Asleep
    }
}

/// Orders what a sender published before the states that it then reads, of one sleeper
/// or of several.
fn order_before_states() {
    // Pairs with the fences in `prepare_sleep` and `finish_sleep`: either we see that a
    // sleeper sleeps, or polls no more, or its last check sees what we published.
    fence(Ordering::SeqCst);
}
