//! Standard pipes: the guest's input, output and log.
//!
//! Their host ends block, each in a thread of its own: what is behind them may
//! be a regular file or a shared terminal, which have no place in an epoll. The
//! thread sleeps on a token. The monitor's thread, which is the one that the
//! guest's doorbell wakes, gives it the token when the pipe's slot is marked.

use crate::wake::notifier::GuestNotifier;
use arca_shared::memory::{Arena, ArenaError, ShmOffset};
use arca_shared::notify::Slot;
use arca_shared::pipe::BidirectionalPipe;
use arca_shared::pipe::PipePlace;
use arca_shared::pipe::PipeRegion;
use arca_shared::protocol::input_request::{REQUEST_LEN, ReadRequest};
use arca_shared::ring::{Arm, InvalidCursor, RingError, RingHeader};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// What the threads share about one standard pipe. It owns the region, which so
/// lives until the pipe, its handles and the monitor are all gone.
pub(crate) struct StandardShared {
    slot: Slot,
    place: PipePlace,
    /// Header of ring A.
    header: NonNull<RingHeader>,
    /// Bytes taken from ring A, once the host has them.
    taken: AtomicU64,
    /// The guest is gone.
    ended: AtomicBool,
    /// Whether the thread has, or is about to, wait for the token.
    waiting: AtomicBool,
    token: Mutex<bool>,
    given: Condvar,
    _region: Mutex<PipeRegion>,
    _arena: Arena,
}

// SAFETY: the header is atomic and stays mapped, because the region and a
// handle to the arena are held here; the rest is Send and Sync by itself.
unsafe impl Send for StandardShared {}
// SAFETY: as above.
unsafe impl Sync for StandardShared {}

impl StandardShared {
    pub(crate) fn new(arena: &Arena, region: PipeRegion) -> Result<Self, ArenaError> {
        let place = region.place();
        let offset = ShmOffset(place.shm_offset);
        let (size, align) = (RingHeader::SIZE as u64, RingHeader::ALIGN as u64);
        Ok(Self {
            slot: Slot::from(offset),
            place,
            header: arena.from_offset(offset, size, align)?.cast(),
            taken: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            token: Mutex::new(false),
            given: Condvar::new(),
            _region: Mutex::new(region),
            _arena: arena.clone(),
        })
    }

    pub(crate) fn slot(&self) -> Slot {
        self.slot
    }

