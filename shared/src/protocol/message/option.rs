//! Socket options on the wire.

use super::wire::{Fields, MessageError, Writer};

/// What a request about a socket is about. 5 bytes: kind u8 (1 listener, 2
/// connection), id u32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A listener, by its listener_id.
    Listener(u32),
    /// A connection, by its connection_id.
    Connection(u32),
}

impl Target {
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, MessageError> {
        let (kind, id) = (fields.u8()?, fields.u32()?);
        match kind {
            1 => Ok(Self::Listener(id)),
            2 => Ok(Self::Connection(id)),
            other => Err(fields.bad(other)),
        }
    }

    pub(super) fn write(self, writer: &mut Writer<'_>) {
        match self {
            Self::Listener(id) => writer.u8(1).u32(id),
            Self::Connection(id) => writer.u8(2).u32(id),
        };
    }
}

/// An option of a socket; its value on the wire is a u64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SocketOption {
    /// TCP_NODELAY: 0 or 1.
    NoDelay = 1,
    /// SO_KEEPALIVE: 0 or 1.
    KeepAlive = 2,
    /// TCP_KEEPIDLE, in seconds.
    KeepIdle = 3,
    /// TCP_KEEPINTVL, in seconds.
    KeepInterval = 4,
    /// TCP_KEEPCNT.
    KeepCount = 5,
    /// IP_TTL, or the hop limit of IPv6.
    Ttl = 6,
    /// SO_ERROR: the pending errno, or 0; reading it clears it. Get only.
    Error = 7,
    /// SO_SNDBUF, in bytes. Linux doubles what is set.
    SendBuffer = 8,
    /// SO_RCVBUF, in bytes. Linux doubles what is set.
    ReceiveBuffer = 9,
    /// SO_LINGER: 0 off, else one more than the seconds.
    Linger = 10,
    /// TCP_USER_TIMEOUT, in milliseconds; 0 is the kernel's default.
    UserTimeout = 11,
}

impl SocketOption {
    /// The option of that number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::NoDelay,
            2 => Self::KeepAlive,
            3 => Self::KeepIdle,
            4 => Self::KeepInterval,
            5 => Self::KeepCount,
            6 => Self::Ttl,
            7 => Self::Error,
            8 => Self::SendBuffer,
            9 => Self::ReceiveBuffer,
            10 => Self::Linger,
            11 => Self::UserTimeout,
            _ => return None,
        })
    }
}
