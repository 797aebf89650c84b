//! A monitor as other threads see it.

use crate::stats::{MonitorStats, SharedStats};
use crate::wake::notifier::GuestNotifier;
use arca_shared::notify::Counter;
use arca_shared::notify::request;
use nix::sys::eventfd::EventFd;
use std::sync::{Arc, Weak};

/// What other threads want of the monitor, by increasing urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wish {
    /// To go on.
    Run,
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
    wish: request::SleeperRequest,
    pub(crate) stats: SharedStats,
}

impl Shared {
    /// What is wanted, as a wake that was consumed tells. What the guest wrote
    /// before that was wanted is seen.
    pub(crate) fn heard(&self) -> Wish {
        const FINISH: u8 = Wish::Finish as u8;
        const STOP: u8 = Wish::Stop as u8;
        match self.wish.posted() {
            0 => Wish::Run,
            FINISH => Wish::Finish,
            STOP => Wish::Stop,
            _ => Wish::Abort,
        }
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
        self.wish(Wish::Finish);
    }

    /// Says that the guest is gone, and not in order: the event loop delivers what
    /// it had written, for as long as that gets on and not for long
    /// ([`MonitorConfig::drain`](crate::MonitorConfig::drain)), and returns.
    pub fn stop(&self) {
        self.wish(Wish::Stop);
    }

    /// Ends the event loop at once; connections are reset.
    pub fn abort(&self) {
        self.wish(Wish::Abort);
    }

    fn wish(&self, wish: Wish) {
        self.shared.wish.post(wish as u8, || {
            if let Some(wake) = self.wake.upgrade() {
                // An edge for the epoll, however often it is given. It fails only if
                // the counter is full, which 2^64 of them would take.
                let _ = wake.write(1);
            }
        });
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
