//! The event loop: turns, and the sleep between them.
//!
//! A turn takes what epoll reports and what the guest marked, serves the control pipe,
//! and then gives every connection that has something to do a turn of its own, within
//! its budget. A turn costs what is ready, not what exists.

use super::{Monitor, SessionEnd};
use crate::handle::StopRequest;
use crate::poller::{Source, Timeout};
use crate::state::SessionState;
use crate::violation::Violation;
use std::time::{Duration, Instant};

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
        loop {
            let before = self.relay.stats;
            match self.turn_of_session() {
                Err(violation) => return SessionEnd::Violation(violation),
                Ok(true) => return self.end_of_drain(),
                Ok(false) => {}
            }
            self.polling.ticked(self.relay.stats.moved_since(&before));
            self.sleep();
        }
    }

    /// Serves the standard pipes, which a guest that has left its session goes on
    /// using, until the monitor is stopped.
    pub(super) fn serve_standards(&mut self) {
        // No request is taken any more, so that no turn finds a rule broken.
        while !self.standards.is_empty()
            && self.turn(false).is_ok()
            && self.stop == StopRequest::None
        {
            self.polling.ticked(false);
            self.sleep();
        }
    }

    /// A turn, requests included, and then the stop that was requested, of which the
    /// turn has learned; whether the session is over.
    fn turn_of_session(&mut self) -> Result<bool, Violation> {
        self.turn(true)?;
        match self.stop {
            StopRequest::None if !self.requests.is_left() => return Ok(false),
            StopRequest::None => {}
            StopRequest::Finish | StopRequest::Stop => self.begin_drain(),
            StopRequest::Abort => return Ok(true),
        }
        Ok(self.is_drain_over())
    }

    /// One turn, without sleeping; whether there is more to do right away.
    pub(super) fn turn(&mut self, requests: bool) -> Result<bool, Violation> {
        if !std::mem::take(&mut self.busy_poll.skip_epoll) {
            self.poller.wait(Timeout::Now);
        }
        self.take_events()?;
        self.take_marks();
        if self.polling.is_active() {
            self.mark_all_ready();
        }
        if requests {
            self.serve_requests()?;
        }
        self.accept_ready()?;
        // Before what takes longer: the guest goes on with a reply while connections
        // have their turn.
        self.requests.notify(&mut self.relay.wakes);
        self.connections.run_queue(&mut self.relay);
        self.flush(Flush::EndOfTurn);
        // Whatever was freed in this turn, and by whom: here it is given to those that
        // wait for room.
        self.listeners.resume_if(self.connections.take_room_freed());
        self.publish();
        Ok(self.is_busy(requests))
    }

    /// Whether there is more to do right away, `requests` included.
    fn is_busy(&self, requests: bool) -> bool {
        let requests_left = requests && self.requests.is_ready() && !self.is_stopping();
        self.connections.has_work() || self.listeners.ready_count() > 0 || requests_left
    }

    /// What epoll reported.
    fn take_events(&mut self) -> Result<(), Violation> {
        let mut index = 0;
        while let Some((source, events)) = self.poller.event(index) {
            index += 1;
            match source {
                Source::Connection(id) => self.connections.on_events(id, events),
                Source::Listener(id) => self.listeners.on_event(id),
                Source::Connect(id) => self.resume_connect(id)?,
                Source::Doorbell => {
                    self.relay.stats.doorbells += 1;
                    // Several that were rung before the event was taken are one event.
                    let count = self.doorbell.read().unwrap_or(0);
                    self.doorbells.heard(count, Instant::now());
                    self.end_polling();
                }
                Source::Resolver => {
                    while let Some(id) = self.connects.take_resolved(&mut self.relay) {
                        self.resume_connect(id)?;
                    }
                }
                // Nothing else reads the requests: whoever consumes a wake has always
                // read what it was for.
                Source::Wake => {
                    self.stop = self.shared.stop_request();
                    self.take_signals()?;
                    if self.shared.take_state_asked() {
                        let state = self.state();
                        self.shared.give_state(state);
                    }
                }
            }
        }
        self.poller.forget();
        Ok(())
    }

    /// What the guest marked. A slot without a pipe is ignored.
    fn take_marks(&mut self) {
        let Self {
            relay,
            requests,
            connections,
            standards,
            ..
        } = self;
        relay.notifier.area().to_monitor().take(|slot| {
            if connections.on_mark(slot) {
                // Its turn comes.
            } else if slot == requests.slot() {
                requests.mark_ready();
            } else if let Some(standard) = standards.iter().find(|s| s.slot() == slot) {
                standard.wake();
            }
        });
    }

    /// In polling mode nobody says what is ready.
    fn mark_all_ready(&mut self) {
        self.requests.mark_ready();
        for standard in &self.standards {
            standard.wake_if_waiting();
        }
        self.connections.enqueue_all();
    }

    /// The peer knows how to wake the monitor: polling mode is over.
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

    /// Serves requests, so many and no more: connections have their turn.
    fn serve_requests(&mut self) -> Result<(), Violation> {
        for _ in 0..self.config.limits.frames {
            let ready = self.requests.is_ready() && !self.is_stopping();
            if !ready || !self.serve_frame()? {
                break;
            }
        }
        Ok(())
    }

    fn accept_ready(&mut self) -> Result<(), Violation> {
        for _ in 0..self.listeners.ready_count() {
            if let Some(id) = self.listeners.pop_ready() {
                self.accept_on(id)?;
            }
        }
        Ok(())
    }

    /// Sends what the guest and its peers are still to learn.
    fn flush(&mut self, when: Flush) {
        let all_bursts = when != Flush::EndOfTurn;
        self.connections.push_bursts(all_bursts, &mut self.relay);
        self.requests.notify(&mut self.relay.wakes);
        match when {
            Flush::EndOfTurn => self.relay.wakes.flush_if_due(false),
            Flush::BeforeSleep => self.relay.wakes.flush_if_due(true),
            Flush::All => self.relay.wakes.flush(),
        }
        self.relay.wakes.end_turn();
    }

    /// Sends everything deferred: whoever drives the monitor step by step may do
    /// anything now, sleep included.
    pub(super) fn flush_deferred(&mut self) {
        self.flush(Flush::All);
        // The next turn asks the epoll, unless its events are already there.
        self.busy_poll.skip_epoll &= self.poller.event(0).is_some();
    }

    /// Sleeps until there is something to do, which there may be already. What wakes
    /// it is kept for the next turn.
    pub(super) fn sleep(&mut self) {
        if self.is_busy(true) {
            return;
        }
        let answers = self.relay.wakes.take_notified_awake() && !self.polling.is_active();
        let polls = answers && self.busy_poll.pays();
        if polls {
            let marks = self.relay.notifier.area().to_monitor();
            let poller = &mut self.poller;
            if self
                .busy_poll
                .poll(&marks, || poller.wait(Timeout::Now) > 0)
            {
                return;
            }
        }
        self.flush(Flush::BeforeSleep);
        let now = Instant::now();
        let since = (answers && !polls).then_some(now);
        let look_again = self.doorbells.longest_sleep(now);
        let sleeper = self.relay.notifier.area().monitor();
        sleeper.prepare_sleep();
        // Marks are checked once more after the flag is up.
        if !self.relay.notifier.area().to_monitor().any() {
            let timeout = self.timeout(look_again);
            self.poller.wait(timeout);
            self.busy_poll.skip_epoll = true;
            self.relay.stats.epoll_turns += 1;
        }
        let area = self.relay.notifier.area();
        area.monitor().finish_sleep();
        if let Some(since) = since
            && area.to_monitor().any()
        {
            self.busy_poll.slept_for_answer(since.elapsed());
        }
    }

    /// How long to sleep if nothing happens, `at_most` if that is known.
    fn timeout(&self, at_most: Option<Duration>) -> Timeout {
        if let Some(due) = self.relay.wakes.until_due() {
            return Timeout::Tick(due);
        }
        let deadlines = [self.listeners.retry_at(), self.drain_deadline()];
        let nearest = deadlines.into_iter().flatten().min();
        let left = nearest.map(|at| at.saturating_duration_since(Instant::now()));
        let left = left.into_iter().chain(at_most).min();
        match (self.polling.tick(), left) {
            (Some(tick), Some(left)) => Timeout::Tick(left.min(tick)),
            (Some(tick), None) => Timeout::Tick(tick),
            (None, Some(left)) => Timeout::After(left),
            (None, None) => Timeout::Never,
        }
    }

    /// What is open now.
    fn state(&mut self) -> SessionState {
        SessionState {
            listeners: self.listeners.state(),
            connects: self.connects.state(),
            connections: self.connections.state(),
            requests_waiting: self.requests.waiting_count(),
            draining: self.is_draining(),
            polling: self.polling.is_active(),
        }
    }

    /// Lets other threads see the numbers.
    pub(super) fn publish(&mut self) {
        let stats = &mut self.relay.stats;
        stats.listeners = self.listeners.len() as u64;
        self.connections.report(stats);
        self.shared.stats.publish(stats);
        if let Some(tracer) = &mut self.relay.tracer {
            tracer.flush();
        }
    }
}
