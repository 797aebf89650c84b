//! A connected socket for tasks, and its halves.

use super::ArcaTcpStream;
use super::pipe_end::{PipeEnd, Take};
use super::stream_core::{Shutdown, StreamCore};
use crate::error::Error;
use crate::memory::ShmOffset;
use alloc::sync::Arc;
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
    pub(super) core: Arc<StreamCore>,
}

/// The receiving direction of a stream.
pub struct OwnedReadHalf(Arc<StreamCore>);

/// The sending direction of a stream; dropping it shuts sending down.
pub struct OwnedWriteHalf(Arc<StreamCore>);

async fn read(end: &PipeEnd, buffer: &mut [u8]) -> Result<usize, Error> {
    poll_fn(|context| end.poll_read(context, buffer)).await
}

async fn read_exact(end: &PipeEnd, buffer: &mut [u8]) -> Result<(), Error> {
    let mut len = 0;
    while len < buffer.len() {
        match read(end, &mut buffer[len..]).await? {
            0 => return Err(Error::UnexpectedEof),
            read => len += read,
        }
    }
    Ok(())
}

async fn write(end: &PipeEnd, buffer: &[u8]) -> Result<usize, Error> {
    poll_fn(|context| end.poll_write(context, buffer)).await
}

async fn write_all(end: &PipeEnd, mut buffer: &[u8]) -> Result<(), Error> {
    while !buffer.is_empty() {
        let written = write(end, buffer).await?;
        buffer = &buffer[written..];
    }
    Ok(())
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
    /// As [`ArcaTcpStream::read`].
    ///
    /// # Errors
    ///
    /// The connection's errno, once.
    pub async fn read(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        read(&self.core.end, buffer).await
    }

    /// As [`ArcaTcpStream::read_exact`].
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpStream::read_exact`].
    pub async fn read_exact(&self, buffer: &mut [u8]) -> Result<(), Error> {
        read_exact(&self.core.end, buffer).await
    }

    /// As [`ArcaTcpStream::write`].
    ///
    /// # Errors
    ///
    /// The connection's errno, once, and then EPIPE.
    pub async fn write(&self, buffer: &[u8]) -> Result<usize, Error> {
        write(&self.core.end, buffer).await
    }

    /// As [`ArcaTcpStream::write_all`].
    ///
    /// # Errors
    ///
    /// As [`AsyncTcpStream::write`].
    pub async fn write_all(&self, buffer: &[u8]) -> Result<(), Error> {
        write_all(&self.core.end, buffer).await
    }

    /// As [`ArcaTcpStream::send`].
    ///
    /// # Errors
    ///
    /// As [`AsyncTcpStream::write`].
    pub async fn send(&self, buffer: &[u8]) -> Result<(), Error> {
        let end = &self.core.end;
        // Of no bytes, one write still says whether the peer takes any.
        let result = match write(end, buffer).await {
            Ok(len) => write_all(end, &buffer[len..]).await,
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
        (OwnedReadHalf(self.core.clone()), OwnedWriteHalf(self.core))
    }

    /// The two directions, borrowed.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        (ReadHalf(&self.core.end), WriteHalf(&self.core.end))
    }
}

/// The receiving direction of a stream, borrowed.
pub struct ReadHalf<'a>(&'a PipeEnd);

/// The sending direction of a stream, borrowed.
pub struct WriteHalf<'a>(&'a PipeEnd);

impl ReadHalf<'_> {
    /// As [`ArcaTcpStream::read`].
    ///
    /// # Errors
    ///
    /// The connection's errno, once.
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        read(self.0, buffer).await
    }

    /// As [`ArcaTcpStream::read_exact`].
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpStream::read_exact`].
    pub async fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        read_exact(self.0, buffer).await
    }
}

impl WriteHalf<'_> {
    /// As [`ArcaTcpStream::write`].
    ///
    /// # Errors
    ///
    /// As [`AsyncTcpStream::write`].
    pub async fn write(&mut self, buffer: &[u8]) -> Result<usize, Error> {
        write(self.0, buffer).await
    }

    /// As [`ArcaTcpStream::write_all`].
    ///
    /// # Errors
    ///
    /// As [`AsyncTcpStream::write`].
    pub async fn write_all(&mut self, buffer: &[u8]) -> Result<(), Error> {
        write_all(self.0, buffer).await
    }
}

impl OwnedReadHalf {
    /// As [`ArcaTcpStream::read`].
    ///
    /// # Errors
    ///
    /// The connection's errno, once.
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        read(&self.0.end, buffer).await
    }

    /// As [`ArcaTcpStream::read_exact`].
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpStream::read_exact`].
    pub async fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        read_exact(&self.0.end, buffer).await
    }

    /// The connection again, if `write` is its other half; else both as they
    /// were.
    ///
    /// # Errors
    ///
    /// The halves, if they are not of one stream.
    pub fn reunite(self, write: OwnedWriteHalf) -> Result<AsyncTcpStream, (Self, OwnedWriteHalf)> {
        if !Arc::ptr_eq(&self.0, &write.0) {
            return Err((self, write));
        }
        // Forgotten, so that it does not shut sending down; its count is taken
        // over by the stream, and the read half's is dropped.
        let core = write.0.clone();
        let write = core::mem::ManuallyDrop::new(write);
        // SAFETY: `write` is never used or dropped again, so that its reference
        // is given up exactly once.
        drop(unsafe { core::ptr::read(&write.0) });
        Ok(AsyncTcpStream { core })
    }
}

impl OwnedWriteHalf {
    /// As [`ArcaTcpStream::write`].
    ///
    /// # Errors
    ///
    /// As [`AsyncTcpStream::write`].
    pub async fn write(&mut self, buffer: &[u8]) -> Result<usize, Error> {
        write(&self.0.end, buffer).await
    }

    /// As [`ArcaTcpStream::write_all`].
    ///
    /// # Errors
    ///
    /// As [`AsyncTcpStream::write`].
    pub async fn write_all(&mut self, buffer: &[u8]) -> Result<(), Error> {
        write_all(&self.0.end, buffer).await
    }
}

impl Drop for OwnedWriteHalf {
    fn drop(&mut self) {
        self.0.end.close_write();
    }
}
