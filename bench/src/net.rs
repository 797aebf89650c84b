//! What a workload needs of the system it runs on.

use crate::PIECE;
use crate::client::transfer;
use crate::wire::Header;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::net::SocketAddr;

/// Why a workload could not be done, as text: it only ever crosses a pipe to be
/// shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
    /// A failure that reads as `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// What turns an error into a failure that says what was being done.
    pub fn of<E: fmt::Display>(action: &str) -> impl FnOnce(E) -> Self {
        move |error| Self(alloc::format!("{action}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A system with clocks and TCP.
///
/// Blocking calls serve one connection at a time, tasks serve many. Connections
/// are used on the thread that opened them.
pub trait Net: Clone {
    /// A connection for blocking calls.
    type Stream: Stream;
    /// A listening socket for blocking calls.
    type Listener: Listener<Stream = Self::Stream>;
    /// A connection for tasks.
    type Connection: Connection;

    /// Nanoseconds of a monotonic clock.
    fn now(&self) -> u64;

    /// Nanoseconds since the Unix epoch.
    fn unix_now(&self) -> u64;

    /// Connects.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn connect(&self, address: SocketAddr) -> Result<Self::Stream, Failure>;

    /// Listens.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn listen(&self, address: SocketAddr) -> Result<Self::Listener, Failure>;

    /// Connects, for a task.
    fn open(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = Result<Self::Connection, Failure>> + Send + 'static;

    /// Makes one transfer in both directions at once over a new connection, in
    /// the way that is fastest here, and gives the nanoseconds it took. As two
    /// futures of one task, unless there is a faster one.
    ///
    /// # Errors
    ///
    /// If the connection fails, or bytes are missing at its end.
    fn transfer_both_ways(&self, address: SocketAddr, header: Header) -> Result<u64, Failure> {
        let opened = self.run_all(vec![self.open(address)]).pop();
        let connection = opened.ok_or_else(ended)??;
        let start = self.now();
        let task = async move { transfer::exchange(&connection, header, PIECE).await };
        let done = self.run_all(vec![task]).pop();
        done.ok_or_else(ended)??;
        Ok(self.now() - start)
    }

    /// Runs all of `tasks` at once, to their ends; the results are in order.
    fn run_all<F>(&self, tasks: Vec<F>) -> Vec<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static;
}

/// A connection for blocking calls.
pub trait Stream {
    /// Reads what is there, waiting for at least a byte; 0 is the end.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure>;

    /// Writes all of `bytes`.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Failure>;

    /// Fills the buffer.
    ///
    /// # Errors
    ///
    /// If the stream ends before that; what the system says.
    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), Failure> {
        let mut len = 0;
        while len < buffer.len() {
            match self.read(&mut buffer[len..])? {
                0 => return Err(ended()),
                count => len += count,
            }
        }
        Ok(())
    }
}

/// A listening socket for blocking calls.
pub trait Listener {
    /// What it accepts.
    type Stream: Stream;

    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// Waits for a connection.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn accept(&self) -> Result<Self::Stream, Failure>;
}

/// A connection for tasks. One task may read while another writes.
pub trait Connection: Send + Sync + 'static {
    /// As [`Stream::read`].
    fn read(&self, buffer: &mut [u8]) -> impl Future<Output = Result<usize, Failure>> + Send;

    /// Writes what there is room for, waiting for room for at least a byte.
    fn write(&self, bytes: &[u8]) -> impl Future<Output = Result<usize, Failure>> + Send;

    /// As [`Stream::write_all`].
    fn write_all(&self, mut bytes: &[u8]) -> impl Future<Output = Result<(), Failure>> + Send {
        async move {
            while !bytes.is_empty() {
                let count = self.write(bytes).await?;
                bytes = &bytes[count..];
            }
            Ok(())
        }
    }

    /// As [`Stream::read_exact`].
    fn read_exact(&self, buffer: &mut [u8]) -> impl Future<Output = Result<(), Failure>> + Send {
        async move {
            let mut len = 0;
            while len < buffer.len() {
                match self.read(&mut buffer[len..]).await? {
                    0 => return Err(ended()),
                    count => len += count,
                }
            }
            Ok(())
        }
    }
}

/// A stream that ended in the middle of something.
pub(crate) fn ended() -> Failure {
    Failure::new("the connection ended early")
}
