//! The streams of the draft: a pipe, and waiting for it.
//!
//! They need nothing but the pipe, and so know of nothing but the pipe: they mark
//! no slot and ring no doorbell. They are for a peer whose session is in polling
//! mode, as that of every peer that knows only the draft is. Sockets of a session
//! that sleeps and is woken are [`crate::client`]'s: `ArcaTcpStream` is there what
//! [`SyncStream`] is here, and `net::AsyncTcpStream` what [`AsyncStream`] is.

use super::{BidirectionalPipe, Incomplete, Read, Write};
use crate::memory::ShmOffset;
use crate::ring::RingError;
use core::future::poll_fn;
use core::task::Poll;

/// What both streams are made of. Dropping it closes what is open.
#[derive(Debug)]
struct Ends(BidirectionalPipe);

impl Ends {
    /// Whether sending makes sense: closes our writer if the peer's reader is.
    fn before_send(&mut self) -> Result<(), Incomplete> {
        let closed = Incomplete {
            moved: 0,
            reason: RingError::WriteClosed,
        };
        if self.0.outgoing().is_closed() {
            return Err(closed);
        }
        match self.0.is_peer_read_closed() {
            true => self.after_send(Err(closed)),
            false => Ok(()),
        }
    }

    fn after_send(&mut self, result: Result<(), Incomplete>) -> Result<(), Incomplete> {
        if result.is_err_and(|error| error.reason == RingError::WriteClosed) {
            self.close_write();
        }
        result
    }

    /// What came of filling a buffer of `wanted` bytes. The end of the stream
    /// closes our reader. Bytes before a failure count: it is met again.
    fn after_recv(
        &mut self,
        wanted: usize,
        result: Result<usize, Incomplete>,
    ) -> Result<usize, RingError> {
        match result {
            Ok(len) => {
                if len < wanted {
                    self.close_read();
                }
                Ok(len)
            }
            Err(Incomplete { moved: 0, reason }) => Err(reason),
            Err(Incomplete { moved, .. }) => Ok(moved),
        }
    }

    fn close_write(&mut self) {
        if !self.0.outgoing().is_closed() {
            self.0.close_write();
        }
    }

    fn close_read(&mut self) {
        if !self.0.incoming().is_closed() {
            self.0.close_read();
        }
    }

    fn reads_no_more(&mut self) -> bool {
        self.0.incoming().is_closed()
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.close_write();
        self.close_read();
    }
}

/// What is the same in both streams.
macro_rules! common {
    ($stream:ident) => {
        impl $stream {
            /// A stream over a pipe. Dropping it closes what is open.
            #[must_use]
            pub fn new(pipe: BidirectionalPipe) -> Self {
                Self(Ends(pipe))
            }

            /// Says that this side writes no more.
            pub fn close_write(&mut self) {
                self.0.close_write();
            }

            /// Says that this side reads no more.
            pub fn close_read(&mut self) {
                self.0.close_read();
            }

            /// Whether both rings are closed by both sides. Not to be called in a
            /// session that has said hello once this side has set its last flag: the
            /// region may be another pipe's by then.
            pub fn is_closed(&mut self) -> bool {
                self.0.0.is_closed()
            }

            /// Where the pipe is in the arena.
            #[must_use]
            pub fn shm_offset(&self) -> ShmOffset {
                self.0.0.shm_offset()
            }
        }

        impl From<BidirectionalPipe> for $stream {
            fn from(pipe: BidirectionalPipe) -> Self {
                Self::new(pipe)
            }
        }
    };
}

/// A pipe with calls that wait, as the pipe itself does: it spins.
///
/// ```
/// use arca_shared::memory::Arena;
/// use arca_shared::pipe::PipePlace;
/// use arca_shared::pipe::{BidirectionalPipe, PipeError, Side, SyncStream};
/// use arca_shared::ring::RingError;
///
/// /// Asks, and gives the first bytes of the answer; fewer than asked for if the
/// /// peer has no more to say.
/// fn ask(arena: &Arena, place: PipePlace, answer: &mut [u8]) -> Result<usize, RingError> {
///     let Ok(pipe) = BidirectionalPipe::join(arena, place, Side::A) else {
///         return Ok(0);
///     };
///     let mut stream = SyncStream::new(pipe);
///     stream.send(b"how much?").map_err(|unsent| unsent.reason)?;
///     stream.close_write();
///     stream.recv(answer)
/// }
/// ```
#[derive(Debug)]
pub struct SyncStream(Ends);

