//! One turn of the event loop: what epoll reports, what the guest marked, the
//! control pipe, and then every connection that has something to do, each
//! within its budget. A turn costs what is ready, not what exists.

use super::Monitor;
use crate::connection::Step;
use crate::poller::{Source, Timeout};
use crate::violation::Violation;
use std::time::Instant;

/// How much of what is deferred is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    /// What is due: more is to be done soon.
    EndOfTurn,
    /// What is due if nothing else is to be done.
    BeforeSleep,
    /// All of it.
    All,
}

#[cfg(fuzzing)]
impl Monitor {
    /// One turn of the event loop, for a fuzzer that drives it step by step;
    /// whether the session is over.
    ///
    /// # Errors
    ///
    /// [`Violation`]: the session is over.
    pub fn turn_once(&mut self) -> Result<bool, Violation> {
        self.turn_of_session()
    }
}

impl Monitor {
    /// One turn, without sleeping; whether there is more to do right away.
    pub(super) fn turn(&mut self, requests: bool) -> Result<bool, Violation> {
        if !std::mem::take(&mut self.busy_poll.skip_epoll) {
            self.reactor.wait(Timeout::Now);
        }
        self.take_events()?;
        self.take_marks();
        if self.polling.is_active() {
            self.mark_all_ready();
        }
        if requests && self.control_ready && !self.is_stopping() {
            self.serve_requests()?;
        }
        if self.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.resume_stalled();
        }
        self.accept_ready()?;
        self.run_queue();
        self.flush(Flush::EndOfTurn);
        self.publish();
        Ok(self.is_busy(requests))
    }

    /// Whether there is more to do right away, `requests` included.
    fn is_busy(&self, requests: bool) -> bool {
        let requests_left = requests && self.control_ready && !self.is_stopping();
        !self.queue.is_empty() || !self.accepting.is_empty() || requests_left
    }

    /// What epoll reported.
    fn take_events(&mut self) -> Result<(), Violation> {
        let mut index = 0;
        while let Some((source, events)) = self.reactor.event(index) {
            index += 1;
            match source {
                Source::Connection(id) => {
                    if let Some(connection) = self.connections.get_mut(id) {
                        connection.on_events(events);
                        self.enqueue(id);
                    }
                }
                Source::Listener(id) => {
                    if let Some(listener) = self.listeners.get_mut(id) {
                        listener.ready = true;
                        if !listener.stalled && !listener.waits.is_empty() {
                            self.accepting.push(id);
                        }
                    }
                }
                Source::Attempt(id) => self.on_attempt(id)?,
                Source::Doorbell => {
                    self.relay.stats.doorbells += 1;
                    self.end_polling();
                }
                Source::Resolver => self.take_resolved()?,
                // Nothing else looks at what is wanted: a wake that was consumed
                // has always been heard.
                Source::Wake => self.wish = self.shared.heard(),
            }
        }
        self.reactor.forget();
        Ok(())
    }

    /// What the guest marked. A slot without a pipe is ignored.
    fn take_marks(&mut self) {
        let Self {
            relay,
            control,
            control_ready,
            connections,
            queue,
            slots,
            standards,
            ..
        } = self;
        let control_slot = control.slot();
        relay.notifier.area().to_monitor().take(|slot| {
            let id = slots.get(slot.0 as usize).copied().unwrap_or(0);
            if id != 0 {
                if let Some(connection) = connections.get_mut(id)
                    && !connection.queued
                {
                    connection.queued = true;
                    queue.push_back(id);
                }
            } else if slot == control_slot {
                *control_ready = true;
            } else if let Some(standard) = standards.iter().find(|s| s.slot() == slot) {
                standard.wake();
            }
        });
    }

    /// In polling mode nobody says what is ready.
    fn mark_all_ready(&mut self) {
        self.control_ready = true;
        for standard in &self.standards {
            standard.wake_if_waiting();
        }
        self.enqueue_all();
    }

    pub(super) fn enqueue_all(&mut self) {
        let ids = self.connections.ids();
        let queue = &mut self.queue;
        queue.clear();
        queue.extend(ids);
        for connection in self.connections.values_mut() {
            connection.queued = true;
        }
    }

    pub(super) fn enqueue(&mut self, id: u32) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.queued
        {
            connection.queued = true;
            self.queue.push_back(id);
        }
    }

    /// The peer knows how to wake us: no more looking by the clock.
    pub(super) fn end_polling(&mut self) {
        if self.polling.end() {
            self.mark_all_ready();
            // Also those that are just about to wait: the next tick that would find
            // them does not come.
            for standard in &self.standards {
                standard.wake();
            }
        }
    }

    fn serve_requests(&mut self) -> Result<(), Violation> {
        for _ in 0..self.config.limits.frames {
            if !self.serve_frame()? {
                self.control_ready = false;
                return Ok(());
            }
        }
        Ok(())
    }

    fn accept_ready(&mut self) -> Result<(), Violation> {
        // A listener may be named twice; the second time it has nothing to do. Those
        // that are named meanwhile stay for the next turn.
        let count = self.accepting.len();
        for index in 0..count {
            if let Some(&id) = self.accepting.get(index) {
                self.accept_on(id)?;
            }
        }
        self.accepting.drain(..count.min(self.accepting.len()));
        Ok(())
    }

    /// A turn for every connection that waits for one.
    fn run_queue(&mut self) {
        for _ in 0..self.queue.len() {
            let Some(id) = self.queue.pop_front() else {
                break;
            };
            let Some(connection) = self.connections.get_mut(id) else {
                continue;
            };
            connection.queued = false;
            let step = connection.run(&mut self.relay);
            self.relay.wakes.flush_if_due(false);
            match step {
                Step::Idle => {}
                Step::Again => {
                    connection.queued = true;
                    self.queue.push_back(id);
                }
                Step::Over => self.close_connection(id),
            }
        }
    }

    /// Pushes the bursts that ended in an earlier turn, or `all`: those that go on
    /// have done so by then.
    fn push_ends(&mut self, all: bool) {
        let Self {
            relay, connections, ..
        } = self;
        relay.ends.retain_mut(|(id, earlier)| {
            let due = all || std::mem::replace(earlier, true);
            if due && let Some(connection) = connections.get_mut(*id) {
                connection.push_end();
            }
            !due
        });
    }

    /// Sends what the guest and its peers are still to learn.
    fn flush(&mut self, when: Flush) {
        self.push_ends(when != Flush::EndOfTurn);
        self.control.notify(&mut self.relay.wakes);
        match when {
            Flush::EndOfTurn => self.relay.wakes.flush_if_due(false),
            Flush::BeforeSleep => self.relay.wakes.flush_if_due(true),
            Flush::All => self.relay.wakes.flush(),
        }
    }

    /// Sends everything deferred: whoever drives the monitor step by step may do
    /// anything now, sleep included.
    pub(super) fn flush_deferred(&mut self) {
        self.flush(Flush::All);
        // The next turn asks the epoll, unless its events are already there.
        self.busy_poll.skip_epoll &= self.reactor.event(0).is_some();
    }

    /// Sleeps until there is something to do, which there may be already. What wakes
    /// it is kept for the next turn.
    pub(super) fn sleep(&mut self) {
        if self.is_busy(true) {
            return;
        }
        let notified_awake = self.relay.wakes.take_notified_awake();
        if notified_awake && !self.polling.is_active() {
            let marks = self.relay.notifier.area().to_monitor();
            if self.busy_poll.poll(&marks) {
                return;
            }
        }
        self.flush(Flush::BeforeSleep);
        let sleeper = self.relay.notifier.area().monitor();
        sleeper.prepare_sleep();
        // Looked at once more after the flag is up.
        if !self.relay.notifier.area().to_monitor().any() {
            let timeout = self.timeout();
            self.reactor.wait(timeout);
            self.busy_poll.skip_epoll = true;
            self.relay.stats.epoll_turns += 1;
        }
        self.relay.notifier.area().monitor().finish_sleep();
    }

    /// How long to sleep if nothing happens.
    fn timeout(&self) -> Timeout {
        if let Some(due) = self.relay.wakes.until_due() {
            return Timeout::Tick(due);
        }
        let deadlines = [self.retry_at, self.stop_deadline()];
        let nearest = deadlines.into_iter().flatten().min();
        let left = nearest.map(|at| at.saturating_duration_since(Instant::now()));
        match (self.polling.tick(), left) {
            (Some(tick), Some(left)) => Timeout::Tick(left.min(tick)),
            (Some(tick), None) => Timeout::Tick(tick),
            (None, Some(left)) => Timeout::After(left),
            (None, None) => Timeout::Never,
        }
    }

    /// Lets other threads see the numbers.
    pub(super) fn publish(&mut self) {
        let stats = &mut self.relay.stats;
        stats.connections = self.connections.len() as u64;
        stats.listeners = self.listeners.len() as u64;
        stats.pipes_allocated = self.regions.count();
        stats.arena_used = self.regions.allocator().used() as u64;
        stats.arena_peak = self.regions.allocator().peak() as u64;
        self.shared.stats.publish(stats);
    }
}
