//! A connected socket, blocking.

use super::control_client::ControlClient;
use super::pipe_end::{PipeEnd, Take};
use super::stream_core::{Shutdown, StreamCore};
use crate::errno::Errno;
use crate::error::Error;
use crate::memory::ShmOffset;
use crate::protocol::message::{Address, ConnectionReady, SocketOption};
use alloc::sync::Arc;
use core::net::SocketAddr;
use core::time::Duration;

/// A connected socket on the host, used from Arca as `std::net::TcpStream` is.
///
/// All methods take `&self`: a stream may be used by several tasks at once, and
/// [`ArcaTcpStream::try_clone`] gives another handle. When the last is dropped
/// the connection closes as Linux's close(2) does: what was written still goes
/// out, but the peer is reset if received bytes were left unread.
///
/// ```
/// use arca_shared::errno::ErrorKind;
/// use arca_shared::error::Error;
/// use arca_shared::client::ArcaTcpStream;
///
/// /// Gives back what comes; whether the peer ended in order, not with a reset.
/// fn echo(stream: &ArcaTcpStream) -> Result<bool, Error> {
///     stream.set_nodelay(true)?;
///     let mut buffer = [0; 4096];
///     loop {
///         match stream.read(&mut buffer) {
///             Ok(0) => return Ok(true),
///             Ok(len) => stream.write_all(&buffer[..len])?,
///             Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(false),
///             Err(error) => return Err(error),
///         }
///     }
/// }
/// ```
pub struct ArcaTcpStream {
    pub(super) core: Arc<StreamCore>,
}

impl ArcaTcpStream {
    /// The connection that a reply of the monitor names.
    pub(super) fn join(
        control: &Arc<ControlClient>,
        ready: &ConnectionReady,
        local: Address,
        peer: Address,
    ) -> Result<Self, Error> {
        let end = PipeEnd::join(control.reactor(), ready.pipe)
            .map_err(|_| Error::Protocol("a pipe's place is not in the arena"))?;
        let id = ready.connection_id;
        let core = StreamCore::new(control.clone(), end, id, local.0, peer.0);
        Ok(Self {
            core: Arc::new(core),
        })
    }

