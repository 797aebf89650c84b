//! What the threads of one VM share: how it ended, and who is still running.

use crate::crash::CrashState;
use crate::vm::stats::Counters;
use crate::vm::status::{
    CODE_CRASHED, CODE_NOT_STARTED, CODE_SESSION_ENDED, CODE_SIGNAL_BASE, CODE_TIMED_OUT,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

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

impl Outcome {
    /// The exit code that a debugger is told.
    pub fn code(&self) -> u8 {
        match self {
            Self::Exited(code) => *code,
            Self::Crashed(_) => CODE_CRASHED,
            Self::Violation(_) => CODE_SESSION_ENDED,
            Self::TimedOut => CODE_TIMED_OUT,
            Self::Interrupted(_) => CODE_SIGNAL_BASE,
            Self::HostFailed(_) => CODE_NOT_STARTED,
        }
    }
}

/// Shared by the thread that runs a VM and all that it starts.
#[derive(Default)]
pub struct RunState {
    state: Mutex<State>,
    changed: Condvar,
    /// vCPUs are to stop. Set (Release) once the outcome is known; each vCPU
    /// reads it (Acquire) whenever it is out of the guest.
    stopping: AtomicBool,
    /// When somebody first asked for the end, by a stop or a timeout.
    stop_asked: OnceLock<Instant>,
    /// The VMM's counters.
    pub counters: Counters,
}

#[derive(Default)]
struct State {
    outcome: Option<Outcome>,
    ended: bool,
    /// Somebody wants to know the guest's state.
    dump_asked: bool,
    /// The monitor's thread has nothing left to do.
    session_over: bool,
}

impl RunState {
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

    /// Says that somebody asks for the end, which is then as `outcome` says unless
    /// the guest has ended: what is left of it does not take its time any more.
    pub fn ask_stop(&self, outcome: Outcome) {
        self.stop_asked.get_or_init(Instant::now);
        self.end(outcome);
    }

    /// When somebody first asked for the end.
    pub fn stop_asked(&self) -> Option<Instant> {
        self.stop_asked.get().copied()
    }

    /// Whether vCPUs are to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Asks for the guest's state, from whoever runs it.
    pub fn ask_dump(&self) {
        self.lock().dump_asked = true;
        self.changed.notify_all();
    }

    /// Waits for the next thing that whoever runs the guest has to see to.
    pub fn next(&self, deadline: Option<Instant>) -> Event {
        let mut state = self.lock();
        loop {
            if let Some(outcome) = state.outcome.take() {
                return Event::Ended(outcome);
            }
            if state.ended {
                // Taken before: a VM is run once, and waited for once.
                let again = Outcome::HostFailed("the guest has ended before".into());
                return Event::Ended(again);
            }
            if std::mem::take(&mut state.dump_asked) {
                return Event::DumpAsked;
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Event::Deadline;
            }
            state = self.wait(state, left);
        }
    }

    /// Waits for a change, for at most that long.
    fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        limit: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        match limit {
            Some(limit) => {
                let waited = self.changed.wait_timeout(state, limit);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let waited = self.changed.wait(state);
                waited.unwrap_or_else(PoisonError::into_inner)
            }
        }
    }
}

/// When a time is up that begins now; `None` is never.
pub fn deadline(time: Option<Duration>) -> Option<Instant> {
    time.and_then(|time| Instant::now().checked_add(time))
}

/// What whoever runs a guest waits for.
#[derive(Debug)]
pub enum Event {
    /// Somebody has said how the guest ended.
    Ended(Outcome),
    /// Somebody wants to know the guest's state.
    DumpAsked,
    /// The deadline has come.
    Deadline,
}

/// Says that the session is over when it is dropped, by a panic too.
pub struct SessionGuard(pub Arc<RunState>);

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.0.lock().session_over = true;
        self.0.changed.notify_all();
    }
}

impl RunState {
    /// Waits until the session is over, but not past `deadline`, and, if
    /// `until_asked`, not once somebody asks for the end. Whether it is over. `dump` is
    /// called whenever somebody wants to know what it still waits for.
    pub fn wait_session(
        &self,
        deadline: Option<Instant>,
        until_asked: bool,
        mut dump: impl FnMut(),
    ) -> bool {
        let mut state = self.lock();
        loop {
            if std::mem::take(&mut state.dump_asked) {
                drop(state);
                dump();
                state = self.lock();
            }
            // The stop is asked for before the notice of it.
            if state.session_over || until_asked && self.stop_asked().is_some() {
                return state.session_over;
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return false;
            }
            state = self.wait(state, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_waited_for_until_it_is_over_or_somebody_asks() {
        let run_state = Arc::new(RunState::default());
        let soon = Instant::now() + Duration::from_millis(1);
        assert!(!run_state.wait_session(Some(soon), true, || {}));
        run_state.end(Outcome::Exited(0));
        let asker = Arc::clone(&run_state);
        let asking = std::thread::spawn(move || asker.ask_stop(Outcome::Interrupted(2)));
        assert!(!run_state.wait_session(None, true, || {}));
        asking.join().expect("no panic");
        assert!(matches!(
            run_state.next(None),
            Event::Ended(Outcome::Exited(0))
        ));
        let session = SessionGuard(Arc::clone(&run_state));
        let ending = std::thread::spawn(move || drop(session));
        assert!(run_state.wait_session(None, false, || {}));
        assert!(run_state.wait_session(None, true, || {}));
        ending.join().expect("no panic");
    }

    #[test]
    fn the_first_outcome_is_believed() {
        let run_state = RunState::default();
        assert!(!run_state.is_stopping());
        run_state.end(Outcome::Exited(3));
        run_state.end(Outcome::TimedOut);
        assert!(run_state.is_stopping());
        assert!(matches!(
            run_state.next(None),
            Event::Ended(Outcome::Exited(3))
        ));
    }

    #[test]
    fn waiting_ends_with_the_timeout() {
        let run_state = RunState::default();
        let soon = || deadline(Some(Duration::from_millis(1)));
        run_state.ask_dump();
        assert!(matches!(run_state.next(soon()), Event::DumpAsked));
        assert!(matches!(run_state.next(soon()), Event::Deadline));
        assert!(!run_state.is_stopping());
        run_state.ask_stop(Outcome::TimedOut);
        let event = run_state.next(soon());
        assert!(matches!(event, Event::Ended(Outcome::TimedOut)));
        assert!(run_state.is_stopping());
    }
}
