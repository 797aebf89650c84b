//! A monitor as other threads see it.

use crate::notifier::GuestNotifier;
use crate::stats::{MonitorStats, SharedStats};
use arca_shared::notify::Counter;
use nix::sys::eventfd::EventFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

/// What other threads want of the monitor, by increasing urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wish {
    /// To go on.
    Run,
    /// To deliver what the guest wrote and end.
    Stop,
    /// To end.
    Abort,
}

/// What the monitor shares with its handles.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    wish: AtomicU8,
    pub(crate) stats: SharedStats,
}

impl Shared {
    pub(crate) fn wish(&self) -> Wish {
        // Acquire: pairs with the Release in `raise`; what the guest wrote
        // before it ended is seen.
        match self.wish.load(Ordering::Acquire) {
            0 => Wish::Run,
            1 => Wish::Stop,
            _ => Wish::Abort,
        }
    }

    fn raise(&self, wish: Wish) {
        // Release: pairs with the Acquire in `wish`.
        self.wish.fetch_max(wish as u8, Ordering::Release);
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
    /// Says that the guest is gone: the event loop delivers what it had
    /// written, for as long as that gets on, and returns.
    pub fn stop(&self) {
        self.wish(Wish::Stop);
    }

    /// Ends the event loop at once; connections are reset.
    pub fn abort(&self) {
        self.wish(Wish::Abort);
    }

    fn wish(&self, wish: Wish) {
        self.shared.raise(wish);
        if let Some(wake) = self.wake.upgrade() {
            // Fails only if the counter is full: then it is awake anyway.
            let _ = wake.write(1);
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