    /// Reads what is there, waiting for at least one byte; 0 is the end of the
    /// stream (or an empty buffer).
    ///
    /// # Errors
    ///
    /// The connection's errno, once (ECONNRESET); EAGAIN if the stream is
    /// non-blocking, or the read timeout has passed.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.core.read(buffer, Take::All)
    }

    /// As [`ArcaTcpStream::read`], leaving the bytes to be read again.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpStream::read`].
    pub fn peek(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.core.peek(buffer)
    }

    /// Fills the buffer.
    ///
    /// # Errors
    ///
    /// [`Error::UnexpectedEof`] if the stream ends before that; else as
    /// [`ArcaTcpStream::read`].
    pub fn read_exact(&self, buffer: &mut [u8]) -> Result<(), Error> {
        let mut len = 0;
        while len < buffer.len() {
            match self.read(&mut buffer[len..])? {
                0 => return Err(Error::UnexpectedEof),
                read => len += read,
            }
        }
        Ok(())
    }

    /// Writes what there is room for, waiting for room for at least one byte.
    ///
    /// # Errors
    ///
    /// The connection's errno, once, and then EPIPE, when the peer takes no
    /// more; EAGAIN if the stream is non-blocking, or the write timeout has
    /// passed.
    pub fn write(&self, buffer: &[u8]) -> Result<usize, Error> {
        self.core.write(buffer)
    }

    /// Writes all of the buffer.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpStream::write`]; how much was written is then not known.
    pub fn write_all(&self, mut buffer: &[u8]) -> Result<(), Error> {
        while !buffer.is_empty() {
            let written = self.write(buffer)?;
            buffer = &buffer[written..];
        }
        Ok(())
    }

    /// The draft's send: all of `buffer`. If the peer has closed its read side,
    /// closes the write side, also where there is nothing to send.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpStream::write`]; EPIPE is the draft's WriteClosed.
    pub fn send(&self, buffer: &[u8]) -> Result<(), Error> {
        // Of no bytes, one write still says whether the peer takes any.
        let written = self.write(buffer);
        let result = written.and_then(|len| self.write_all(&buffer[len..]));
        if result.is_err() && self.core.end.is_peer_read_closed() {
            self.core.end.close_write();
        }
        result
    }

    /// The draft's recv: fills `buffer`. A short count means the end of the
    /// stream, and closes the read side; or it is what had come before an error,
    /// which the next call then gives.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpStream::read`], if no byte came before it.
    pub fn recv(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut len = 0;
        while len < buffer.len() {
            let take = if len == 0 { Take::All } else { Take::Bytes };
            match self.core.read(&mut buffer[len..], take) {
                Ok(0) => {
                    self.core.end.close_read();
                    break;
                }
                Ok(read) => len += read,
                Err(error) if len == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(len)
    }

    /// Shuts a direction down. What was written before still goes out; what was
    /// received before can still be read.
    ///
    /// # Errors
    ///
    /// ENOTCONN if the connection has failed.
    pub fn shutdown(&self, how: Shutdown) -> Result<(), Error> {
        self.core.shutdown(how)
    }

    /// Closes the connection abortively: the peer sees a reset, and what was
    /// written may be lost.
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
            core: self.core.clone(),
        }
    }

    /// Whether reads and writes return EAGAIN rather than wait.
    pub fn set_nonblocking(&self, nonblocking: bool) {
        self.core.set_nonblocking(nonblocking);
    }

    /// How long a read may wait.
    #[must_use]
    pub fn read_timeout(&self) -> Option<Duration> {
        self.core.read_timeout.get()
    }

    /// Sets how long a read may wait; it then gives EAGAIN.
    ///
    /// # Errors
    ///
    /// EINVAL for a zero duration, as in std.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> Result<(), Error> {
        self.core.read_timeout.set(timeout)
    }

    /// How long a write may wait.
    #[must_use]
    pub fn write_timeout(&self) -> Option<Duration> {
        self.core.write_timeout.get()
    }

    /// Sets how long a write may wait; it then gives EAGAIN.
    ///
    /// # Errors
    ///
    /// EINVAL for a zero duration, as in std.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> Result<(), Error> {
        self.core.write_timeout.set(timeout)
    }

    /// Whether small writes go out at once (TCP_NODELAY).
    ///
    /// # Errors
    ///
    /// The errno that getsockopt(2) gave on the host.
    pub fn nodelay(&self) -> Result<bool, Error> {
        Ok(self.core.get(SocketOption::NoDelay)? != 0)
    }

    /// Sets [`ArcaTcpStream::nodelay`].
    ///
    /// # Errors
    ///
    /// The errno that setsockopt(2) gave on the host.
    pub fn set_nodelay(&self, nodelay: bool) -> Result<(), Error> {
        self.core.set(SocketOption::NoDelay, nodelay.into())
    }

    /// After how long without traffic the peer is probed; `None` is never.
    ///
    /// # Errors
    ///
    /// The errno that getsockopt(2) gave on the host.
    pub fn keepalive(&self) -> Result<Option<Duration>, Error> {
        if self.core.get(SocketOption::KeepAlive)? == 0 {
            return Ok(None);
        }
        let idle = self.core.get(SocketOption::KeepIdle)?;
        Ok(Some(Duration::from_secs(idle)))
    }

    /// Sets [`ArcaTcpStream::keepalive`], in whole seconds, at least one.
    ///
    /// # Errors
    ///
    /// The errno that setsockopt(2) gave on the host.
    pub fn set_keepalive(&self, idle: Option<Duration>) -> Result<(), Error> {
        if let Some(idle) = idle {
            let seconds = idle.as_secs().max(1);
            self.core.set(SocketOption::KeepIdle, seconds)?;
        }
        self.core
            .set(SocketOption::KeepAlive, idle.is_some().into())
    }

    /// How long the peer may acknowledge nothing of what was sent, or take none of
    /// it, until the connection fails with ETIMEDOUT; `None` is the host's default.
    ///
    /// # Errors
    ///
    /// The errno that getsockopt(2) gave on the host.
    pub fn user_timeout(&self) -> Result<Option<Duration>, Error> {
        let millis = self.core.get(SocketOption::UserTimeout)?;
        Ok((millis != 0).then(|| Duration::from_millis(millis)))
    }

    /// Sets [`ArcaTcpStream::user_timeout`], in whole milliseconds, at least one.
    ///
    /// # Errors
    ///
    /// EINVAL for 2^31 milliseconds or more, else the errno that setsockopt(2) gave
    /// on the host.
    pub fn set_user_timeout(&self, limit: Option<Duration>) -> Result<(), Error> {
        let millis = limit.map_or(0, |limit| limit.as_millis().max(1));
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        self.core.set(SocketOption::UserTimeout, millis)
    }

    /// Time to live of outgoing packets.
    ///
    /// # Errors
    ///
    /// The errno that getsockopt(2) gave on the host.
    pub fn ttl(&self) -> Result<u32, Error> {
        let value = self.core.get(SocketOption::Ttl)?;
        Ok(u32::try_from(value).unwrap_or(u32::MAX))
    }

    /// Sets [`ArcaTcpStream::ttl`].
    ///
    /// # Errors
    ///
    /// The errno that setsockopt(2) gave on the host.
    pub fn set_ttl(&self, ttl: u32) -> Result<(), Error> {
        self.core.set(SocketOption::Ttl, ttl.into())
    }

    /// The value of any option, as the wire says it.
    ///
    /// # Errors
    ///
    /// The errno that getsockopt(2) gave on the host.
    pub fn option(&self, option: SocketOption) -> Result<u64, Error> {
        self.core.get(option)
    }

    /// Sets any option, as the wire says it.
    ///
    /// # Errors
    ///
    /// The errno that setsockopt(2) gave on the host.
    pub fn set_option(&self, option: SocketOption, value: u64) -> Result<(), Error> {
        self.core.set(option, value)
    }

    /// The pending error of the connection, which is then no longer pending.
    #[must_use]
    pub fn take_error(&self) -> Option<Errno> {
        self.core.end.take_error()
    }
}
