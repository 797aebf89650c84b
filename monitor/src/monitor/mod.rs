//! The monitor of one session.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | the monitor, its making and the calls that drive it step by step |
//! | `dispatch.rs` | what each request does |
//! | `accepting.rs` | connections that come in |
//! | `connecting.rs` | connections that go out |
//! | `turn.rs` | one turn of the event loop |
//! | `session.rs` | the event loop: sleeping between turns, and the end |

mod accepting;
mod connecting;
mod dispatch;
mod session;
mod turn;

pub use dispatch::Dispatch;
pub use session::{SessionEnd, Undelivered};

use crate::config::MonitorConfig;
use crate::connection::Connection;
use crate::control_pipe::Control;
use crate::error::MonitorError;
use crate::handle::{MonitorHandle, Shared, Wish};
use crate::link::{Link, new_eventfd};
use crate::listener::Listener;
use crate::policy::Policy;
use crate::poller::{Reactor, Source};
use crate::regions::Regions;
use crate::relay::Relay;
use crate::resolver::Resolver;
use crate::standard::Standard;
use crate::table::Table;
use crate::violation::Violation;
use crate::wake::busy_poll::BusyPoll;
use crate::wake::policy::WakePolicy;
use crate::wake::polling_mode::PollingMode;
use arca_shared::memory::Arena;
use arca_shared::memory::MIN_BLOCK;
use connecting::Attempt;
use nix::sys::eventfd::EventFd;
use session::Farewell;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Instant;

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
    policy: Policy,
    arena: Arena,
    shared: Arc<Shared>,
    /// What other threads want, as of the last wake that was consumed.
    wish: Wish,
    reactor: Reactor,
    wake: Arc<EventFd>,
    doorbell: EventFd,
    relay: Relay,
    control: Control,
    /// The control pipe may have something to do.
    control_ready: bool,
    listeners: Table<Listener>,
    /// Listeners to accept on in this turn.
    accepting: Vec<u32>,
    /// Listeners for which the host or the arena had no room.
    stalled: Vec<u32>,
    /// When to look after them again, if nothing else tells.
    retry_at: Option<Instant>,
    /// Accepts that wait, on all listeners together.
    waiting_accepts: usize,
    attempts: Table<Attempt>,
    resolver: Option<Resolver>,
    connections: Table<Connection>,
    /// Connections that have something to do, in turn.
    queue: VecDeque<u32>,
    /// The connection of each slot; 0 where there is none.
    slots: Vec<u32>,
    standards: Vec<Arc<Standard>>,
    busy_poll: BusyPoll,
    polling: PollingMode,
    farewell: Option<Farewell>,
    /// Last: every pipe above lies in one.
    regions: Regions,
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
        let policy = Policy::new(&config.policy)?;
        let reactor = Reactor::new()?;
        let wake = Arc::new(new_eventfd()?);
        reactor
            .add(&link.doorbell, Source::Doorbell)
            .map_err(io::Error::from)?;
        reactor.add(&*wake, Source::Wake).map_err(io::Error::from)?;
        let arena = link.allocator.arena().clone();
        let wake_policy = WakePolicy::new(config.busy_poll);
        let limits = &config.limits;
        let slots = arena.len().div_ceil(MIN_BLOCK);
        let mut monitor = Self {
            policy,
            shared: Arc::new(Shared::default()),
            wish: Wish::Run,
            reactor,
            wake,
            doorbell: link.doorbell,
            relay: Relay::new(
                link.notifier,
                wake_policy,
                config.turn_budget,
                config.orphan_timeout,
            ),
            control: Control::new(link.control, link.control_region, limits.requests),
            control_ready: true,
            listeners: Table::new(limits.listeners),
            accepting: Vec::new(),
            stalled: Vec::new(),
            retry_at: None,
            waiting_accepts: 0,
            attempts: Table::new(limits.connects),
            resolver: None,
            connections: Table::new(limits.connections),
            queue: VecDeque::new(),
            // A vector of zeros: touched only where it is used.
            slots: vec![0; slots],
            standards: link.standards,
            busy_poll: BusyPoll::new(wake_policy),
            polling: PollingMode::new(wake_policy),
            farewell: None,
            regions: Regions::new(link.allocator, config.pipe_sizes, limits.arena_percent),
            arena,
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

    /// Starts what a session would else start when it is first needed, so that
    /// whoever serves it may then do so in a sandbox that starts no threads.
    ///
    /// # Errors
    ///
    /// If the host has no thread or descriptor left.
    pub fn prepare(&mut self) -> io::Result<()> {
        if self.policy.resolves_names() {
            self.start_resolver()?;
        }
        Ok(())
    }

    /// Answers accepts for which a connection has come; never blocks. Returns
    /// how many it answered.
    ///
    /// # Errors
    ///
    /// [`Violation`] if the guest broke the reply ring.
    pub fn poll_accepts(&mut self) -> Result<usize, Violation> {
        let mut answered = 0;
        let ids: Vec<u32> = self.listeners.ids().collect();
        for id in ids {
            if let Some(listener) = self.listeners.get_mut(id) {
                listener.ready = true;
            }
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
            self.control_ready = false;
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
