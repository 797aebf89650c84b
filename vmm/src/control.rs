//! What the threads of one VM share: how it ended, and who is still running.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::stats::Counters;
use crate::vcpu::CrashState;

/// How a guest ended, before a report is made of it.
#[derive(Debug)]
pub enum Outcome {
    /// It wrote its exit code.
    Exited(u8),
    /// A vCPU crashed.
    Crashed(Box<CrashState>),
    /// The monitor found a rule broken.
    Violation(String),
    /// Its time is up.
    TimedOut,
    /// Somebody stopped it, because of this signal.
    Interrupted(i32),
    /// The host failed it.
    HostFailed(String),
}

/// Shared by the thread that runs a VM and all that it starts.
#[derive(Default)]
pub struct Control {
    state: Mutex<State>,
    changed: Condvar,
    /// vCPUs are to stop. Set (Release) once the outcome is known; each vCPU
    /// reads it (Acquire) whenever it is out of the guest.
    stopping: AtomicBool,
    /// The VMM's counters.
    pub counters: Counters,
}

#[derive(Default)]
struct State {
    outcome: Option<Outcome>,
    ended: bool,
}

impl Control {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked has left a whole value behind: it is only ever
        // replaced.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how the guest ended. The first to say so is believed.
    pub fn end(&self, outcome: Outcome) {
        let mut state = self.lock();
        if !state.ended {
            state.ended = true;
            state.outcome = Some(outcome);
            self.stopping.store(true, Ordering::Release);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Whether vCPUs are to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Waits until somebody has said how the guest ended, or until the timeout
    /// says it.
    pub fn wait(&self, timeout: Option<Duration>) -> Outcome {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.lock();
        loop {
            if let Some(outcome) = state.outcome.take() {
                return outcome;
            }
            if state.ended {
                // Taken before: a VM is run once, and waited for once.
                return Outcome::HostFailed("the guest has ended before".into());
            }
            state = match deadline {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        state.ended = true;
                        self.stopping.store(true, Ordering::Release);
                        return Outcome::TimedOut;
                    }
                    self.changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_outcome_is_believed() {
        let control = Control::default();
        assert!(!control.is_stopping());
        control.end(Outcome::Exited(3));
        control.end(Outcome::TimedOut);
        assert!(control.is_stopping());
        assert!(matches!(control.wait(None), Outcome::Exited(3)));
    }

    #[test]
    fn waiting_ends_with_the_timeout() {
        let control = Control::default();
        let outcome = control.wait(Some(Duration::from_millis(1)));
        assert!(matches!(outcome, Outcome::TimedOut));
        assert!(control.is_stopping());
    }
}
