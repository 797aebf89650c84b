//! The end of a session: what is still delivered of what the guest wrote, for how
//! long, and what is given up.

use super::Monitor;
use crate::config::MonitorConfig;
use crate::connections::Undelivered;
use crate::deadline::after;
use crate::handle::StopRequest;
use crate::violation::Violation;
use std::time::{Duration, Instant};

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// It was stopped, and the kernel has all that was to be delivered.
    Stopped,
    /// It was stopped, or Arca left it, and some of what Arca had written was given
    /// up.
    Undelivered(Undelivered),
    /// Arca closed an end of the control pipe: it left in order.
    Closed,
    /// The guest broke a rule.
    Violation(Violation),
}

/// How long a guest that ended in order may go unnoticed while peers do not read.
const NOTICE: Duration = Duration::from_secs(1);

/// The guest is gone, and what it had written is being delivered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    /// The stop that was requested.
    request: StopRequest,
    limit: DrainLimit,
    /// What had been given up when the guest was still there.
    before: Undelivered,
}

/// How long a drain may take.
#[derive(Clone, Copy, Debug)]
enum DrainLimit {
    /// For as long as the kernel does not give peers up.
    Kernel {
        /// When to say that there is something to wait for, unless it was said.
        notice: Option<Instant>,
    },
    /// While bytes are delivered.
    Progress {
        /// When to give up if nothing is delivered until then.
        deadline: Instant,
        /// When to give up, whatever is delivered.
        limit: Instant,
        /// Bytes delivered when the deadline was last moved.
        delivered: u64,
    },
}

impl DrainLimit {
    fn new(request: StopRequest, delivered: u64, config: &MonitorConfig) -> Self {
        let now = Instant::now();
        match request {
            // The guest has left its session, and is not waited for.
            StopRequest::None => Self::Kernel { notice: None },
            StopRequest::Finish => Self::Kernel {
                notice: Some(now + NOTICE),
            },
            StopRequest::Stop | StopRequest::Abort => Self::Progress {
                deadline: after(now, config.drain.min(config.drain_limit)),
                limit: after(now, config.drain_limit),
                delivered,
            },
        }
    }
}

impl Monitor {
    /// Whether the guest is gone, or has left the session.
    pub(super) fn is_stopping(&self) -> bool {
        self.stop != StopRequest::None || self.requests.is_left()
    }

    /// The guest is gone, or has closed the control pipe: nothing new begins, and
    /// every connection counts as closed by it. A stop that is more urgent than the
    /// one before has a limit of its own.
    pub(super) fn begin_drain(&mut self) {
        let earlier = self.drain;
        if earlier.is_some_and(|drain| drain.request == self.stop) {
            return;
        }
        let delivered = self.relay.stats.bytes_to_tcp;
        self.drain = Some(Drain {
            request: self.stop,
            limit: DrainLimit::new(self.stop, delivered, &self.config),
            before: earlier.map_or_else(|| self.given_up(), |drain| drain.before),
        });
        if earlier.is_some() {
            return;
        }
        if self.stop != StopRequest::None {
            // A guest that is still there may go on using its standard pipes.
            self.polling.end();
        }
        self.drop_requests();
        self.connections.orphan_all();
        self.publish();
    }

    /// Whether a drain has begun.
    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Whether all is delivered, or nothing was for too long.
    pub(super) fn is_drain_over(&mut self) -> bool {
        if self.connections.len() == 0 {
            return true;
        }
        let Some(drain) = &mut self.drain else {
            return false;
        };
        let now = Instant::now();
        match &mut drain.limit {
            DrainLimit::Kernel { notice } => {
                if notice.is_some_and(|at| at <= now) {
                    *notice = None;
                    self.notice();
                }
                false
            }
            DrainLimit::Progress {
                deadline,
                limit,
                delivered,
            } => {
                let so_far = self.relay.stats.bytes_to_tcp;
                if so_far != *delivered {
                    *delivered = so_far;
                    *deadline = after(now, self.config.drain).min(*limit);
                }
                now >= *deadline
            }
        }
    }

    /// When the drain has to be checked, if nothing happens.
    pub(super) fn drain_deadline(&self) -> Option<Instant> {
        match self.drain?.limit {
            DrainLimit::Kernel { notice } => notice,
            DrainLimit::Progress { deadline, .. } => Some(deadline),
        }
    }

    /// What the session ends with, once nothing more is delivered.
    pub(super) fn end_of_drain(&mut self) -> SessionEnd {
        let lost = self.lost();
        if lost != Undelivered::default() {
            let Undelivered { connections, bytes } = lost;
            log::warn!(
                "{bytes} bytes of {connections} connections were not delivered: their peers do not read"
            );
        }
        let left = self.stop == StopRequest::None;
        if left {
            self.close();
            self.serve_standards();
        }
        match lost == Undelivered::default() {
            true if left => SessionEnd::Closed,
            true => SessionEnd::Stopped,
            false => SessionEnd::Undelivered(lost),
        }
    }

    /// Says what a guest that has ended is still waited for.
    fn notice(&mut self) {
        let Undelivered { connections, bytes } = self.lost();
        log::warn!(
            "the program has ended, and the peers of {connections} connections have not taken \
             {bytes} bytes yet. They are waited for, each until it has taken nothing for {:?}; \
             SIGINT or SIGTERM ends that at once, and resets them",
            self.config.orphan_timeout
        );
    }

    /// What was given up since the session began.
    fn given_up(&self) -> Undelivered {
        Undelivered {
            connections: self.relay.stats.given_up,
            bytes: self.relay.stats.undelivered,
        }
    }

    /// What was given up since the guest is gone, and what would be if the session
    /// ended now.
    fn lost(&mut self) -> Undelivered {
        let now = self.given_up();
        let before = self.drain.map_or(now, |drain| drain.before);
        let open = self.connections.undelivered();
        Undelivered {
            connections: now.connections - before.connections + open.connections,
            bytes: now.bytes - before.bytes + open.bytes,
        }
    }

    /// Drops listeners, connects on their way and all that waits.
    fn drop_requests(&mut self) {
        self.requests.forget_waiting();
        self.listeners.close_all();
        self.connects.cancel_all(&mut self.connections);
        self.signals.end(&self.shared.signals);
    }

    /// Closes and frees everything; a connection that is still open is reset. An
    /// Arca that outlives its session finds the flags of every pipe set.
    pub fn close(&mut self) {
        self.drop_requests();
        self.connections.close_all(&mut self.relay);
        self.requests.close(&mut self.relay.wakes);
        self.relay.wakes.flush();
        self.relay.end_log();
        self.publish();
    }
}
