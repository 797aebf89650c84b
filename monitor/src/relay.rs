//! What every connection needs while it has its turn.

use crate::notifier::GuestNotifier;
use crate::stats::MonitorStats;
use std::fmt::Arguments;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Warnings that a guest may cause in [`WARN_PERIOD`].
const WARN_LIMIT: u32 = 10;
const WARN_PERIOD: Duration = Duration::from_secs(1);

/// The part of the monitor that its connections work with.
pub(crate) struct Relay {
    pub(crate) notifier: Arc<GuestNotifier>,
    pub(crate) stats: MonitorStats,
    /// Arca said hello: it is none that knows only the draft.
    pub(crate) greeted: bool,
    /// Bytes that a connection may move in each direction in one turn.
    pub(crate) budget: usize,
    warned: u32,
    warned_since: Option<Instant>,
}

impl Relay {
    pub(crate) fn new(notifier: Arc<GuestNotifier>, budget: usize) -> Self {
        Self {
            notifier,
            stats: MonitorStats::default(),
            greeted: false,
            budget: budget.max(1),
            warned: 0,
            warned_since: None,
        }
    }

    /// Logs a warning, unless there were too many lately: the guest can cause
    /// them as it likes.
    pub(crate) fn warn(&mut self, message: Arguments<'_>) {
        let now = Instant::now();
        let current = self
            .warned_since
            .is_some_and(|since| now.duration_since(since) < WARN_PERIOD);
        if !current {
            if self.warned > WARN_LIMIT {
                log::warn!("{} more warnings were left out", self.warned - WARN_LIMIT);
            }
            self.warned = 0;
            self.warned_since = Some(now);
        }
        self.warned += 1;
        if self.warned <= WARN_LIMIT {
            log::warn!("{message}");
        }
    }
}
