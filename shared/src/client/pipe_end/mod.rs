//! The Arca end of a pipe: side A, with waiting.
//!
//! Both halves can be used at once, by any task on any vCPU. A half is dropped
//! when it closes, and the slot is given up before the last flag is set: after
//! that the region may be another pipe's, and nothing here reaches it any more.

mod closing;
mod waiting;

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
}

/// The half that writes ring A; `None` when closed.
type Output = Option<Producer<ArenaRing>>;

/// The half that reads ring B.
struct Input {
    /// `None` when closed.
    ring: Option<Consumer<ArenaRing>>,
    /// Bytes taken since this side last had to wait.
    since_wait: usize,
    /// What was in the ring when this side shut its reading down.
    left: VecDeque<u8>,
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
            output: Mutex::new(Some(output)),
            input: Mutex::new(Input {
                ring: Some(input),
                since_wait: 0,
                left: VecDeque::new(),
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
        let ended = output.as_mut().is_some_and(Producer::is_reader_closed)
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
        match (&input.ring, output) {
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

    pub(super) fn take(&self, buffer: &mut [u8], take: Take) -> Result<usize, Error> {
        let consume = take != Take::Errno;
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut guard = self.input.lock();
        let input = &mut *guard;
        let Some(ring) = &mut input.ring else {
            let len = buffer.len().min(input.left.len());
            for (target, byte) in buffer.iter_mut().zip(input.left.iter()) {
                *target = *byte;
            }
            if consume {
                input.left.drain(..len);
            }
            return Ok(len);
        };
        let mut result = ring.peek(buffer);
        if result == Err(RingError::WouldBlock) && ring.is_writer_closed() {
            // Once more, after the flag: the last bytes may have come since.
            result = ring.peek(buffer);
            if result == Err(RingError::WouldBlock) {
                let errno = ring.errno();
                drop(guard);
                if errno == Errno::EPIPE.0 {
                    // The peer ended its stream before the connection failed: only
                    // sending has.
                    return Ok(0);
                }
                let error = match take {
                    Take::All | Take::Errno => self.report(errno),
                    Take::Bytes => self.peek_report(errno),
                };
                return error.map_or(Ok(0), Err);
            }
        }
        match result {
            Ok(len) => {
                if consume {
                    ring.consume(len);
                    input.since_wait += len;
                    let wanted = ring.should_notify_room(ring.capacity() / 2);
                    drop(guard);
                    if wanted {
                        self.notify();
                    }
                }
                Ok(len)
            }
            Err(RingError::InvalidCursor(invalid)) => Err(invalid.into()),
            Err(_) => Err(Errno::EAGAIN.into()),
        }
    }

    /// Puts as much of `buffer` as there is room for.
    ///
    /// # Errors
    ///
    /// EAGAIN if there is no room; once the other side reads no more, the
    /// connection's errno, once, and then EPIPE.
    pub fn try_write(&self, buffer: &[u8]) -> Result<usize, Error> {
        let mut output = self.output.lock();
        let Some(ring) = &mut *output else {
            return Err(Errno::EPIPE.into());
        };
        match ring.write(buffer) {
            Ok(len) => {
                drop(output);
                if len > 0 {
                    self.notify();
                }
                Ok(len)
            }
            Err(RingError::WouldBlock) => Err(Errno::EAGAIN.into()),
            Err(RingError::WriteClosed) => {
                let errno = ring.peer_errno();
                drop(output);
                Err(self.report(errno).unwrap_or(Errno::EPIPE.into()))
            }
            Err(RingError::InvalidCursor(invalid)) => Err(invalid.into()),
        }
    }

    /// Whether the other side has taken everything that was written.
    ///
    /// # Errors
    ///
    /// EAGAIN if it has not yet; as [`PipeEnd::try_write`] once it takes no more.
    fn try_flush(&self) -> Result<(), Error> {
        let mut output = self.output.lock();
        let Some(ring) = &mut *output else {
            return Err(Errno::EPIPE.into());
        };
        let closed = ring.is_reader_closed();
        if ring.free()? == ring.capacity() {
            return Ok(());
        }
        if !closed {
            return Err(Errno::EAGAIN.into());
        }
        let errno = ring.peer_errno();
        drop(output);
        Err(self.report(errno).unwrap_or(Errno::EPIPE.into()))
    }

    /// Whether the other side reads no more.
    pub fn is_peer_read_closed(&self) -> bool {
        let mut output = self.output.lock();
        output.as_mut().is_none_or(Producer::is_reader_closed)
    }

    /// Whether the other side writes no more. Bytes may still be left to read.
    pub fn is_peer_write_closed(&self) -> bool {
        let mut input = self.input.lock();
        input.ring.as_mut().is_none_or(Consumer::is_writer_closed)
    }
}

#[cfg(test)]
impl core::fmt::Debug for PipeEnd {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PipeEnd({})", self.shm_offset())
    }
}

#[cfg(test)]
mod tests;
