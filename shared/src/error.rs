//! What a call of the session or of a stream can fail with.

use crate::errno::{Errno, ErrorKind};
use crate::ring::InvalidCursor;

/// An error of a session, listener or stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The host's operating system said no; the same errno that a native
    /// program would have got.
    #[error("{0}")]
    Os(Errno),
    /// The stream ended before all that was wanted had come.
    #[error("unexpected end of stream")]
    UnexpectedEof,
    /// What was read as text is not UTF-8.
    #[error("the text that was read is not UTF-8")]
    InvalidUtf8,
    /// The session with the monitor is over.
    #[error("the session with the monitor has ended")]
    SessionEnded,
    /// The monitor sent what it must not.
    #[error("the monitor broke the protocol: {0}")]
    Protocol(&'static str),
}

impl Error {
    /// The kind, to match on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Os(errno) => errno.kind(),
            Self::UnexpectedEof => ErrorKind::UnexpectedEof,
            Self::InvalidUtf8 => ErrorKind::InvalidData,
            Self::SessionEnded => ErrorKind::SessionEnded,
            Self::Protocol(_) => ErrorKind::Other,
        }
    }

    /// The errno, if the host's operating system gave one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Os(errno) => Some(*errno),
            _ => None,
        }
    }

    /// Whether the operation would have had to wait.
    #[must_use]
    pub fn is_would_block(&self) -> bool {
        *self == Self::Os(Errno::EAGAIN)
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self::Os(errno)
    }
}

impl From<InvalidCursor> for Error {
    fn from(_: InvalidCursor) -> Self {
        Self::Protocol("a cursor of a ring cannot be true")
    }
}