    /// Gives the token: the thread's wait, this one or the next, ends.
    pub(crate) fn wake(&self) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.given.notify_one();
    }

    /// Gives the token if the thread waits for it: for a peer that marks
    /// nothing.
    pub(crate) fn wake_if_waiting(&self) {
        // Relaxed: a wait that is missed is found at the next tick.
        if self.waiting.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    fn wait(&self) {
        // Relaxed: as in `wake_if_waiting`.
        self.waiting.store(true, Ordering::Relaxed);
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        while !*token {
            token = self
                .given
                .wait(token)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *token = false;
        self.waiting.store(false, Ordering::Relaxed);
    }

    fn has_ended(&self) -> bool {
        // Acquire: pairs with the Release in `StandardHandle::ended`; what the
        // guest had written before it ended is seen.
        self.ended.load(Ordering::Acquire)
    }
}

/// The host's end of a standard pipe. Reading takes what the guest wrote,
/// writing gives the guest something to read; both block.
pub struct StandardPipe {
    pipe: BidirectionalPipe,
    standard: Arc<StandardShared>,
    notifier: Arc<GuestNotifier>,
}

impl StandardPipe {
    pub(crate) fn new(
        pipe: BidirectionalPipe,
        standard: Arc<StandardShared>,
        notifier: Arc<GuestNotifier>,
    ) -> Self {
        Self {
            pipe,
            standard,
            notifier,
        }
    }

    /// Where the pipe is, for the boot information.
    #[must_use]
    pub fn place(&self) -> PipePlace {
        self.standard.place
    }

    /// A handle for other threads.
    #[must_use]
    pub fn handle(&self) -> StandardHandle {
        StandardHandle {
            standard: Arc::clone(&self.standard),
        }
    }

    /// Reads what the guest wrote: waits for at least one byte. 0 means that no
    /// more will come: the guest closed its end, or is gone and everything it
    /// wrote was read.
    ///
    /// # Errors
    ///
    /// `InvalidData` if the guest broke a rule of the ring.
    pub fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.peek(buf)?;
        self.consume(len);
        Ok(len)
    }

    /// As [`StandardPipe::read`], leaving the bytes where they are: the guest
    /// finds them taken when [`StandardPipe::consume`] says so.
    ///
    /// # Errors
    ///
    /// As [`StandardPipe::read`].
    pub fn peek(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            // Both are read before the ring: what was put before them is
            // then seen.
            let over = self.standard.has_ended() | self.pipe.is_peer_write_closed();
            match self.pipe.incoming().peek(buf) {
                Ok(len) => return Ok(len),
                Err(RingError::InvalidCursor(invalid)) => return Err(broken(invalid)),
                Err(RingError::WouldBlock | RingError::WriteClosed) => {}
            }
            if over {
                return Ok(0);
            }
            // Whoever ends the session gives the token after `ended`: an end that
            // comes between the check above and the wait is not missed.
            if self.pipe.incoming().arm_data(0).map_err(broken)? == Arm::Armed {
                self.standard.wait();
            }
        }
    }

    /// Takes `len` bytes, which were peeked before, and notifies a guest that
    /// waits for room, or for its bytes to be taken.
    pub fn consume(&mut self, len: usize) {
        let incoming = self.pipe.incoming();
        incoming.consume(len);
        // Release: pairs with the Acquire in `StandardHandle::taken`.
        self.standard
            .taken
            .store(incoming.taken(), Ordering::Release);
        if incoming.should_notify_room(incoming.capacity() / 2) {
            self.notifier.mark_and_wake(self.standard.slot);
        }
    }

    /// Gives the guest all of `buf` to read; waits for room.
    ///
    /// # Errors
    ///
    /// `BrokenPipe` once the guest has closed its end or is gone, `InvalidData`
    /// if it broke a rule of the ring.
    pub fn write_all(&mut self, mut buf: &[u8]) -> io::Result<()> {
        while !buf.is_empty() {
            if self.standard.has_ended() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            match self.pipe.write(buf) {
                Ok(len) => {
                    buf = &buf[len..];
                    if self.pipe.outgoing().should_notify_data() {
                        self.notifier.mark_and_wake(self.standard.slot);
                    }
                    continue;
                }
                Err(RingError::InvalidCursor(invalid)) => return Err(broken(invalid)),
                Err(RingError::WriteClosed) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(RingError::WouldBlock) => {}
            }
            // As in `peek`.
            if self.pipe.outgoing().arm_room(1).map_err(broken)? == Arm::Armed {
                self.standard.wait();
            }
        }
        Ok(())
    }

    /// Waits until the guest asks for standard input; most bytes that it wants.
    /// 0 means that it will want no more.
    ///
    /// # Errors
    ///
    /// As [`StandardPipe::read`].
    pub fn wanted(&mut self) -> io::Result<usize> {
        loop {
            let mut request = [0; REQUEST_LEN];
            let mut len = 0;
            while len < REQUEST_LEN {
                match self.read(&mut request[len..])? {
                    0 => return Ok(0),
                    more => len += more,
                }
            }
            let ReadRequest(wanted) = ReadRequest::decode(request);
            if wanted > 0 {
                let capacity = self.pipe.outgoing().capacity();
                return Ok(usize::try_from(wanted).map_or(capacity, |wanted| wanted.min(capacity)));
            }
        }
    }

    /// Says that nothing more will be written: the guest reads to the end, and
    /// finds this errno there, 0 being an orderly one.
    pub fn close_write(&mut self, errno: u32) {
        self.pipe.outgoing().set_errno(errno);
        self.pipe.close_write();
        self.notifier.mark_and_wake(self.standard.slot);
    }

    /// Says that nothing more will be read: the guest's writes fail with this
    /// errno.
    pub fn close_read(&mut self, errno: u32) {
        self.pipe.outgoing().set_errno(errno);
        self.pipe.close_read();
        self.notifier.mark_and_wake(self.standard.slot);
    }
}

fn broken(invalid: InvalidCursor) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, invalid)
}

/// A standard pipe as other threads see it.
#[derive(Clone)]
pub struct StandardHandle {
    standard: Arc<StandardShared>,
}

impl StandardHandle {
    /// Says that the guest is gone: readers get what it had written and then
    /// the end, writers get `BrokenPipe`.
    pub fn ended(&self) {
        // Release: pairs with the Acquire in `StandardShared::has_ended`.
        self.standard.ended.store(true, Ordering::Release);
        self.standard.wake();
    }

    /// Bytes that the guest has written and nobody has read, as the guest says
    /// it; at most the capacity of the ring.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.written()
            .saturating_sub(self.taken())
            .min(self.standard.place.ring_size)
    }

    /// Bytes that the guest has written since the start, as the guest says it.
    #[must_use]
    pub fn written(&self) -> u64 {
        // SAFETY: checked to lie in the arena when the pipe was made, and kept
        // mapped by `StandardShared`; all fields are atomic.
        let header = unsafe { self.standard.header.as_ref() };
        // Relaxed: a number to compare; the bytes are read by who takes them.
        header.write_cursor.load(Ordering::Relaxed)
    }

    /// Bytes of these that were read and handed on.
    #[must_use]
    pub fn taken(&self) -> u64 {
        // Acquire: pairs with the Release in `StandardPipe::consume`: what was done
        // with the bytes is over.
        self.standard.taken.load(Ordering::Acquire)
    }
}
