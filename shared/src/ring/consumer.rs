//! The reading end of a ring.

use super::{ArenaRing, Arm, Close, InvalidCursor, Parts, RingError, RingMemory};
use crate::sync::{Ordering, fence};

/// The one reader of a ring.
///
/// Its read cursor is its own: it is published to shared memory and never read
/// back. The writer's cursor is cached, and loaded anew only when the cached one
/// shows too little.
#[derive(Debug)]
pub struct Consumer<M> {
    memory: M,
    /// Bytes taken since the start.
    cursor: u64,
    /// `cursor` modulo the capacity.
    position: usize,
    /// The writer's cursor as last seen and checked.
    write_seen: u64,
    closed: bool,
    /// Seen once, closed for good: a flag that is taken back is not believed.
    writer_closed: bool,
}

impl<M: RingMemory> Consumer<M> {
    /// The reading end of a fresh ring: both cursors are zero.
    pub fn new(memory: M) -> Self {
        Self {
            memory,
            cursor: 0,
            position: 0,
            write_seen: 0,
            closed: false,
            writer_closed: false,
        }
    }

    /// Capacity of the ring, in bytes.
    pub fn capacity(&self) -> usize {
        self.memory.capacity()
    }

    /// Bytes taken since the start.
    pub fn taken(&self) -> u64 {
        self.cursor
    }

    /// Bytes to read as of the last load of the writer's cursor.
    fn seen(&self) -> usize {
        (self.write_seen - self.cursor) as usize
    }

    /// Bytes to read, by a fresh load of the writer's cursor.
    ///
    /// # Errors
    ///
    /// [`InvalidCursor::Write`] if that cursor cannot be true.
    pub fn available(&mut self) -> Result<usize, InvalidCursor> {
        // Acquire: pairs with the producer's Release store in `commit`; the
        // bytes before the cursor are there.
        let found = self.memory.header().write_cursor.load(Ordering::Acquire);
        let (low, high) = (self.write_seen, self.cursor + self.capacity() as u64);
        if found < low || found > high {
            return Err(InvalidCursor::Write { found, low, high });
        }
        self.write_seen = found;
        Ok(self.seen())
    }

    /// Bytes to read; loads the writer's cursor only if less than `wanted` were there
    /// the last time.
    ///
    /// # Errors
    ///
    /// As [`Consumer::available`].
    pub fn available_for(&mut self, wanted: usize) -> Result<usize, InvalidCursor> {
        match self.seen() {
            seen if seen >= wanted => Ok(seen),
            _ => self.available(),
        }
    }

    /// Takes up to `target.len()` bytes.
    ///
    /// # Errors
    ///
    /// [`RingError::WouldBlock`] if the ring is empty, be it that the stream is at its
    /// end ([`Consumer::is_at_end`]);
    /// [`RingError::InvalidCursor`].
    pub fn read(&mut self, target: &mut [u8]) -> Result<usize, RingError> {
        let len = self.peek(target)?;
        self.consume(len);
        Ok(len)
    }

    /// Copies up to `target.len()` bytes without taking them.
    ///
    /// # Errors
    ///
    /// As [`Consumer::read`].
    pub fn peek(&mut self, target: &mut [u8]) -> Result<usize, RingError> {
        if target.is_empty() {
            return Ok(0);
        }
        let len = self.available_for(target.len())?.min(target.len());
        if len == 0 {
            return Err(RingError::WouldBlock);
        }
        let first = len.min(self.capacity() - self.position);
        // SAFETY: both ranges are inside the capacity and between the read and
        // the write cursor: bytes that the producer has given up. The target is
        // a Rust slice, which never points into a ring.
        unsafe {
            self.memory
                .copy_out(self.position, target.as_mut_ptr(), first);
            let rest = target.as_mut_ptr().add(first);
            self.memory.copy_out(0, rest, len - first);
        }
        Ok(len)
    }

    /// Gives `len` bytes back to the writer as room. More than was seen is cut.
    pub fn consume(&mut self, len: usize) {
        let len = len.min(self.seen());
        self.cursor += len as u64;
        self.position += len;
        if self.position >= self.capacity() {
            self.position -= self.capacity();
        }
        // Release: pairs with the producer's Acquire load in `free`; the bytes
        // are read before they are room.
        let header = self.memory.header();
        header.read_cursor.store(self.cursor, Ordering::Release);
    }

    /// Says that nothing more will be taken.
    pub fn close(&mut self) {
        self.close_by(Close::Shutdown);
    }

