//! The Arca end of a pipe: side A, with waiting.
//!
//! Both halves can be used at once, by any task on any vCPU. A half is dropped
//! when it closes, and the slot is given up before the last flag is set: after
//! that the region may be another pipe's, and nothing here reaches it any more.
//! What a half has lent out of its ring (`lending`) keeps it from closing, and from
//! being used by anyone else, until that is given back.

mod closing;
mod lending;
mod waiting;

use lending::Lending;
pub(super) use lending::{Lent, Piece, Room};

use crate::client::reactor::{OnReady, Reactor};
use crate::client::waiters::Waiters;
use crate::errno::Errno;
use crate::error::Error;
use crate::memory::ShmOffset;
use crate::notify::Slot;
use crate::pipe::{BidirectionalPipe, PipeError, PipePlace, Side};
use crate::ring::{ArenaRing, Consumer, Producer, RingError};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use spin::Mutex;

/// The Arca end of one pipe. Dropping it closes both directions: orderly, but
/// abortively where received bytes were left unread.
pub struct PipeEnd {
    reactor: Arc<Reactor>,
    events: Arc<Events>,
    slot: Slot,
    place: PipePlace,
    /// Locked before `input` where both are.
    output: Mutex<Output>,
    input: Mutex<Input>,
    /// An errno was reported once; as on Linux, what follows sees a plain end.
    reported: AtomicBool,
}

/// What happened in the pipe's slot, for those who wait.
#[derive(Default)]
struct Events {
    readers: Waiters,
    writers: Waiters,
}

impl OnReady for Events {
    fn ready(&self) {
        self.readers.wake();
        self.writers.wake();
    }
}

/// What a read takes out of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Take {
    /// Bytes, and at their end the connection's errno.
    All,
    /// No bytes, but the errno.
    Errno,
    /// Bytes; the errno is reported, and stays to be taken by the next read. For what
    /// follows bytes that one call has taken already.
    Bytes,
    /// Neither: only whether a read would have to wait.
    Nothing,
}

impl Take {
    fn bytes(self) -> bool {
        matches!(self, Self::All | Self::Bytes)
    }

    fn errno(self) -> bool {
        matches!(self, Self::All | Self::Errno)
    }
}

/// The half that writes ring A.
struct Output {
    /// `None` when closed.
    ring: Option<Producer<ArenaRing>>,
    lending: Lending,
}

/// The half that reads ring B.
struct Input {
    /// `None` when closed.
    ring: Option<Consumer<ArenaRing>>,
    /// Bytes taken since this side last had to wait.
    since_wait: usize,
    /// What was in the ring when this side shut its reading down.
    left: VecDeque<u8>,
    lending: Lending,
}

impl PipeEnd {
    /// Joins the pipe at `place`, which the monitor named.
    ///
    /// # Errors
    ///
    /// [`PipeError`] if the place cannot be one of a pipe.
    pub fn join(reactor: &Arc<Reactor>, place: PipePlace) -> Result<Self, PipeError> {
        let pipe = BidirectionalPipe::join(reactor.arena(), place, Side::A)?;
        let slot = Slot::from(pipe.shm_offset());
        let events = Arc::new(Events::default());
        reactor.register(slot, events.clone());
        let (output, input) = pipe.into_split();
        Ok(Self {
            reactor: reactor.clone(),
            events,
            slot,
            place,
            output: Mutex::new(Output {
                ring: Some(output),
                lending: Lending::default(),
            }),
            input: Mutex::new(Input {
                ring: Some(input),
                since_wait: 0,
                left: VecDeque::new(),
                lending: Lending::default(),
            }),
            reported: AtomicBool::new(false),
        })
    }

    /// Where the pipe is in the arena.
    #[must_use]
    pub fn shm_offset(&self) -> ShmOffset {
        ShmOffset(self.place.shm_offset)
    }

    /// Where the pipe is in the arena, and how large.
    #[must_use]
    pub fn place(&self) -> PipePlace {
        self.place
    }

    /// The reactor that this end waits with.
    #[must_use]
    pub fn reactor(&self) -> &Arc<Reactor> {
        &self.reactor
    }

    fn notify(&self) {
        self.reactor.notify_monitor(self.slot);
    }

    /// The errno of a connection that failed: once, then `None`.
    fn report(&self, errno: u32) -> Option<Error> {
        // Relaxed: the flag orders nothing; whoever swaps first reports.
        let first = errno != 0 && !self.reported.swap(true, Ordering::Relaxed);
        first.then_some(Error::Os(Errno(errno)))
    }

    /// As [`PipeEnd::report`], leaving the errno to be reported.
    fn peek_report(&self, errno: u32) -> Option<Error> {
        // Relaxed: as above.
        let first = errno != 0 && !self.reported.load(Ordering::Relaxed);
        first.then_some(Error::Os(Errno(errno)))
    }

