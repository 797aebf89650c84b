//! What the interpreter needs of the system it runs on.
//!
//! What may wait is a future. On a system that waits by blocking a thread, the
//! future blocks and is ready at its first poll.

use crate::op::{How, Seen};
use alloc::string::String;
use arca_shared::errno::Errno;
use arca_shared::error::Error;
use arca_shared::protocol::message::SocketOption;
use core::fmt;
use core::future::Future;
use core::net::SocketAddr;
use core::time::Duration;
use embedded_io_async::{ErrorKind, Read, Write};

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The system's errno.
    Errno(Errno),
    /// The stream ended before all that was wanted had come.
    UnexpectedEof,
    /// Something else, or something that this system cannot do.
    Other(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => write!(f, "error {errno:?}"),
            Self::UnexpectedEof => f.write_str("error unexpected end"),
            Self::Other(text) => write!(f, "error {text}"),
        }
    }
}

impl core::error::Error for Failure {}

impl embedded_io_async::Error for Failure {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Errno(errno) => errno.kind().into(),
            Self::UnexpectedEof | Self::Other(_) => ErrorKind::Other,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Os(errno) => Self::Errno(errno),
            Error::UnexpectedEof => Self::UnexpectedEof,
            Error::InvalidUtf8 => Self::Other("what was read is not UTF-8"),
            Error::SessionEnded => Self::Other("session ended"),
            Error::Protocol(text) => Self::Other(text),
        }
    }
}

/// What came of an operation: what is said, and what was made.
pub type Outcome<S> = (String, Made<S>);

/// The two halves of a stream.
pub type Halves<S> = (<S as System>::Reader, <S as System>::Writer);

/// What an operation made.
pub enum Made<S: System> {
    /// Nothing.
    Nothing,
    /// A stream of that name.
    Stream(String, S::Stream),
}

