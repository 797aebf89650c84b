//! The event loop, and how a session ends.

use super::Monitor;
use crate::handle::Wish;
use crate::violation::Violation;
use std::time::Instant;

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// It was stopped.
    Stopped,
    /// The guest broke a rule.
    Violation(Violation),
}

/// The guest is gone, and what it had written is being delivered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Farewell {
    /// When to give up if nothing is delivered until then.
    deadline: Instant,
    /// When to give up, whatever is delivered.
    limit: Instant,
    /// Bytes delivered when that was last put off.
    delivered: u64,
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
        match self.run_session() {
            Ok(()) => SessionEnd::Stopped,
            Err(violation) => SessionEnd::Violation(violation),
        }
    }

    fn run_session(&mut self) -> Result<(), Violation> {
        loop {
            match self.shared.wish() {
                Wish::Run => {}
                Wish::Stop => self.say_farewell(),
                Wish::Abort => return Ok(()),
            }
            let before = self.relay.stats;
            let busy = self.turn(true)?;
            if self.farewell.is_some() && self.is_farewell_over() {
                return Ok(());
            }
            if self.pace.polling {
                self.pace.ticked(self.relay.stats.moved_since(&before));
            }
            if !busy {
                self.sleep();
            }
        }
    }

    /// Whether the guest is gone.
    pub(super) fn is_stopping(&self) -> bool {
        self.farewell.is_some() || self.shared.wish() != Wish::Run
    }

    /// The guest is gone: nothing new begins, and every connection counts as
    /// closed by it.
    fn say_farewell(&mut self) {
        if self.farewell.is_some() {
            return;
        }
        let now = Instant::now();
        self.farewell = Some(Farewell {
            deadline: now + self.config.drain.min(self.config.drain_limit),
            limit: now + self.config.drain_limit,
            delivered: self.relay.stats.bytes_to_tcp,
        });
        self.pace.polling = false;
        self.drop_requests();
        for connection in self.connections.values_mut() {
            connection.orphan();
        }
        self.enqueue_all();
    }

    /// Whether all is delivered, or delivering has not got on for too long.
    fn is_farewell_over(&mut self) -> bool {
        let Some(farewell) = &mut self.farewell else {
            return false;
        };
        if self.connections.len() == 0 {
            return true;
        }
        let (now, delivered) = (Instant::now(), self.relay.stats.bytes_to_tcp);
        if delivered != farewell.delivered {
            farewell.delivered = delivered;
            farewell.deadline = (now + self.config.drain).min(farewell.limit);
        }
        if now < farewell.deadline {
            return false;
        }
        let mut lost = 0;
        for connection in self.connections.values_mut() {
            lost += connection.undelivered();
        }
        log::warn!(
            "{} connections are reset with {lost} bytes undelivered: their peers do not read",
            self.connections.len()
        );
        true
    }

    pub(super) fn stop_deadline(&self) -> Option<Instant> {
        self.farewell.map(|farewell| farewell.deadline)
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
            self.regions.free(connection.into_region(true), false);
        }
        self.regions.end_quarantine();
        self.control.close(&mut self.relay.wakes);
        self.relay.wakes.flush();
        self.relay.end_log();
        self.publish();
    }
}
