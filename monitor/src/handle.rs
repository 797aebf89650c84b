//! A monitor as other threads see it.

use crate::signals::SharedSignals;
use crate::state::SessionState;
use crate::stats::{MonitorStats, SharedStats};
use crate::wake::notifier::GuestNotifier;
use arca_shared::notify::Counter;
use arca_shared::notify::request;
use nix::sys::eventfd::EventFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Instant;

/// What other threads want of the monitor, by increasing urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StopRequest {
    /// To go on.
    None,
    /// To deliver what the guest wrote, as the kernel would, and end.
    Finish,
    /// To deliver what gets on, for a short while, and end.
    Stop,
    /// To end.
    Abort,
}

/// What the monitor shares with its handles.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    request: request::SleeperRequest,
    pub(crate) stats: SharedStats,
    /// Somebody waits for the state.
    state_asked: AtomicBool,
    state: Mutex<Option<SessionState>>,
    state_given: Condvar,
    pub(crate) signals: SharedSignals,
}

impl Shared {
    /// What is requested; to be read when a wake was consumed. What the guest wrote
    /// before the request is seen.
    pub(crate) fn stop_request(&self) -> StopRequest {
        const FINISH: u8 = StopRequest::Finish as u8;
        const STOP: u8 = StopRequest::Stop as u8;
        match self.request.posted() {
            0 => StopRequest::None,
            FINISH => StopRequest::Finish,
            STOP => StopRequest::Stop,
            _ => StopRequest::Abort,
        }
    }

    /// Whether somebody waits for the state; to be read when a wake was consumed.
    pub(crate) fn take_state_asked(&self) -> bool {
        // Acquire: pairs with the Release in `MonitorHandle::state`; the state that is
        // given is none from before.
        self.state_asked.swap(false, Ordering::Acquire)
    }

    /// Gives the state to whoever waits for it.
    pub(crate) fn give_state(&self, state: SessionState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
        self.state_given.notify_all();
    }
}

/// A handle to a monitor, for any thread.
#[derive(Clone)]
pub struct MonitorHandle {
    pub(crate) shared: Arc<Shared>,
    /// Weak: a handle keeps no descriptor of the monitor open.
    pub(crate) wake: Weak<EventFd>,
    pub(crate) notifier: Arc<GuestNotifier>,
}

impl MonitorHandle {
    /// Says that the guest has ended in order: the event loop hands what it had
    /// written to the kernel, for as long as Linux keeps connections that nobody
    /// has open any more
    /// ([`MonitorConfig::orphan_timeout`](crate::MonitorConfig::orphan_timeout)), and
    /// returns.
    pub fn finish(&self) {
        self.request(StopRequest::Finish);
    }

    /// Says that the guest is gone, and not in order: the event loop delivers what
    /// it had written, for as long as that gets on and not for long
    /// ([`MonitorConfig::drain`](crate::MonitorConfig::drain)), and returns.
    pub fn stop(&self) {
        self.request(StopRequest::Stop);
    }

    /// Ends the event loop at once; connections are reset.
    pub fn abort(&self) {
        self.request(StopRequest::Abort);
    }

    /// Tells the guest's program of a signal that it waits for; `false` if it has not
    /// asked for it, and nothing is done.
    #[must_use]
    pub fn signal(&self, signal: i32) -> bool {
        let is_the_programs = self.shared.signals.post(signal);
        if is_the_programs {
            self.wake();
        }
        is_the_programs
    }

    fn request(&self, request: StopRequest) {
        self.shared.request.post(request as u8, || self.wake());
    }

    fn wake(&self) {
        if let Some(wake) = self.wake.upgrade() {
            // An edge for the epoll, however often it is given. It fails only if
            // the counter is full, which 2^64 of them would take.
            let _ = wake.write(1);
        }
    }

    /// What is open in the session now. `None` if the monitor has not answered by the
    /// deadline: its session is over, or its thread gets no processor. For one thread
    /// at a time.
    #[must_use]
    pub fn state(&self, deadline: Instant) -> Option<SessionState> {
        let shared = &self.shared;
        // Nobody panics while holding it.
        let lock = || shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        *lock() = None;
        // Release: pairs with the Acquire in `take_state_asked`.
        shared.state_asked.store(true, Ordering::Release);
        self.wake();
        let mut state = lock();
        loop {
            if let Some(state) = state.take() {
                return Some(state);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let waited = shared.state_given.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The numbers as of the monitor's last turn.
    #[must_use]
    pub fn stats(&self) -> MonitorStats {
        let area = self.notifier.area();
        let (wakes_sent, wakes_suppressed) = self.notifier.wakes();
        MonitorStats {
            wakes_sent,
            wakes_suppressed,
            guest_doorbells: area.counted(Counter::Doorbells),
            guest_suppressed: area.counted(Counter::Suppressed),
            guest_parks: area.counted(Counter::Parks),
            ..self.shared.stats.snapshot()
        }
    }
}
