//! The writing end of a ring.

use super::{ArenaRing, Arm, Close, InvalidCursor, Parts, RingError, RingMemory};
use crate::sync::{Ordering, fence};

/// The one writer of a ring.
///
/// Its write cursor is its own: it is published to shared memory and never read
/// back. The reader's cursor is cached, and loaded anew only when the cached one
/// leaves too little room.
#[derive(Debug)]
pub struct Producer<M> {
    memory: M,
    /// Bytes put since the start.
    cursor: u64,
    /// `cursor` modulo the capacity.
    position: usize,
    /// The reader's cursor as last seen and checked.
    read_seen: u64,
    closed: bool,
    /// Seen once, closed for good: a flag that is taken back is not believed.
    reader_closed: bool,
}

impl<M: RingMemory> Producer<M> {
    /// The writing end of a fresh ring: both cursors are zero.
    pub fn new(memory: M) -> Self {
        Self {
            memory,
            cursor: 0,
            position: 0,
            read_seen: 0,
            closed: false,
            reader_closed: false,
        }
    }

    /// Capacity of the ring, in bytes.
    pub fn capacity(&self) -> usize {
        self.memory.capacity()
    }

    /// Bytes put since the start.
    pub fn written(&self) -> u64 {
        self.cursor
    }

    /// Bytes that are put and not yet taken, as of the last load of the reader's cursor.
    pub fn pending(&self) -> usize {
        (self.cursor - self.read_seen) as usize
    }

    /// Bytes of room, by a fresh load of the reader's cursor.
    ///
    /// # Errors
    ///
    /// [`InvalidCursor::Read`] if that cursor cannot be true.
    pub fn free(&mut self) -> Result<usize, InvalidCursor> {
        // Acquire: pairs with the consumer's Release store in `consume`; what it
        // read before is really read, and may be overwritten.
        let found = self.memory.header().read_cursor.load(Ordering::Acquire);
        let (low, high) = (self.read_seen, self.cursor);
        if found < low || found > high {
            return Err(InvalidCursor::Read { found, low, high });
        }
        self.read_seen = found;
        Ok(self.room())
    }

    /// Bytes of room as of the last load of the reader's cursor.
    fn room(&self) -> usize {
        self.capacity() - self.pending()
    }

    /// Bytes of room; loads the reader's cursor only if less than `wanted` was there
    /// the last time.
    ///
    /// # Errors
    ///
    /// As [`Producer::free`].
    pub fn free_for(&mut self, wanted: usize) -> Result<usize, InvalidCursor> {
        match self.room() {
            room if room >= wanted => Ok(room),
            _ => self.free(),
        }
    }

    /// Puts as much of `source` as there is room for and publishes it.
    ///
    /// # Errors
    ///
    /// [`RingError::WouldBlock`] if the ring is full, [`RingError::WriteClosed`]
    /// if either end has closed, [`RingError::InvalidCursor`].
    pub fn write(&mut self, source: &[u8]) -> Result<usize, RingError> {
        if self.closed || self.is_reader_closed() {
            return Err(RingError::WriteClosed);
        }
        if source.is_empty() {
            return Ok(0);
        }
        let len = self.free_for(source.len())?.min(source.len());
        if len == 0 {
            return Err(RingError::WouldBlock);
        }
        let first = len.min(self.capacity() - self.position);
        // SAFETY: both ranges are inside the capacity and between the write
        // cursor and the read cursor: room that the consumer has given up. The
        // source is a Rust slice, which never points into a ring.
        unsafe {
            self.memory.copy_in(self.position, source.as_ptr(), first);
            let rest = source.as_ptr().add(first);
            self.memory.copy_in(0, rest, len - first);
        }
        self.commit(len);
        Ok(len)
    }

    /// Publishes `len` bytes that were put into the room that
    /// [`Producer::room_parts`] showed. More than there is room for is cut.
    pub fn commit(&mut self, len: usize) {
        let len = len.min(self.room());
        self.cursor += len as u64;
        self.position += len;
        if self.position >= self.capacity() {
            self.position -= self.capacity();
        }
        // Release: pairs with the consumer's Acquire load in `available`; the
        // bytes are there before the cursor says so.
        let header = self.memory.header();
        header.write_cursor.store(self.cursor, Ordering::Release);
    }

    /// Says that nothing more will be put.
    pub fn close(&mut self) {
        self.close_by(Close::Shutdown);
    }

    /// As [`Producer::close`], saying which call closed it.
    pub fn close_by(&mut self, close: Close) {
        self.closed = true;
        // Release: pairs with `Consumer::is_writer_closed`; the final cursor and
        // the errno are there before the flag.
        let header = self.memory.header();
        header.writer_closed.store(close as u8, Ordering::Release);
    }

    /// Whether this end has closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the reader has closed.
    pub fn is_reader_closed(&mut self) -> bool {
        if !self.reader_closed {
            // Acquire: pairs with `Consumer::close`; an errno stored before the
            // flag is seen after it.
            let flag = self.memory.header().reader_closed.load(Ordering::Acquire);
            self.reader_closed = flag != 0;
        }
        self.reader_closed
    }

    /// Whether the reader said, when it closed, that it closed the whole connection.
    /// Valid once [`Producer::is_reader_closed`] has said yes.
    pub fn is_connection_closed(&self) -> bool {
        // Relaxed: the flag was seen with Acquire before, and its value orders
        // nothing.
        Close::is_connection(self.memory.header().reader_closed.load(Ordering::Relaxed))
    }

    /// Asks the reader for a notification of room, then checks once more whether
    /// one is needed: [`Arm::Ready`] if there are `at_least` bytes of room, or the
    /// reader has closed. More room than the capacity never comes.
    ///
    /// # Errors
    ///
    /// As [`Producer::free`].
    pub fn arm_room(&mut self, at_least: usize) -> Result<Arm, InvalidCursor> {
        let header = self.memory.header();
        header.room_wanted.store(1, Ordering::Relaxed);
        // Pairs with the fence in `Consumer::should_notify_room`: either the
        // consumer sees the flag, or the loads below see its cursor and its close.
        fence(Ordering::SeqCst);
        let ready = self.free()? >= at_least || self.is_reader_closed();
        Ok(if ready { Arm::Ready } else { Arm::Armed })
    }

    /// Whether the reader has to be notified of what was just published: it has armed
    /// the ring, which is then disarmed.
    pub fn should_notify_data(&self) -> bool {
        // The fence pairs with the one in `Consumer::arm_data`.
        fence(Ordering::SeqCst);
        let wanted = &self.memory.header().data_wanted;
        wanted.load(Ordering::Relaxed) != 0 && wanted.swap(0, Ordering::Relaxed) != 0
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

impl Producer<ArenaRing> {
    /// The errno in the header of the pipe's other ring.
    pub fn peer_errno(&self) -> u32 {
        // Relaxed: read after a flag was seen with Acquire.
        self.memory.sibling().errno.load(Ordering::Relaxed)
    }

    /// The room as raw memory, at most `limit` bytes of it, for the kernel to
    /// write into. [`Producer::commit`] publishes what was written.
    ///
    /// # Errors
    ///
    /// As [`Producer::free`].
    pub fn room_parts(&mut self, limit: usize) -> Result<Parts, InvalidCursor> {
        let len = self.free()?.min(limit);
        Ok(self.memory.parts(self.position, len))
    }
}
