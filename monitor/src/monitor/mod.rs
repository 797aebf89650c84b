//! The monitor of one session.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | the monitor, its making and the calls that drive it step by step |
//! | `dispatch.rs` | what each request does |
//! | `event_loop.rs` | turns, and the sleep between them |
//! | `drain.rs` | the end of a session: what is still delivered, and what is given up |

mod dispatch;
mod drain;
mod event_loop;

pub use dispatch::Dispatch;
pub use drain::SessionEnd;

use crate::config::MonitorConfig;
use crate::connections::Connections;
use crate::connections::prefault::Prefault;
use crate::connects::Connects;
use crate::error::MonitorError;
use crate::handle::{MonitorHandle, Shared, StopRequest};
use crate::link::{Link, new_eventfd};
use crate::listeners::Listeners;
use crate::policy::Policy;
use crate::poller::{Poller, Source};
use crate::relay::Relay;
use crate::requests::Requests;
use crate::requests::control_pipe::ControlPipe;
use crate::signals::Signals;
use crate::standard::StandardShared;
use crate::trace::Tracer;
use crate::violation::Violation;
use crate::wake::busy_poll::BusyPoll;
use crate::wake::doorbells::Doorbells;
use crate::wake::policy::WakePolicy;
use crate::wake::polling_mode::PollingMode;
use drain::Drain;
use nix::sys::eventfd::EventFd;
use std::io;
use std::sync::Arc;

/// What a step of the monitor came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes or frames were moved, or a connection changed.
    pub moved: bool,
    /// There is more to do right away.
    pub busy: bool,
}

/// The monitor of one session.
///
/// [`Monitor::event_loop`] does everything. The calls of the draft do it step
/// by step: [`Monitor::serve_one`], [`Monitor::pump_once`],
/// [`Monitor::poll_accepts`] and [`Monitor::dispatch_request`].
pub struct Monitor {
    config: MonitorConfig,
    shared: Arc<Shared>,
    /// What other threads want, as of the last wake that was consumed.
    stop: StopRequest,
    poller: Poller,
    wake: Arc<EventFd>,
    doorbell: EventFd,
    relay: Relay,
    requests: Requests,
    listeners: Listeners,
    connects: Connects,
    signals: Signals,
    standards: Vec<Arc<StandardShared>>,
    busy_poll: BusyPoll,
    polling: PollingMode,
    doorbells: Doorbells,
    drain: Option<Drain>,
    /// Last: it has the allocator that every pipe above is from.
    connections: Connections,
}

impl Monitor {
    /// A monitor for a session.
    ///
    /// # Errors
    ///
    /// [`MonitorError`]: a rule of the policy names a host that cannot be
    /// resolved, or the host is out of descriptors.
    pub fn new(link: Link, config: MonitorConfig) -> Result<Self, MonitorError> {
        let config = config.workable();
        let policy = Arc::new(Policy::new(&config.policy)?);
        let wake_policy = WakePolicy::new(config.busy_poll);
        let limits = config.limits;
        let poller = Poller::new()?;
        let registry = poller.registry();
        let wake = Arc::new(new_eventfd()?);
        registry
            .register(&link.doorbell, Source::Doorbell)
            .map_err(io::Error::from)?;
        registry
            .register(&*wake, Source::Wake)
            .map_err(io::Error::from)?;
        let control = ControlPipe::new(link.control, link.control_region);
        let mut relay = Relay::new(
            link.notifier,
            wake_policy,
            config.turn_budget,
            config.orphan_timeout,
        );
        let arena = link.allocator.arena();
        relay.prefault = config.prefault.then(|| Prefault::new(arena.clone()));
        let mut monitor = Self {
            shared: Arc::new(Shared::default()),
            stop: StopRequest::None,
            wake,
            doorbell: link.doorbell,
            relay,
            requests: Requests::new(control, limits.requests),
            listeners: Listeners::new(
                Arc::clone(&policy),
                poller.registry(),
                limits.listeners,
                limits.accepts,
            ),
            connects: Connects::new(policy, poller.registry(), limits.connects, limits.lookups),
            signals: Signals::default(),
            standards: link.standards,
            busy_poll: BusyPoll::new(wake_policy),
            polling: PollingMode::new(wake_policy),
            doorbells: Doorbells::new(wake_policy),
            drain: None,
            connections: Connections::new(registry, link.allocator, &config),
            poller,
            config,
        };
        monitor.publish();
        Ok(monitor)
    }

    /// A handle for other threads.
    #[must_use]
    pub fn handle(&self) -> MonitorHandle {
        MonitorHandle {
            shared: Arc::clone(&self.shared),
            wake: Arc::downgrade(&self.wake),
            notifier: Arc::clone(&self.relay.notifier),
        }
    }

    /// What wakes the monitor, as [`Link::doorbell`].
    #[must_use]
    pub fn doorbell(&self) -> &EventFd {
        &self.doorbell
    }

    /// Has what happens from now on put into a queue ([`crate::trace`]).
    pub fn set_tracer(&mut self, tracer: Tracer) {
        self.relay.tracer = Some(Box::new(tracer));
    }

    /// Starts what a session would else start when it is first needed, so that
    /// whoever serves it may then do so in a sandbox that starts no threads.
    ///
    /// # Errors
    ///
    /// If the host has no thread or descriptor left.
    pub fn prepare(&mut self) -> io::Result<()> {
        self.connects.prepare().map_err(io::Error::from)
    }

    /// Answers accepts for which a connection has come; never blocks. Returns
    /// how many it answered.
    ///
    /// # Errors
    ///
    /// [`Violation`] if the guest broke the reply ring.
    pub fn poll_accepts(&mut self) -> Result<usize, Violation> {
        let mut answered = 0;
        for id in self.listeners.ids() {
            self.listeners.assume_ready(id);
            answered += self.accept_on(id)?;
        }
        self.flush_deferred();
        Ok(answered)
    }

    /// Serves requests, relays, completes connects and answers accepts, whatever
    /// is ready; never blocks. Who calls nothing else serves the whole session.
    ///
    /// # Errors
    ///
    /// [`Violation`] if the guest broke a rule of the control pipe.
    pub fn pump_once(&mut self) -> Result<Progress, Violation> {
        let before = self.relay.stats;
        let busy = self.turn(true)?;
        self.flush_deferred();
        let moved = self.relay.stats.moved_since(&before);
        Ok(Progress { moved, busy })
    }

    /// Serves the session until one request was served. Returns `false` if
    /// [`MonitorHandle::stop`], or another end of it, came first.
    ///
    /// # Errors
    ///
    /// [`Violation`] if the guest broke a rule of the control pipe.
    pub fn serve_one(&mut self) -> Result<bool, Violation> {
        loop {
            if self.serve_frame()? {
                self.flush_deferred();
                return Ok(true);
            }
            let before = self.relay.stats;
            self.turn(false)?;
            if self.is_stopping() {
                self.flush_deferred();
                return Ok(false);
            }
            self.polling.ticked(self.relay.stats.moved_since(&before));
            self.sleep();
        }
    }
}
