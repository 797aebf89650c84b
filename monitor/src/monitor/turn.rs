//! One turn of the event loop: what epoll reports, what the guest marked, the
//! control pipe, and then every connection that has something to do, each
//! within its budget. A turn costs what is ready, not what exists.

use super::Monitor;
use crate::connection::Step;
use crate::poller::{Source, Timeout};
use crate::violation::Violation;
use std::time::{Duration, Instant};

/// Shortest and longest tick of polling mode.
const TICK_MIN: Duration = Duration::from_micros(50);
const TICK_MAX: Duration = Duration::from_millis(1);
/// Looks at the ready set for each look at the clock.
const LOOKS: u32 = 4;
/// Turns after an answer that the epoll is not asked in, at most, in a row.
const ANSWERS: u32 = 16;

/// When the monitor looks for work by itself, rather than to be woken.
#[derive(Debug)]
pub(super) struct Pace {
    /// The peer may be one that never rings: everything is looked at each tick.
    pub(super) polling: bool,
    /// The next tick of polling mode.
    tick: Duration,
    /// The epoll was asked and no turn has used what it said, or need not be.
    pub(super) asked: bool,
    /// Answers of the guest that were looked for and found.
    answers: u32,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            polling: true,
            tick: TICK_MIN,
            asked: false,
            answers: 0,
        }
    }

    /// Takes note of a turn in polling mode.
    pub(super) fn ticked(&mut self, moved: bool) {
        self.tick = match moved {
            true => TICK_MIN,
            false => (self.tick * 2).min(TICK_MAX),
        };
    }
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
        if !std::mem::take(&mut self.pace.asked) {
            self.reactor.wait(Timeout::Now);
        }
        self.take_events()?;
        self.take_marks();
        if self.pace.polling {
            self.look_at_everything();
        }
        if requests && self.control_ready && !self.is_stopping() {
            self.serve_requests()?;
        }
        if self.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.resume_stalled();
        }
        self.relay.wakes.settle(false);
        self.accept_ready()?;
        self.run_queue();
        self.push_ends(false);
        self.control.tell(&mut self.relay.wakes);
        self.relay.wakes.settle(false);
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
    fn look_at_everything(&mut self) {
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
        if std::mem::take(&mut self.pace.polling) {
            self.look_at_everything();
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
            self.relay.wakes.settle(false);
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

    /// Does what was put off: whoever drives the monitor step by step may do anything
    /// now, sleep included.
    pub(super) fn put_off_nothing(&mut self) {
        self.push_ends(true);
        self.relay.wakes.flush();
        // The next turn asks the epoll, unless it has told already.
        self.pace.asked &= self.reactor.event(0).is_some();
    }

    /// Sleeps until there is something to do, which there may be already. What wakes
    /// it is kept for the next turn.
    pub(super) fn sleep(&mut self) {
        if self.is_busy(true) {
            return;
        }
        let told = self.relay.wakes.take_told();
        if told && !self.pace.polling && self.look_for_answer() {
            return;
        }
        self.push_ends(true);
        self.relay.wakes.settle(true);
        let sleeper = self.relay.notifier.area().monitor();
        sleeper.raise();
        // Looked at once more after the flag is up.
        if !self.relay.notifier.area().to_monitor().any() {
            let timeout = self.timeout();
            self.reactor.wait(timeout);
            self.pace.asked = true;
            self.relay.stats.epoll_turns += 1;
        }
        self.relay.notifier.area().monitor().lower();
    }

    /// Looks for the answer of a guest that was just told something; whether it
    /// came. To sleep at once would have the guest ring; to look for what the
    /// network brings, or for longer, would take the core from a peer on this host.
    fn look_for_answer(&mut self) -> bool {
        let began = Instant::now();
        loop {
            for _ in 0..LOOKS {
                if self.relay.notifier.area().to_monitor().any() {
                    // The network has its turn after a few answers.
                    self.pace.asked = !self.pace.answers.is_multiple_of(ANSWERS);
                    self.pace.answers = self.pace.answers.wrapping_add(1);
                    return true;
                }
                std::hint::spin_loop();
            }
            if began.elapsed() >= self.config.busy_poll {
                return false;
            }
        }
    }

    /// How long to sleep if nothing happens.
    fn timeout(&self) -> Timeout {
        if let Some(due) = self.relay.wakes.due() {
            return Timeout::Tick(due);
        }
        let deadlines = [self.retry_at, self.stop_deadline()];
        let nearest = deadlines.into_iter().flatten().min();
        let left = nearest.map(|at| at.saturating_duration_since(Instant::now()));
        match (self.pace.polling, left) {
            (true, left) => {
                let tick = self.pace.tick;
                Timeout::Tick(left.map_or(tick, |left| left.min(tick)))
            }
            (false, Some(left)) => Timeout::After(left),
            (false, None) => Timeout::Never,
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
