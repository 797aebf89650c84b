//! The one epoll of a monitor: its events are taken by the event loop, and each part
//! registers its own descriptors.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// Events taken in one call.
const BATCH: usize = 256;
/// The longest sleep of a tick: one that ends early does no harm.
const TICK_MAX: Duration = Duration::from_secs(60);

/// What an event is about. Ids carry a generation: an event for something that
/// is gone by now finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The guest rang.
    Doorbell,
    /// Another thread of the host wants something.
    Wake,
    /// Names are resolved.
    Resolver,
    /// A listener.
    Listener(u32),
    /// A connect on its way.
    Connect(u32),
    /// A connection.
    Connection(u32),
}

impl Source {
    fn pack(self) -> u64 {
        let (kind, id) = match self {
            Self::Doorbell => (0, 0),
            Self::Wake => (1, 0),
            Self::Resolver => (2, 0),
            Self::Listener(id) => (3, id),
            Self::Connect(id) => (4, id),
            Self::Connection(id) => (5, id),
        };
        kind << 32 | u64::from(id)
    }

    fn unpack(data: u64) -> Self {
        let id = data as u32;
        match data >> 32 {
            0 => Self::Doorbell,
            1 => Self::Wake,
            2 => Self::Resolver,
            3 => Self::Listener(id),
            4 => Self::Connect(id),
            _ => Self::Connection(id),
        }
    }

    /// What is waited for. Everything is edge-triggered: an eventfd need not be
    /// read for the next event then, and what a socket can still do is kept on our side.
    fn interest(self) -> EpollFlags {
        let interest = match self {
            Self::Doorbell | Self::Wake | Self::Resolver | Self::Listener(_) => EpollFlags::EPOLLIN,
            Self::Connect(_) => EpollFlags::EPOLLOUT,
            Self::Connection(_) => {
                EpollFlags::EPOLLIN | EpollFlags::EPOLLPRI | EpollFlags::EPOLLRDHUP
            }
        };
        interest | EpollFlags::EPOLLET
    }
}

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timeout {
    /// Not at all.
    Now,
    /// So long, to the millisecond and not less.
    After(Duration),
    /// So long, to the microsecond.
    Tick(Duration),
    /// Until something happens.
    Never,
}

/// Registers descriptors with the epoll.
#[derive(Clone)]
pub(crate) struct Registry {
    epoll: Arc<Epoll>,
}

impl Registry {
    /// Watches a descriptor, until it is closed.
    pub(crate) fn register(&self, fd: impl AsFd, source: Source) -> Result<(), Errno> {
        let event = EpollEvent::new(source.interest(), source.pack());
        self.epoll.add(fd, event)
    }

    /// Has epoll report, too, when a connection's socket takes more: from now on, and
    /// at once if it does by now.
    pub(crate) fn watch_for_room(&self, fd: impl AsFd, id: u32) -> Result<(), Errno> {
        let source = Source::Connection(id);
        let interest = source.interest() | EpollFlags::EPOLLOUT;
        self.epoll
            .modify(fd, &mut EpollEvent::new(interest, source.pack()))
    }

    /// Watches a descriptor that is registered already as something else.
    pub(crate) fn reregister(&self, fd: impl AsFd, source: Source) -> Result<(), Errno> {
        let mut event = EpollEvent::new(source.interest(), source.pack());
        self.epoll.modify(fd, &mut event)
    }
}

/// The epoll and the events it last reported.
pub(crate) struct Poller {
    epoll: Arc<Epoll>,
    events: Vec<EpollEvent>,
    reported: usize,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?),
            events: vec![EpollEvent::empty(); BATCH],
            reported: 0,
        })
    }

    /// What registers descriptors with this epoll.
    pub(crate) fn registry(&self) -> Registry {
        Registry {
            epoll: Arc::clone(&self.epoll),
        }
    }

    /// Waits for events and says how many there are.
    pub(crate) fn wait(&mut self, timeout: Timeout) -> usize {
        let timeout = match timeout {
            Timeout::Now => EpollTimeout::ZERO,
            Timeout::Never => EpollTimeout::NONE,
            Timeout::After(duration) => {
                let millis = duration.as_micros().div_ceil(1000);
                EpollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
            }
            Timeout::Tick(duration) => {
                // A signal or an error ends the wait early, which is no harm.
                let mut fds = [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)];
                let duration = TimeSpec::from_duration(duration.min(TICK_MAX));
                let _ = ppoll(&mut fds, Some(duration), None);
                EpollTimeout::ZERO
            }
        };
        // An interrupted wait has seen nothing; no other error can come.
        self.reported = self.epoll.wait(&mut self.events, timeout).unwrap_or(0);
        self.reported
    }

    /// Forgets what the last wait reported.
    pub(crate) fn forget(&mut self) {
        self.reported = 0;
    }

    /// One of the events that the last wait reported.
    pub(crate) fn event(&self, index: usize) -> Option<(Source, EpollFlags)> {
        let event = self.events.get(..self.reported)?.get(index)?;
        Some((Source::unpack(event.data()), event.events()))
    }
}