common!(SyncStream);

impl SyncStream {
    /// Sends all of `buffer`, waiting for room. If the peer reads no more, this
    /// side's writer is closed.
    ///
    /// # Errors
    ///
    /// [`Incomplete`], with how much was taken: [`RingError::WriteClosed`], also
    /// for an empty buffer, or [`RingError::InvalidCursor`].
    pub fn send(&mut self, buffer: &[u8]) -> Result<(), Incomplete> {
        self.0.before_send()?;
        let result = self.0.0.write_all(buffer);
        self.0.after_send(result)
    }

    /// Fills `buffer`, waiting for bytes. A short count is the end of the stream,
    /// and closes this side's reader; after that it is 0.
    ///
    /// # Errors
    ///
    /// [`RingError::InvalidCursor`], after the bytes that came before it.
    pub fn recv(&mut self, buffer: &mut [u8]) -> Result<usize, RingError> {
        if self.0.reads_no_more() {
            return Ok(0);
        }
        let result = self.0.0.read_full(buffer);
        self.0.after_recv(buffer.len(), result)
    }

    /// Reads what is there, waiting for at least one byte; 0 is the end of the
    /// stream, or an empty buffer.
    ///
    /// # Errors
    ///
    /// [`RingError::InvalidCursor`].
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, RingError> {
        if self.0.reads_no_more() {
            return Ok(0);
        }
        self.0.0.read_some(buffer)
    }
}

/// A pipe for tasks. Nothing tells it of a change: a future that is not ready
/// wants to be polled again when the others have had their turn. One that is
/// dropped may have moved some bytes.
#[derive(Debug)]
pub struct AsyncStream(Ends);

common!(AsyncStream);

impl AsyncStream {
    /// As [`SyncStream::send`].
    ///
    /// # Errors
    ///
    /// As [`SyncStream::send`].
    pub async fn send(&mut self, buffer: &[u8]) -> Result<(), Incomplete> {
        self.0.before_send()?;
        let (pipe, mut moved) = (&mut self.0.0, 0);
        let result = poll_fn(|context| {
            while moved < buffer.len() {
                match pipe.write(&buffer[moved..]) {
                    Ok(len) => moved += len,
                    Err(RingError::WouldBlock) => {
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Err(reason) => return Poll::Ready(Err(Incomplete { moved, reason })),
                }
            }
            Poll::Ready(Ok(()))
        });
        let result = result.await;
        self.0.after_send(result)
    }

    /// As [`SyncStream::recv`].
    ///
    /// # Errors
    ///
    /// As [`SyncStream::recv`].
    pub async fn recv(&mut self, buffer: &mut [u8]) -> Result<usize, RingError> {
        let mut moved = 0;
        while moved < buffer.len() {
            match self.read(&mut buffer[moved..]).await {
                Ok(0) => break,
                Ok(len) => moved += len,
                Err(reason) => return self.0.after_recv(0, Err(Incomplete { moved, reason })),
            }
        }
        self.0.after_recv(buffer.len(), Ok(moved))
    }

    /// As [`SyncStream::read`].
    ///
    /// # Errors
    ///
    /// As [`SyncStream::read`].
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, RingError> {
        if self.0.reads_no_more() {
            return Ok(0);
        }
        let pipe = &mut self.0.0;
        poll_fn(|context| {
            match pipe.read(buffer) {
                Err(RingError::WouldBlock) => {}
                result => return Poll::Ready(result),
            }
            match pipe.incoming().is_at_end() {
                Ok(true) => Poll::Ready(Ok(0)),
                Ok(false) => {
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
                Err(invalid) => Poll::Ready(Err(invalid.into())),
            }
        })
        .await
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
