//! The event loop, and how a session ends.

use super::Monitor;
use crate::deadline::after;
use crate::handle::Wish;
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

/// What was given up of what an Arca that is gone had written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undelivered {
    /// Connections whose peer did not get all.
    pub connections: u64,
    /// Bytes that the kernel had not taken.
    pub bytes: u64,
}

/// How long a guest that ended in order may go unnoticed while peers do not read.
const NOTICE: Duration = Duration::from_secs(1);

/// The guest is gone, and what it had written is being delivered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Farewell {
    /// How that is wanted.
    wish: Wish,
    patience: Patience,
    /// What had been given up when the guest was still there.
    before: Undelivered,
}

/// How long that may take.
#[derive(Clone, Copy, Debug)]
enum Patience {
    /// For as long as the kernel does not give peers up.
    Kernel {
        /// When to say that there is something to wait for, unless it was said.
        notice: Option<Instant>,
    },
    /// While it gets on.
    Progress {
        /// When to give up if nothing is delivered until then.
        deadline: Instant,
        /// When to give up, whatever is delivered.
        limit: Instant,
        /// Bytes delivered when that was last put off.
        delivered: u64,
    },
}

impl Monitor {
    /// Serves the session until it ends. Afterwards every socket is closed and
    /// every data pipe freed.
    pub fn event_loop(&mut self) -> SessionEnd {
        let end = self.serve();
        self.close();
        end
    }

    /// Serves the session until it ends, and leaves what is open to
    /// [`Monitor::close`]: Arca does not know of the end before that.
    pub fn serve(&mut self) -> SessionEnd {
        if let Err(violation) = self.run_session() {
            return SessionEnd::Violation(violation);
        }
        let lost = self.lost();
        if lost != Undelivered::default() {
            let Undelivered { connections, bytes } = lost;
            log::warn!(
                "{bytes} bytes of {connections} connections were not delivered: their peers do not read"
            );
        }
        let left = self.wish == Wish::Run;
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

    /// Hands on the marks of the standard pipes, which a guest that has left its
    /// session goes on using, until the monitor is stopped.
    fn serve_standards(&mut self) {
        // No request is taken any more, so that no turn finds a rule broken.
        while !self.standards.is_empty() && self.turn(false).is_ok() && self.wish == Wish::Run {
            self.polling.ticked(false);
            self.sleep();
        }
    }

    fn run_session(&mut self) -> Result<(), Violation> {
        loop {
            let before = self.relay.stats;
            if self.turn_of_session()? {
                return Ok(());
            }
            self.polling.ticked(self.relay.stats.moved_since(&before));
            self.sleep();
        }
    }

    /// A turn, requests included, and then what is wanted, of which the turn has
    /// heard; whether the session is over.
    pub(super) fn turn_of_session(&mut self) -> Result<bool, Violation> {
        self.turn(true)?;
        match self.wish {
            Wish::Run if !self.control.is_left() => return Ok(false),
            Wish::Run => {}
            Wish::Finish | Wish::Stop => self.say_farewell(),
            Wish::Abort => return Ok(true),
        }
        Ok(self.is_farewell_over())
    }

    /// Whether the guest is gone, or has left the session.
    pub(super) fn is_stopping(&self) -> bool {
        self.wish != Wish::Run || self.control.is_left()
    }

    /// The guest is gone, or has closed the control pipe: nothing new begins, and
    /// every connection counts as closed by it.
    pub(super) fn say_farewell(&mut self) {
        let said = self.farewell.map(|farewell| farewell.wish);
        if said == Some(self.wish) {
            return;
        }
        let now = Instant::now();
        let patience = match self.wish {
            // It has left, and is not waited for.
            Wish::Run => Patience::Kernel { notice: None },
            Wish::Finish => Patience::Kernel {
                notice: Some(now + NOTICE),
            },
            _ => Patience::Progress {
                deadline: after(now, self.config.drain.min(self.config.drain_limit)),
                limit: after(now, self.config.drain_limit),
                delivered: self.relay.stats.bytes_to_tcp,
            },
        };
        let before = self.given_up();
        self.farewell = Some(Farewell {
            wish: self.wish,
            patience,
            before: self.farewell.map_or(before, |farewell| farewell.before),
        });
        if said.is_some() {
            return;
        }
        if self.wish != Wish::Run {
            // A guest that is still there may go on using its standard pipes.
            self.polling.end();
        }
        self.drop_requests();
        for connection in self.connections.values_mut() {
            connection.orphan();
        }
        self.enqueue_all();
        self.publish();
    }

    /// Whether all is delivered, or delivering has not got on for too long.
    fn is_farewell_over(&mut self) -> bool {
        if self.connections.len() == 0 {
            return true;
        }
        let Some(farewell) = &mut self.farewell else {
            return false;
        };
        let now = Instant::now();
        match &mut farewell.patience {
            Patience::Kernel { notice } => {
                if notice.is_some_and(|at| at <= now) {
                    *notice = None;
                    self.notice();
                }
                false
            }
            Patience::Progress {
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
        let before = self.farewell.map_or(now, |farewell| farewell.before);
        let mut lost = Undelivered {
            connections: now.connections - before.connections,
            bytes: now.bytes - before.bytes,
        };
        for connection in self.connections.values_mut() {
            let bytes = connection.undelivered() as u64;
            lost.connections += u64::from(bytes > 0);
            lost.bytes += bytes;
        }
        lost
    }

    /// When the farewell has to be looked at, if nothing happens.
    pub(super) fn stop_deadline(&self) -> Option<Instant> {
        match self.farewell?.patience {
            Patience::Kernel { notice } => notice,
            Patience::Progress { deadline, .. } => Some(deadline),
        }
    }

    /// Drops listeners, connects on their way and all that waits.
    fn drop_requests(&mut self) {
        self.control.forget_waiting();
        self.waiting_accepts = 0;
        self.stalled.clear();
        self.accepting.clear();
        self.retry_at = None;
        self.listeners.drain();
        let attempts: Vec<u32> = self.attempts.ids().collect();
        for id in attempts {
            self.give_up(id);
        }
        self.resolver = None;
    }

    /// Closes and frees everything; a connection that is still open is reset. An
    /// Arca that outlives its session finds the flags of every pipe set.
    pub fn close(&mut self) {
        self.drop_requests();
        self.queue.clear();
        for mut connection in self.connections.drain() {
            connection.end_session(&mut self.relay);
            if let Some(entry) = self.slots.get_mut(connection.slot().0 as usize) {
                *entry = 0;
            }
            self.regions.free(connection.into_region(), false);
        }
        self.regions.end_all_rests();
        self.control.close(&mut self.relay.wakes);
        self.relay.wakes.flush();
        self.relay.end_log();
        self.publish();
    }
}
