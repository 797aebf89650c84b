//! What every connection needs while it has its turn.

use crate::notifier::GuestNotifier;
use crate::stats::MonitorStats;
use crate::wakes::Wakes;
use log::Level;
use std::fmt::Arguments;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Log lines that a guest may cause in [`LOG_PERIOD`].
const LOG_LIMIT: u32 = 10;
const LOG_PERIOD: Duration = Duration::from_secs(1);

/// The part of the monitor that its connections work with.
pub(crate) struct Relay {
    pub(crate) notifier: Arc<GuestNotifier>,
    pub(crate) wakes: Wakes,
    pub(crate) stats: MonitorStats,
    /// Arca said hello: it is none that knows only the draft.
    pub(crate) greeted: bool,
    /// Connections with a long burst that has ended, and whether that was in an
    /// earlier turn.
    pub(crate) ends: Vec<(u32, bool)>,
    /// Bytes that a connection may move in each direction in one turn.
    pub(crate) budget: usize,
    /// How long a peer may take nothing of what an Arca that has left wrote to it.
    pub(crate) orphan_timeout: Duration,
    logged: u32,
    logged_since: Option<Instant>,
}

impl Relay {
    pub(crate) fn new(
        notifier: Arc<GuestNotifier>,
        budget: usize,
        orphan_timeout: Duration,
    ) -> Self {
        Self {
            wakes: Wakes::new(Arc::clone(&notifier)),
            notifier,
            stats: MonitorStats::default(),
            greeted: false,
            ends: Vec::new(),
            budget: budget.max(1),
            orphan_timeout,
            logged: 0,
            logged_since: None,
        }
    }

    /// Logs a warning; see [`Relay::log`].
    pub(crate) fn warn(&mut self, message: Arguments<'_>) {
        self.log(Level::Warn, message);
    }

    /// Logs what the guest can cause as often as it likes, unless there was too
    /// much of it lately.
    pub(crate) fn log(&mut self, level: Level, message: Arguments<'_>) {
        let now = Instant::now();
        let current = self
            .logged_since
            .is_some_and(|since| now.duration_since(since) < LOG_PERIOD);
        if !current {
            self.end_log();
            self.logged_since = Some(now);
        }
        self.logged += 1;
        if self.logged <= LOG_LIMIT {
            log::log!(level, "{message}");
        }
    }

    /// Says how many lines were left out, if any were.
    pub(crate) fn end_log(&mut self) {
        if self.logged > LOG_LIMIT {
            log::warn!("{} more lines were left out", self.logged - LOG_LIMIT);
        }
        self.logged = 0;
    }
}