    /// The pending errno of the connection, which is then no longer pending.
    pub fn take_error(&self) -> Option<Errno> {
        let mut output = self.output.lock();
        let mut input = self.input.lock();
        let errno = Self::failure(&mut output, &mut input);
        self.report(errno).and_then(|error| error.errno())
    }

    /// Whether the connection ended with an errno.
    pub fn has_failed(&self) -> bool {
        let mut output = self.output.lock();
        let mut input = self.input.lock();
        Self::failure(&mut output, &mut input) != 0
    }

    /// The errno that one of the halves ended with, or 0.
    fn failure(output: &mut Output, input: &mut Input) -> u32 {
        let ended = output.ring.as_mut().is_some_and(Producer::is_reader_closed)
            || input.ring.as_mut().is_some_and(Consumer::is_writer_closed);
        if ended {
            Self::errno_of(output, input)
        } else {
            0
        }
    }

    /// The errno in header B. One of the halves is open, so that the region is
    /// still this pipe's.
    fn errno_of(output: &Output, input: &Input) -> u32 {
        match (&input.ring, &output.ring) {
            (Some(ring), _) => ring.errno(),
            (None, Some(ring)) => ring.peer_errno(),
            (None, None) => 0,
        }
    }

    /// Takes what is there, up to `buffer.len()` bytes; 0 is the end of the
    /// stream (or an empty buffer).
    ///
    /// # Errors
    ///
    /// EAGAIN if nothing is there yet; the connection's errno, once.
    pub fn try_read(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.take(buffer, Take::All)
    }

    /// As [`PipeEnd::try_read`], leaving the bytes where they are.
    ///
    /// # Errors
    ///
    /// As [`PipeEnd::try_read`].
    pub fn try_peek(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.take(buffer, Take::Errno)
    }

    /// How many bytes there are to read, looking again if fewer than `wanted` were
    /// there the last time; 0 is the end of the stream. EAGAIN if nothing is there
    /// yet, or it is lent out.
    fn front(&self, input: &mut Input, wanted: usize, take: Take) -> Result<usize, Error> {
        if input.lending.refuses() {
            return Err(Errno::EAGAIN.into());
        }
        let Some(ring) = &mut input.ring else {
            return Ok(input.left.len());
        };
        let mut there = ring.available_for(wanted)?;
        if there == 0 && ring.is_writer_closed() {
            // Once more, after the flag: the last bytes may have come since.
            there = ring.available()?;
            if there == 0 {
                let errno = ring.errno();
                if errno == Errno::EPIPE.0 {
                    // The peer ended its stream before the connection failed: only
                    // sending has.
                    return Ok(0);
                }
                let error = match take.errno() {
                    true => self.report(errno),
                    false => self.peek_report(errno),
                };
                return error.map_or(Ok(0), Err);
            }
        }
        match there {
            0 => Err(Errno::EAGAIN.into()),
            _ => Ok(there),
        }
    }

