//! A connected socket for tasks.

use super::ArcaTcpStream;
use super::halves::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use super::handle::Handle;
use super::pipe_end::{PipeEnd, Take};
use super::stream_core::Shutdown;
use super::transfer::{read_methods, write_methods};
use crate::errno::Errno;
use crate::error::Error;
use crate::memory::ShmOffset;
use core::fmt;
use core::future::poll_fn;
use core::net::SocketAddr;

/// A connected socket on the host, for tasks: what waits in [`ArcaTcpStream`] is
/// a future here. Dropping the future of a [`AsyncTcpStream::read`] or a
/// [`AsyncTcpStream::write`] loses nothing: it moved no byte unless it was ready. One
/// that moves more than it can at once ([`AsyncTcpStream::read_exact`],
/// [`AsyncTcpStream::write_all`]) may have moved some.
///
/// ```
/// use arca_shared::error::Error;
/// use arca_shared::client::ArcaSession;
/// use core::net::SocketAddr;
/// use core::time::Duration;
///
/// /// The first bytes that a server says, if it does so within a second.
/// async fn banner(session: &ArcaSession, server: SocketAddr) -> Result<Vec<u8>, Error> {
///     let stream = session.connect_async(server).await?.into_async();
///     let mut buffer = vec![0; 256];
///     let read = stream.read(&mut buffer);
///     let len = session.timeout(Duration::from_secs(1), read).await?;
///     buffer.truncate(len);
///     Ok(buffer)
/// }
/// ```
pub struct AsyncTcpStream {
    pub(super) core: Handle,
}

impl ArcaTcpStream {
    /// The connection for tasks.
    #[must_use]
    pub fn into_async(self) -> AsyncTcpStream {
        AsyncTcpStream { core: self.core }
    }

    /// The two directions, to be used and dropped apart. Dropping the write half
    /// shuts sending down.
    #[must_use]
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        self.into_async().into_split()
    }
}

impl AsyncTcpStream {
    read_methods!([&] self);
    write_methods!([&] self);

    /// As [`ArcaTcpStream::peek`].
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpStream::read`].
    pub async fn peek(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        let end = &self.core.end;
        poll_fn(|context| end.poll_peek(context, buffer)).await
    }

    /// As [`ArcaTcpStream::send`].
    ///
    /// # Errors
    ///
    /// As [`AsyncTcpStream::write`].
    pub async fn send(&self, buffer: &[u8]) -> Result<(), Error> {
        let end = &self.core.end;
        // Of no bytes, one write still says whether the peer takes any.
        let result = match self.write(buffer).await {
            Ok(len) => self.write_all(&buffer[len..]).await,
            Err(error) => Err(error),
        };
        if result.is_err() && end.is_peer_read_closed() {
            end.close_write();
        }
        result
    }

    /// As [`ArcaTcpStream::recv`].
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpStream::recv`].
    pub async fn recv(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        let end = &self.core.end;
        let mut len = 0;
        while len < buffer.len() {
            let take = if len == 0 { Take::All } else { Take::Bytes };
            let rest = &mut buffer[len..];
            match poll_fn(|context| end.poll_take(context, rest, take)).await {
                Ok(0) => {
                    end.close_read();
                    break;
                }
                Ok(read) => len += read,
                Err(error) if len == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(len)
    }

    /// As [`ArcaTcpStream::shutdown`].
    ///
    /// # Errors
    ///
    /// ENOTCONN if the connection has failed.
    pub fn shutdown(&self, how: Shutdown) -> Result<(), Error> {
        self.core.shutdown(how)
    }

    /// As [`ArcaTcpStream::abort`].
    pub fn abort(&self) {
        self.core.end.abort();
    }

    /// The connection's local address, on the host.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.core.addresses().0
    }

    /// The peer's address.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.core.addresses().1
    }

    /// Where the connection's pipe is in the arena.
    #[must_use]
    pub fn shm_offset(&self) -> ShmOffset {
        self.core.end.shm_offset()
    }

    /// Another handle to the same connection.
    #[must_use]
    pub fn try_clone(&self) -> Self {
        Self {
            core: Handle::new(self.core.shared()),
        }
    }

    /// The pending error of the connection, which is then no longer pending.
    #[must_use]
    pub fn take_error(&self) -> Option<Errno> {
        self.core.end.take_error()
    }

    /// The Arca end of the pipe, for polling.
    #[must_use]
    pub fn end(&self) -> &PipeEnd {
        &self.core.end
    }

    /// The connection for blocking calls.
    #[must_use]
    pub fn into_sync(self) -> ArcaTcpStream {
        ArcaTcpStream { core: self.core }
    }

    /// The two directions, to be used and dropped apart.
    #[must_use]
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        let write = OwnedWriteHalf::new(self.core.shared());
        (OwnedReadHalf::new(self.core), write)
    }

    /// The two directions, borrowed.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        let (read, write) = self.core.split();
        (ReadHalf::new(read), WriteHalf::new(write))
    }
}

impl fmt::Debug for AsyncTcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.describe("AsyncTcpStream", f)
    }
}
