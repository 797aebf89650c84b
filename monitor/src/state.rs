//! What is open in a session, and who waits for whom: for a person to read.
//!
//! The monitor's thread describes itself when another thread asks
//! ([`MonitorHandle::state`](crate::MonitorHandle::state)). What it says of rings is
//! read from shared memory and checked; it is a picture, nothing is decided on it.

use arca_shared::pipe::PipePlace;
use std::fmt;
use std::net::SocketAddr;

/// Most of each kind that are described.
pub(crate) const MAX_DESCRIBED: usize = 256;

/// What is open in a session.
#[derive(Clone, Debug, Default)]
pub struct SessionState {
    /// The listeners.
    pub listeners: Described<ListenerState>,
    /// Connects on their way.
    pub connects: Described<ConnectState>,
    /// The connections.
    pub connections: Described<ConnectionState>,
    /// Requests that wait for their reply.
    pub requests_waiting: usize,
    /// Arca has left the session, or is gone: what it wrote is being delivered.
    pub draining: bool,
    /// Nobody has rung the doorbell yet: the monitor polls.
    pub polling: bool,
}

/// Things of one kind: those that are described, and how many there are.
#[derive(Clone, Debug)]
pub struct Described<T> {
    /// The first of them.
    pub some: Vec<T>,
    /// All of them.
    pub count: usize,
}

impl<T> Default for Described<T> {
    fn default() -> Self {
        Self {
            some: Vec::new(),
            count: 0,
        }
    }
}

/// A listener.
#[derive(Clone, Debug)]
pub struct ListenerState {
    /// Its id.
    pub id: u32,
    /// The address that it is bound to.
    pub local: SocketAddr,
    /// Accepts of Arca's that wait.
    pub accepts_waiting: usize,
    /// Connections wait that nobody accepts, as far as is known.
    pub connections_waiting: bool,
    /// It waits for room in the arena, or for a descriptor.
    pub stalled: bool,
}

/// A connect that is not answered yet.
#[derive(Clone, Debug)]
pub struct ConnectState {
    /// Where it goes; `None` while a name is looked up.
    pub address: Option<SocketAddr>,
    /// Addresses that are tried if this one fails.
    pub remaining: usize,
}

/// A connection.
#[derive(Clone, Debug)]
pub struct ConnectionState {
    /// Its id.
    pub id: u32,
    /// Its local address; `None` once the socket is closed.
    pub local: Option<SocketAddr>,
    /// Its peer's address; `None` once the socket is closed or the peer gone.
    pub peer: Option<SocketAddr>,
    /// Where its pipe is.
    pub pipe: PipePlace,
    /// From Arca to TCP.
    pub up: DirectionState,
    /// From TCP to Arca.
    pub down: DirectionState,
}

/// One direction of a connection.
#[derive(Clone, Debug)]
pub struct DirectionState {
    /// Bytes that went through so far.
    pub bytes: u64,
    /// Bytes in the ring; `None` if the guest broke it.
    pub in_ring: Option<usize>,
    /// Who has to do something, or why nobody has.
    pub waits: &'static str,
}

impl<T: fmt::Display> Described<T> {
    fn write(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        write!(f, "\n  {name}: {}", self.count)?;
        self.some
            .iter()
            .try_for_each(|each| write!(f, "\n    {each}"))?;
        match self.count.saturating_sub(self.some.len()) {
            0 => Ok(()),
            more => write!(f, "\n    and {more} more"),
        }
    }
}

/// Lines that each begin with a newline, to be put below a heading.
impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.listeners.write(f, "listeners")?;
        self.connects.write(f, "connects on their way")?;
        self.connections.write(f, "connections")?;
        write!(
            f,
            "\n  requests that wait for a reply: {}",
            self.requests_waiting
        )?;
        if self.draining {
            f.write_str("\n  the session is ending: what the guest wrote is being delivered")?;
        }
        if self.polling {
            f.write_str("\n  the guest has not rung the doorbell yet: the monitor polls")?;
        }
        Ok(())
    }
}

impl fmt::Display for ListenerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, local, .. } = self;
        write!(f, "listener {id} at {local}: ")?;
        match (self.accepts_waiting, self.stalled, self.connections_waiting) {
            (0, _, true) => f.write_str("connections wait, and the guest accepts none"),
            (0, _, false) => f.write_str("the guest accepts none, and no connection waits"),
            (n, true, _) => {
                write_accepts(f, n)?;
                f.write_str(" for room in the arena or for a descriptor")
            }
            (n, false, _) => {
                write_accepts(f, n)?;
                f.write_str(", and no connection has come")
            }
        }
    }
}

fn write_accepts(f: &mut fmt::Formatter<'_>, count: usize) -> fmt::Result {
    match count {
        1 => f.write_str("an accept waits"),
        n => write!(f, "{n} accepts wait"),
    }
}

impl fmt::Display for ConnectState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "to {address}: its peer has not answered")?,
            None => f.write_str("a name is being looked up")?,
        }
        match self.remaining {
            0 => Ok(()),
            more => write!(f, ", {more} more addresses to try"),
        }
    }
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}", self.id)?;
        match (self.local, self.peer) {
            (Some(local), Some(peer)) => write!(f, ", {local} with {peer}")?,
            (Some(local), None) => write!(f, ", {local} with a peer that is gone")?,
            (None, _) => f.write_str(", its socket is closed")?,
        }
        let size = self.pipe.ring_size;
        for (name, direction) in [("guest to peer", &self.up), ("peer to guest", &self.down)] {
            let DirectionState { bytes, waits, .. } = direction;
            write!(f, "\n      {name}: {bytes} B, ")?;
            match direction.in_ring {
                Some(len) => write!(f, "ring {len} of {size} B: {waits}")?,
                None => write!(f, "ring broken: {waits}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted() {
        let listener = ListenerState {
            id: 3,
            local: ([127, 0, 0, 1], 80).into(),
            accepts_waiting: 1,
            connections_waiting: false,
            stalled: false,
        };
        let state = SessionState {
            listeners: Described {
                some: vec![listener],
                count: 5,
            },
            ..SessionState::default()
        };
        let text = state.to_string();
        let says = "\n  listeners: 5\n    listener 3 at 127.0.0.1:80: an accept waits, and no \
                    connection has come\n    and 4 more\n  connects on their way: 0\n";
        assert!(text.starts_with(says), "{text}");
    }
}
