//! Error numbers, as Linux counts them: what the wire carries.

use core::fmt;

/// A Linux errno. 1 stands for "no number known", as on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(pub u32);

macro_rules! errnos {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        #[allow(missing_docs, reason = "the text beside each is its documentation")]
        impl Errno {
            $(pub const $name: Self = Self($number);)*

            /// The name in Linux's headers, or an empty string for a number
            /// that is not among those this crate knows.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                    _ => "",
                }
            }

            /// What it means, in a few lower-case words.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    _ => "operating system error",
                }
            }
        }
    };
}

errnos! {
    UNKNOWN = 1, "operation failed for a reason that has no number";
    ENOENT = 2, "no such name";
    EINTR = 4, "interrupted";
    EIO = 5, "input or output error";
    EBADF = 9, "bad descriptor: no such listener, connection or open file";
    EAGAIN = 11, "operation would block";
    ENOMEM = 12, "out of memory";
    EACCES = 13, "permission denied by the host";
    EISDIR = 21, "is a directory";
    EINVAL = 22, "invalid argument";
    ENFILE = 23, "too many connections or listeners";
    EMFILE = 24, "too many open files on the host";
    EFBIG = 27, "file too large";
    ENOSPC = 28, "no space left on the host's device";
    EPIPE = 32, "broken pipe";
    ENOSYS = 38, "not supported by the host";
    EPROTO = 71, "protocol error";
    ENOTSOCK = 88, "not a socket";
    ENOPROTOOPT = 92, "no such socket option";
    EOPNOTSUPP = 95, "operation not supported";
    EAFNOSUPPORT = 97, "address family not supported";
    EADDRINUSE = 98, "address in use";
    EADDRNOTAVAIL = 99, "address not available";
    ENETDOWN = 100, "network is down";
    ENETUNREACH = 101, "network unreachable";
    ECONNABORTED = 103, "connection aborted";
    ECONNRESET = 104, "connection reset by peer";
    ENOBUFS = 105, "no buffer space left";
    ENOTCONN = 107, "not connected";
    ETIMEDOUT = 110, "timed out";
    ECONNREFUSED = 111, "connection refused";
    EHOSTUNREACH = 113, "host unreachable";
    EALREADY = 114, "operation already in progress";
    EINPROGRESS = 115, "operation in progress";
    ECANCELED = 125, "request cancelled";
}

/// What went wrong, in kinds that a program can match on. They mirror
/// `std::io::ErrorKind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The peer refused the connection.
    ConnectionRefused,
    /// The peer reset the connection.
    ConnectionReset,
    /// The connection was ended before it was accepted.
    ConnectionAborted,
    /// The stream is not connected.
    NotConnected,
    /// The address is in use.
    AddrInUse,
    /// The address is not one of the host's.
    AddrNotAvailable,
    /// The network cannot be reached, or is down.
    NetworkUnreachable,
    /// The host cannot be reached.
    HostUnreachable,
    /// The other side does not read any more.
    BrokenPipe,
    /// The operation would have to wait.
    WouldBlock,
    /// A parameter is not valid.
    InvalidInput,
    /// The time allowed has passed.
    TimedOut,
    /// The host's policy does not allow it.
    PermissionDenied,
    /// The host cannot do this.
    Unsupported,
    /// The stream ended before all that was wanted had come.
    UnexpectedEof,
    /// What was read is not what it should be.
    InvalidData,
    /// Nothing is there by that name or id.
    NotFound,
    /// The host has no room, or no room for this session, left.
    OutOfMemory,
    /// The request was cancelled.
    Cancelled,
    /// The session with the monitor is over.
    SessionEnded,
    /// Anything else; the errno says more.
    Other,
}

impl Errno {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match *self {
            Self::ECONNREFUSED => ErrorKind::ConnectionRefused,
            Self::ECONNRESET => ErrorKind::ConnectionReset,
            Self::ECONNABORTED => ErrorKind::ConnectionAborted,
            Self::ENOTCONN => ErrorKind::NotConnected,
            Self::EADDRINUSE => ErrorKind::AddrInUse,
            Self::EADDRNOTAVAIL => ErrorKind::AddrNotAvailable,
            Self::ENETUNREACH | Self::ENETDOWN => ErrorKind::NetworkUnreachable,
            Self::EHOSTUNREACH => ErrorKind::HostUnreachable,
            Self::EPIPE => ErrorKind::BrokenPipe,
            Self::EAGAIN => ErrorKind::WouldBlock,
            Self::EINVAL => ErrorKind::InvalidInput,
            Self::ETIMEDOUT => ErrorKind::TimedOut,
            Self::EACCES => ErrorKind::PermissionDenied,
            Self::ENOSYS | Self::EOPNOTSUPP | Self::ENOPROTOOPT | Self::EAFNOSUPPORT => {
                ErrorKind::Unsupported
            }
            Self::EBADF | Self::ENOENT => ErrorKind::NotFound,
            Self::ENOMEM | Self::ENOBUFS | Self::ENFILE | Self::EMFILE => ErrorKind::OutOfMemory,
            Self::ECANCELED => ErrorKind::Cancelled,
            _ => ErrorKind::Other,
        }
    }
}

impl core::error::Error for Errno {}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            "" => write!(f, "{} {}", self.text(), self.0),
            _ => f.write_str(self.text()),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            "" => write!(f, "Errno({})", self.0),
            name => f.write_str(name),
        }
    }
}