    /// As [`Consumer::close`], saying which call closed it.
    pub fn close_by(&mut self, close: Close) {
        self.closed = true;
        // Release: pairs with `Producer::is_reader_closed`; the errno is there
        // before the flag.
        let header = self.memory.header();
        header.reader_closed.store(close as u8, Ordering::Release);
    }

    /// Whether this end has closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the writer has closed. Bytes may still be left to read.
    pub fn is_writer_closed(&mut self) -> bool {
        if !self.writer_closed {
            // Acquire: pairs with `Producer::close`; the final write cursor and
            // the errno, stored before the flag, are seen after it.
            let flag = self.memory.header().writer_closed.load(Ordering::Acquire);
            self.writer_closed = flag != 0;
        }
        self.writer_closed
    }

    /// Whether the writer said, when it closed, that it closed the whole connection.
    /// Valid once [`Consumer::is_writer_closed`] has said yes.
    pub fn is_connection_closed(&self) -> bool {
        // Relaxed: the flag was seen with Acquire before, and its value orders
        // nothing.
        Close::is_connection(self.memory.header().writer_closed.load(Ordering::Relaxed))
    }

    /// Whether the stream is at its end: the writer has closed, and its cursor, loaded
    /// *after* that was seen, leaves nothing to read. (Loads in the other order would
    /// lose what a writer puts between them.)
    ///
    /// # Errors
    ///
    /// As [`Consumer::available`].
    pub fn is_at_end(&mut self) -> Result<bool, InvalidCursor> {
        Ok(self.is_writer_closed() && self.available()? == 0)
    }

    /// Asks the writer for a notification of data, then checks once more whether
    /// one is needed: [`Arm::Ready`] if there are more than `more_than` bytes to
    /// read, or the writer has closed. `more_than` is what this end has seen and
    /// cannot use yet: 0, or the bytes of an incomplete message, counted before it
    /// was found to be incomplete.
    ///
    /// # Errors
    ///
    /// As [`Consumer::available`].
    pub fn arm_data(&mut self, more_than: usize) -> Result<Arm, InvalidCursor> {
        let header = self.memory.header();
        header.data_wanted.store(1, Ordering::Relaxed);
        // Pairs with the fence in `Producer::should_notify_data`: either the
        // producer sees the flag, or the loads below see its cursor and its close.
        fence(Ordering::SeqCst);
        let ready = self.available()? > more_than || self.is_writer_closed();
        Ok(if ready { Arm::Ready } else { Arm::Armed })
    }

    /// Whether the writer has to be notified of the room that was just published: it
    /// has armed the ring, and there are at least `enough` bytes of room. The ring is
    /// then disarmed. Half the ring, rather than a byte, keeps a writer asleep until
    /// its next turn is worth a wake-up.
    pub fn should_notify_room(&self, enough: usize) -> bool {
        // The fence pairs with the one in `Producer::arm_room`.
        fence(Ordering::SeqCst);
        let header = self.memory.header();
        if header.room_wanted.load(Ordering::Relaxed) == 0 {
            return false;
        }
        // Not checked: whatever the writer stored only decides on a wake-up.
        let written = header.write_cursor.load(Ordering::Relaxed);
        let used = written.wrapping_sub(self.cursor) as usize;
        let room = self.capacity().saturating_sub(used);
        room >= enough.min(self.capacity()) && header.room_wanted.swap(0, Ordering::Relaxed) != 0
    }

    /// Stores why the stream ends, before the flag that reports it.
    pub fn set_errno(&self, errno: u32) {
        // Relaxed: the flag's Release store, which follows, carries it.
        self.memory.header().errno.store(errno, Ordering::Relaxed);
    }

    /// The errno in this ring's header.
    pub fn errno(&self) -> u32 {
        // Relaxed: read after a flag was seen with Acquire.
        self.memory.header().errno.load(Ordering::Relaxed)
    }
}

impl Consumer<ArenaRing> {
    /// Stores why the stream ends in the header of the pipe's other ring.
    pub fn set_peer_errno(&self, errno: u32) {
        // Relaxed: the flag's Release store, which follows, carries it.
        self.memory.sibling().errno.store(errno, Ordering::Relaxed);
    }

    /// What there is to read as raw memory, at most `limit` bytes of it, for the
    /// kernel to read from. [`Consumer::consume`] gives back what was read.
    ///
    /// # Errors
    ///
    /// As [`Consumer::available`].
    pub fn data_parts(&mut self, limit: usize) -> Result<Parts, InvalidCursor> {
        let len = self.available()?.min(limit);
        Ok(self.memory.parts(self.position, len))
    }
}
