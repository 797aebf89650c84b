//! What happens on the control pipe and on connections.

use arca_shared::errno::Errno;
use arca_shared::pipe::PipePlace;
use std::net::SocketAddr;

/// Which way something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the guest to the host.
    Up,
    /// From the host to the guest.
    Down,
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceEvent {
    /// When, in nanoseconds since the queue was made.
    pub nanos: u64,
    /// Events before this one that were left out, because nobody read them in time.
    pub left_out: u32,
    /// Bytes that go with it: those of a frame, or of a connection.
    pub payload_len: usize,
    /// What happened.
    pub kind: TraceKind,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceKind {
    /// A frame was taken from the control pipe (up), or put into it (down). Its bytes
    /// are the payload.
    Frame(Direction),
    /// A connection began.
    Opened {
        /// Its id.
        id: u32,
        /// The listener that it came in on; 0 if the guest connected.
        listener: u32,
        /// Its local address, if it can be told.
        local: Option<SocketAddr>,
        /// Its peer's address, if it can be told.
        peer: Option<SocketAddr>,
        /// Where its pipe is.
        pipe: PipePlace,
    },
    /// Bytes of a connection were moved between its ring and its socket. They are the
    /// payload, if data is traced.
    Data {
        /// The connection.
        id: u32,
        /// Which way.
        direction: Direction,
        /// Bytes that were moved that way before.
        before: u64,
        /// How many these are.
        len: usize,
    },
    /// A direction of a connection came to its end in order: all was moved.
    HalfClosed {
        /// The connection.
        id: u32,
        /// Which way.
        direction: Direction,
        /// Bytes that were moved that way in all.
        bytes: u64,
    },
    /// The guest reads no more from a connection.
    ReaderClosed {
        /// The connection.
        id: u32,
    },
    /// A connection failed, or was reset.
    Reset {
        /// The connection.
        id: u32,
        /// Whether the guest reset it (up), or its peer or the host's kernel (down).
        by: Direction,
        /// Why, where there is an errno.
        errno: Option<Errno>,
    },
    /// A connection is over, and its pipe free.
    Freed {
        /// The connection.
        id: u32,
    },
    /// Nothing more is traced.
    End,
}

impl TraceKind {
    /// The connection that it is about.
    #[must_use]
    pub fn connection(&self) -> Option<u32> {
        match *self {
            Self::Frame(_) | Self::End => None,
            Self::Opened { id, .. }
            | Self::Data { id, .. }
            | Self::HalfClosed { id, .. }
            | Self::ReaderClosed { id }
            | Self::Reset { id, .. }
            | Self::Freed { id } => Some(id),
        }
    }
}
