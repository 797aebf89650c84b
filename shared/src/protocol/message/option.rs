//! Socket options on the wire.

use super::table::Field;
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

impl Field for Target {
    const SIZE: (usize, usize) = (5, 5);

    fn read(fields: &mut Fields<'_>) -> Result<Self, MessageError> {
        let (kind, id) = (u8::read(fields)?, u32::read(fields)?);
        match kind {
            1 => Ok(Self::Listener(id)),
            2 => Ok(Self::Connection(id)),
            other => Err(fields.bad(other)),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let (kind, id) = match self {
            Self::Listener(id) => (1u8, id),
            Self::Connection(id) => (2, id),
        };
        kind.write(writer);
        id.write(writer);
    }
}

/// Defines the options, each with its number on the wire.
macro_rules! options {
    ($($(#[$meta:meta])* $number:literal $option:ident),+ $(,)?) => {
        /// An option of a socket; its value on the wire is a u64.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum SocketOption {
            $($(#[$meta])* $option = $number),+
        }

        impl SocketOption {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$option),+];

            /// The option of that number.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$option),)+
                    _ => None,
                }
            }
        }
    };
}

options! {
    /// TCP_NODELAY: 0 or 1.
    1 NoDelay,
    /// SO_KEEPALIVE: 0 or 1.
    2 KeepAlive,
    /// TCP_KEEPIDLE, in seconds.
    3 KeepIdle,
    /// TCP_KEEPINTVL, in seconds.
    4 KeepInterval,
    /// TCP_KEEPCNT.
    5 KeepCount,
    /// IP_TTL, or the hop limit of IPv6.
    6 Ttl,
    /// SO_ERROR: the pending errno, or 0; reading it clears it. Get only.
    7 Error,
    /// SO_SNDBUF, in bytes. Linux doubles what is set.
    8 SendBuffer,
    /// SO_RCVBUF, in bytes. Linux doubles what is set.
    9 ReceiveBuffer,
    /// SO_LINGER: 0 off, else one more than the seconds.
    10 Linger,
    /// TCP_USER_TIMEOUT, in milliseconds; 0 is the kernel's default.
    11 UserTimeout,
}
