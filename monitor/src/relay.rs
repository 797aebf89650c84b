//! What every connection needs while it has its turn.

use crate::connections::prefault::Prefault;
use crate::stats::MonitorStats;
use crate::trace::{TraceKind, Tracer};
use crate::wake::coalescer::WakeCoalescer;
use crate::wake::notifier::GuestNotifier;
use crate::wake::policy::WakePolicy;
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
    pub(crate) wakes: WakeCoalescer,
    pub(crate) stats: MonitorStats,
    /// Arca said hello: it is none that knows only the draft.
    pub(crate) said_hello: bool,
    /// Connections with a long burst that has ended, and whether that was in an
    /// earlier turn.
    pub(crate) burst_ends: Vec<(u32, bool)>,
    /// Bytes that a connection may move in each direction in one turn.
    pub(crate) budget: usize,
    /// Most bytes that one receive moves in this turn.
    pub(crate) receive_max: usize,
    /// How long a peer may take nothing of what an Arca that has left wrote to it.
    pub(crate) orphan_timeout: Duration,
    /// Who fills in what the guest comes to next, if that helps it.
    pub(crate) prefault: Option<Prefault>,
    /// Who is told what happens, if anybody is.
    pub(crate) tracer: Option<Box<Tracer>>,
    logged: Logged,
}

/// Most bytes that one receive moves where `ready` connections have their turn. What the
/// guest does with those of one alone, it can do while the next are received; of several,
/// it has another's meanwhile, and fewer calls acknowledge less often.
const fn receive_max(ready: usize) -> usize {
    match ready {
        0 | 1 => 128 << 10,
        _ => 256 << 10,
    }
}

/// Lines logged lately on account of the guest.
#[derive(Debug, Default)]
struct Logged {
    lines: u32,
    since: Option<Instant>,
}

impl Logged {
    /// Counts a line. How many were left out of the period before, if this one
    /// begins another, and whether this one is to be logged.
    fn count(&mut self, now: Instant) -> (u32, bool) {
        let current = self
            .since
            .is_some_and(|since| now.duration_since(since) < LOG_PERIOD);
        let mut left_out = 0;
        if !current {
            left_out = self.end();
            self.since = Some(now);
        }
        self.lines = self.lines.saturating_add(1);
        (left_out, self.lines <= LOG_LIMIT)
    }

    /// Ends the period; how many lines were left out.
    fn end(&mut self) -> u32 {
        std::mem::take(&mut self.lines).saturating_sub(LOG_LIMIT)
    }
}

impl Relay {
    pub(crate) fn new(
        notifier: Arc<GuestNotifier>,
        policy: WakePolicy,
        budget: usize,
        orphan_timeout: Duration,
    ) -> Self {
        Self {
            wakes: WakeCoalescer::new(Arc::clone(&notifier), policy),
            notifier,
            stats: MonitorStats::default(),
            said_hello: false,
            burst_ends: Vec::new(),
            budget: budget.max(1),
            receive_max: receive_max(1),
            orphan_timeout,
            prefault: None,
            tracer: None,
            logged: Logged::default(),
        }
    }

    /// A turn of `ready` connections begins.
    pub(crate) fn begin_turn(&mut self, ready: usize) {
        self.receive_max = receive_max(ready);
    }

    /// Traces what happened, if anybody wants to know.
    #[inline]
    pub(crate) fn trace(&mut self, kind: impl FnOnce() -> TraceKind) {
        if let Some(tracer) = &mut self.tracer {
            tracer.event(kind());
        }
    }

    /// Logs a warning; see [`Relay::log`].
    pub(crate) fn warn(&mut self, message: Arguments<'_>) {
        self.log(Level::Warn, message);
    }

    /// Logs what the guest can cause as often as it likes, unless there was too
    /// much of it lately. Whatever the monitor says on account of a guest more than
    /// once in a session goes through here.
    pub(crate) fn log(&mut self, level: Level, message: Arguments<'_>) {
        let (left_out, log) = self.logged.count(Instant::now());
        say_left_out(left_out);
        if log {
            log::log!(level, "{message}");
        }
    }

    /// Says how many lines were left out, if any were.
    pub(crate) fn end_log(&mut self) {
        say_left_out(self.logged.end());
    }
}

fn say_left_out(lines: u32) {
    if lines > 0 {
        log::warn!("{lines} more lines were left out");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alone_receives_less_at_a_time_than_one_of_several() {
        let most = [0, 1, 2, 9].map(receive_max);
        assert_eq!(most, [131_072, 131_072, 262_144, 262_144]);
    }

    #[test]
    fn lines_are_limited_and_those_left_out_are_counted() {
        let (mut logged, began) = (Logged::default(), Instant::now());
        let mut said = 0;
        for line in 0..50_000 {
            let (left_out, log) = logged.count(began + LOG_PERIOD * line / 60_000);
            assert_eq!(left_out, 0);
            said += u32::from(log);
        }
        assert_eq!(said, LOG_LIMIT);
        assert_eq!(logged.count(began + LOG_PERIOD), (50_000 - LOG_LIMIT, true));
        assert_eq!(logged.end(), 0);
    }
}