/// A system with TCP.
pub trait System: Clone + Send + Sync + Sized + 'static {
    /// A connected socket.
    type Stream: Stream<System = Self>;
    /// A listening socket.
    type Listener: Listener<System = Self>;
    /// The receiving half of a stream.
    type Reader: Read<Error: Into<Failure>> + Send + 'static;
    /// The sending half of a stream; dropping it shuts sending down.
    type Writer: Write<Error: Into<Failure>> + Send + 'static;
    /// An operation that goes on while others are done.
    type Job;

    /// The system as a job sees it.
    #[must_use]
    fn for_job(&self) -> Self {
        self.clone()
    }

    /// Connects, within that time if there is one.
    fn connect(
        &self,
        to: SocketAddr,
        within: Option<Duration>,
    ) -> impl Future<Output = Result<Self::Stream, Failure>> + Send;

    /// Connects to a host by its name.
    fn connect_name(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = Result<Self::Stream, Failure>> + Send;

    /// Listens.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn bind(&self, at: SocketAddr) -> Result<Self::Listener, Failure>;

    /// Does an operation to its end.
    fn run(&self, op: impl Future<Output = Outcome<Self>> + Send + 'static) -> Outcome<Self>;

    /// Waits for what borrows something.
    fn block<T>(&self, future: impl Future<Output = T>) -> T;

    /// Starts a job.
    fn start(&self, op: impl Future<Output = Outcome<Self>> + Send + 'static) -> Self::Job;

    /// Whether a job can do nothing but wait.
    fn waits(&self, job: &Self::Job) -> bool;

    /// Whether a job has ended.
    fn is_done(&self, job: &Self::Job) -> bool;

    /// Waits for a job's end.
    fn finish(&self, job: Self::Job) -> Outcome<Self>;

    /// Gives a job up; its outcome if it had ended before.
    ///
    /// # Errors
    ///
    /// If this system cannot.
    fn cancel(&self, job: Self::Job) -> Result<Option<Outcome<Self>>, Failure>;

    /// Lets others do something, before a condition is checked again.
    fn pause(&self);
}

/// A listening socket. A clone is another handle to it.
pub trait Listener: Clone + Send + Sync + 'static {
    /// The system it is of.
    type System: System;

    /// The handle for a job.
    #[must_use]
    fn for_job(&self) -> Self {
        self.clone()
    }

    /// Waits for a connection and gives it with its peer's address.
    fn accept(
        &self,
    ) -> impl Future<Output = Result<(<Self::System as System>::Stream, SocketAddr), Failure>> + Send;

    /// The next of the connections that come in.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn incoming(&self) -> Result<<Self::System as System>::Stream, Failure>;

    /// The address that it is bound to.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn local(&self) -> Result<SocketAddr, Failure>;

    /// Whether accept does not wait.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn set_nonblocking(&self, on: bool) -> Result<(), Failure>;

    /// Time to live of packets, set first if there is a value.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn ttl(&self, set: Option<u32>) -> Result<u32, Failure>;

    /// The pending error.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn take_error(&self) -> Result<Option<Errno>, Failure>;

    /// Sets an option.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn set_option(&self, option: SocketOption, value: u64) -> Result<(), Failure>;
}

/// A connected socket. A clone is the same handle for another place.
#[allow(
    clippy::missing_errors_doc,
    reason = "each call's error is what the system says"
)]
pub trait Stream: Clone + Send + Sync + 'static {
    /// The system it is of.
    type System: System;

    /// The handle for a job.
    #[must_use]
    fn for_job(&self) -> Self {
        self.clone()
    }

    /// Reads what is there, waiting for at least a byte; 0 is the end.
    fn read(&self, buffer: &mut [u8]) -> impl Future<Output = Result<usize, Failure>> + Send;

    /// As [`Stream::read`], leaving the bytes.
    fn peek(&self, buffer: &mut [u8]) -> impl Future<Output = Result<usize, Failure>> + Send;

    /// Fills the buffer.
    fn read_exact(&self, buffer: &mut [u8]) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Writes what there is room for.
    fn write(&self, bytes: &[u8]) -> impl Future<Output = Result<usize, Failure>> + Send;

    /// Writes all.
    fn write_all(&self, bytes: &[u8]) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Writes all, at least nothing; shuts sending down where that fails.
    fn send(&self, bytes: &[u8]) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Fills the buffer; less at the end, where it shuts receiving down, and before
    /// a failure that the next call gives.
    fn recv(&self, buffer: &mut [u8]) -> impl Future<Output = Result<usize, Failure>> + Send;

    /// Whether something was seen.
    fn has_seen(&self, seen: Seen) -> bool;

    /// Shuts a direction down.
    fn shutdown(&self, how: How) -> Result<(), Failure>;

    /// Makes the closing a reset, and lets the handle go.
    fn abort(self) -> Result<(), Failure>;

    /// Another handle, as the system makes one.
    fn try_clone(&self) -> Result<Self, Failure>;

    /// Its two halves.
    fn split(self) -> Result<Halves<Self::System>, Failure>;

    /// Whether calls do not wait.
    fn set_nonblocking(&self, on: bool) -> Result<(), Failure>;

    /// Whether small writes go out at once, set first if there is a value.
    fn nodelay(&self, set: Option<bool>) -> Result<bool, Failure>;

    /// Time to live of packets, set first if there is a value.
    fn ttl(&self, set: Option<u32>) -> Result<u32, Failure>;

    /// After how long without traffic the peer is probed.
    fn keepalive(&self) -> Result<Option<Duration>, Failure>;

    /// Sets [`Stream::keepalive`].
    fn set_keepalive(&self, idle: Option<Duration>) -> Result<(), Failure>;

    /// How long a read may wait.
    fn read_timeout(&self) -> Result<Option<Duration>, Failure>;

    /// Sets [`Stream::read_timeout`].
    fn set_read_timeout(&self, limit: Option<Duration>) -> Result<(), Failure>;

    /// How long a write may wait.
    fn write_timeout(&self) -> Result<Option<Duration>, Failure>;

    /// Sets [`Stream::write_timeout`].
    fn set_write_timeout(&self, limit: Option<Duration>) -> Result<(), Failure>;

    /// The pending error.
    fn take_error(&self) -> Result<Option<Errno>, Failure>;

    /// The value of an option.
    fn option(&self, option: SocketOption) -> Result<u64, Failure>;

    /// Sets an option.
    fn set_option(&self, option: SocketOption, value: u64) -> Result<(), Failure>;

    /// The local address.
    fn local(&self) -> Result<SocketAddr, Failure>;

    /// The peer's address.
    fn peer(&self) -> Result<SocketAddr, Failure>;
}
