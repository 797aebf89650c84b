//! A connected socket, blocking.

use super::control_client::ControlClient;
use super::handle::{self, Handle};
use super::pipe_end::{PipeEnd, Take};
use super::stream_core::{Shutdown, StreamCore};
use super::transfer::{append, append_until, line, text};
use crate::errno::Errno;
use crate::error::Error;
use crate::memory::ShmOffset;
use crate::protocol::message::{Address, ConnectionReady};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
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
    pub(super) core: Handle,
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
            core: Handle::new(Arc::new(core)),
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

    /// As [`ArcaTcpStream::read`], into several buffers, one after the other.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpStream::read`].
    pub fn read_vectored(&self, buffers: &mut [&mut [u8]]) -> Result<usize, Error> {
        self.core.read_vectored(buffers)
    }

    /// Lends the bytes that are there, where they are: in the ring, as many as lie in
    /// one piece. Waits for at least one; none is the end of the stream.
    /// [`ArcaTcpStream::consume`] says how many of them were read.
    ///
    /// Nothing is copied. What is lent are bytes of shared memory: a host that breaks
    /// the protocol could change them while they are looked at. A program that is to
    /// withstand even that copies what it checks before it uses it.
    ///
    /// Until they are given back, by `consume` or by the next use of this handle, reads
    /// through other handles wait, and so does their closing of this direction.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpStream::read`].
    pub fn fill_buf(&mut self) -> Result<&[u8], Error> {
        handle::fill(&mut self.core)
    }

    /// Marks `len` of the bytes that [`ArcaTcpStream::fill_buf`] lent as read, and gives
    /// all back; more than were lent is cut.
    pub fn consume(&mut self, len: usize) {
        self.core.consume(len);
    }

    /// Calls `parse` with the bytes that are there, where they are, as
    /// [`ArcaTcpStream::fill_buf`] lends them; it says how many of them were read.
    /// Gives that number.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpStream::read`].
    pub fn read_with(&self, parse: impl FnOnce(&[u8]) -> usize) -> Result<usize, Error> {
        let lent = self.core.read_in_place()?;
        let len = parse(&lent).min(lent.len());
        lent.consume(len);
        Ok(len)
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

    /// Appends everything up to the end of the stream to `bytes`, and says how many
    /// bytes that were.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpStream::read`]; what came before it is in `bytes`.
    pub fn read_to_end(&self, bytes: &mut Vec<u8>) -> Result<usize, Error> {
        let before = bytes.len();
        while self.read_with(|piece| append(bytes, piece))? > 0 {}
        Ok(bytes.len() - before)
    }

    /// Everything up to the end of the stream, as text.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUtf8`] if it is not UTF-8; else as [`ArcaTcpStream::read`].
    pub fn read_to_string(&self) -> Result<String, Error> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        text(bytes)
    }

    /// Appends everything up to the first byte `last`, and that, to `bytes`, and says
    /// how many bytes that were; the end of the stream may come before it.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpStream::read`]; what came before it is in `bytes`.
    pub fn read_until(&self, last: u8, bytes: &mut Vec<u8>) -> Result<usize, Error> {
        let before = bytes.len();
        let mut found = false;
        while !found && self.read_with(|piece| append_until(last, bytes, piece, &mut found))? > 0 {}
        Ok(bytes.len() - before)
    }

    /// The next line, without its line end; none at the end of the stream. The ring is
    /// the buffer: nothing is read ahead of it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUtf8`] if it is not UTF-8; else as [`ArcaTcpStream::read`].
    pub fn next_line(&self) -> Result<Option<String>, Error> {
        let mut bytes = Vec::new();
        self.read_until(b'\n', &mut bytes)?;
        line(bytes)
    }

    /// The lines to come, without their line ends.
    pub fn lines(&self) -> impl Iterator<Item = Result<String, Error>> + '_ {
        core::iter::from_fn(|| self.next_line().transpose())
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

    /// As [`ArcaTcpStream::write`], from several buffers, one after the other, of which
    /// the monitor is notified once.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpStream::write`].
    pub fn write_vectored(&self, buffers: &[&[u8]]) -> Result<usize, Error> {
        self.core.write_vectored(buffers)
    }

    /// Calls `generate` with the room that there is, where it is: in the ring, as much
    /// as lies in one piece, at least a byte and at most 256 KiB. It holds what it held before.
    /// `generate` says how many bytes it put there, from the start; more than there is
    /// room for is cut. Gives that number. Nothing is copied.
    ///
    /// Until `generate` returns, other writes to this stream wait; one from within it
    /// would wait for ever.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpStream::write`].
    pub fn write_with(&self, generate: impl FnOnce(&mut [u8]) -> usize) -> Result<usize, Error> {
        let mut room = self.core.write_in_place()?;
        let len = generate(&mut room).min(room.len());
        room.commit(len);
        Ok(len)
    }

    /// What `write!` calls: writes formatted text, as a whole.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpStream::write_all`].
    pub fn write_fmt(&self, text: fmt::Arguments<'_>) -> Result<(), Error> {
        match text.as_str() {
            Some(text) => self.write_all(text.as_bytes()),
            None => self.write_all(text.to_string().as_bytes()),
        }
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
            core: Handle::new(self.core.shared()),
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

    /// The pending error of the connection, which is then no longer pending.
    #[must_use]
    pub fn take_error(&self) -> Option<Errno> {
        self.core.end.take_error()
    }
}

impl fmt::Write for ArcaTcpStream {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write_all(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

impl fmt::Debug for ArcaTcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.describe("TcpStream", f)
    }
}