    pub(super) fn take(&self, buffer: &mut [u8], take: Take) -> Result<usize, Error> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut input = self.input.lock();
        if self.front(&mut input, buffer.len(), take)? == 0 {
            return Ok(0);
        }
        let len = input.copy_to(buffer)?;
        let wanted = take.bytes() && input.consume(len);
        drop(input);
        if wanted {
            self.notify();
        }
        Ok(len)
    }

    /// Takes what is there into several buffers, one after the other.
    ///
    /// # Errors
    ///
    /// As [`PipeEnd::try_read`].
    pub fn try_read_vectored(&self, buffers: &mut [&mut [u8]]) -> Result<usize, Error> {
        let wanted = buffers.iter().map(|buffer| buffer.len()).sum();
        if wanted == 0 {
            return Ok(0);
        }
        let mut input = self.input.lock();
        if self.front(&mut input, wanted, Take::All)? == 0 {
            return Ok(0);
        }
        let (mut moved, mut notify) = (0, false);
        for buffer in buffers.iter_mut().filter(|buffer| !buffer.is_empty()) {
            // Of a ring that is empty by now, or breaks here, the next read tells.
            let len = input.copy_to(buffer).unwrap_or(0);
            notify |= input.consume(len);
            moved += len;
            if len < buffer.len() {
                break;
            }
        }
        drop(input);
        if notify {
            self.notify();
        }
        Ok(moved)
    }

    /// Whether a read would not have to wait, be it that it would fail.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        let front = self.front(&mut self.input.lock(), 1, Take::Nothing);
        !front.is_err_and(|error| error.is_would_block())
    }

    /// Whether a write would not have to wait, be it that it would fail.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        let output = &mut *self.output.lock();
        let Some(ring) = &mut output.ring else {
            return true;
        };
        !output.lending.refuses()
            && (ring.is_reader_closed() || ring.free_for(1).is_ok_and(|room| room > 0))
    }

    /// Puts as much of `buffer` as there is room for.
    ///
    /// # Errors
    ///
    /// EAGAIN if there is no room; once the other side reads no more, the
    /// connection's errno, once, and then EPIPE.
    pub fn try_write(&self, buffer: &[u8]) -> Result<usize, Error> {
        self.put(|ring| ring.write(buffer))
    }

    /// Puts as much of several buffers as there is room for, one after the other and
    /// with one notification.
    ///
    /// # Errors
    ///
    /// As [`PipeEnd::try_write`].
    pub fn try_write_vectored(&self, buffers: &[&[u8]]) -> Result<usize, Error> {
        self.put(|ring| {
            let mut moved = 0;
            for buffer in buffers.iter().filter(|buffer| !buffer.is_empty()) {
                match ring.write(buffer) {
                    Ok(len) => moved += len,
                    Err(error) if moved == 0 => return Err(error),
                    // The next write meets it again.
                    Err(_) => break,
                }
                if ring.free_for(1) == Ok(0) {
                    break;
                }
            }
            Ok(moved)
        })
    }

    /// Puts bytes with `put`, and notifies the other side of them.
    fn put(
        &self,
        put: impl FnOnce(&mut Producer<ArenaRing>) -> Result<usize, RingError>,
    ) -> Result<usize, Error> {
        let mut output = self.output.lock();
        let len = put(output.ring()?).map_err(|error| self.refused(&output, error))?;
        drop(output);
        if len > 0 {
            self.notify();
        }
        Ok(len)
    }

    /// What a writer is told of a ring that did not take anything.
    fn refused(&self, output: &Output, error: RingError) -> Error {
        match error {
            RingError::WouldBlock => Errno::EAGAIN.into(),
            RingError::WriteClosed => {
                let errno = output.ring.as_ref().map_or(0, Producer::peer_errno);
                self.report(errno).unwrap_or(Errno::EPIPE.into())
            }
            RingError::InvalidCursor(invalid) => invalid.into(),
        }
    }

    /// Whether the other side has taken everything that was written.
    ///
    /// # Errors
    ///
    /// EAGAIN if it has not yet; as [`PipeEnd::try_write`] once it takes no more.
    fn try_flush(&self) -> Result<(), Error> {
        let mut output = self.output.lock();
        let ring = output.ring()?;
        let closed = ring.is_reader_closed();
        if ring.free()? == ring.capacity() {
            return Ok(());
        }
        let error = match closed {
            true => RingError::WriteClosed,
            false => RingError::WouldBlock,
        };
        Err(self.refused(&output, error))
    }

    /// Whether the other side reads no more.
    pub fn is_peer_read_closed(&self) -> bool {
        let mut output = self.output.lock();
        output.ring.as_mut().is_none_or(Producer::is_reader_closed)
    }

    /// Whether the other side writes no more. Bytes may still be left to read.
    pub fn is_peer_write_closed(&self) -> bool {
        let mut input = self.input.lock();
        input.ring.as_mut().is_none_or(Consumer::is_writer_closed)
    }
}

impl Input {
    /// Copies what is there to `buffer`, and leaves it there.
    fn copy_to(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let Some(ring) = &mut self.ring else {
            let len = buffer.len().min(self.left.len());
            for (target, byte) in buffer.iter_mut().zip(self.left.iter()) {
                *target = *byte;
            }
            return Ok(len);
        };
        ring.peek(buffer).map_err(|error| match error {
            RingError::InvalidCursor(invalid) => invalid.into(),
            _ => Errno::EAGAIN.into(),
        })
    }

    /// Gives `len` bytes back as room; more than were seen is cut. Whether the monitor
    /// has to be notified of it.
    fn consume(&mut self, len: usize) -> bool {
        let Some(ring) = &mut self.ring else {
            self.left.drain(..len.min(self.left.len()));
            return false;
        };
        ring.consume(len);
        self.since_wait += len;
        ring.should_notify_room(ring.capacity() / 2)
    }
}

impl Output {
    /// The ring, to be written to: EPIPE if it is closed, EAGAIN while its room is
    /// lent out.
    fn ring(&mut self) -> Result<&mut Producer<ArenaRing>, Error> {
        let ring = self.ring.as_mut().ok_or(Errno::EPIPE)?;
        match self.lending.refuses() {
            true => Err(Errno::EAGAIN.into()),
            false => Ok(ring),
        }
    }
}

impl core::fmt::Debug for PipeEnd {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PipeEnd({})", self.shm_offset())
    }
}

#[cfg(test)]
mod tests;
