//! One side of a pipe.

use super::{PipeError, PipePlace, Read, RingSize, Write};
use crate::memory::{Arena, ShmOffset};
use crate::ring::{ArenaRing, Consumer, InvalidCursor, Producer, RingError, RingHeader};

/// The two ends of a pipe, by whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Arca: writes ring A and reads ring B.
    A,
    /// The monitor: reads ring A and writes ring B.
    B,
}

/// One side of a data pipe.
#[derive(Debug)]
pub struct BidirectionalPipe {
    offset: ShmOffset,
    outgoing: Producer<ArenaRing>,
    incoming: Consumer<ArenaRing>,
}

impl BidirectionalPipe {
    /// Joins the pipe at `place` as `side`. The pipe must be fresh: cursors and
    /// flags all zero.
    ///
    /// The place may come from the other side: it is checked before a pointer is
    /// formed. That the region really is a pipe, and that no third party joins
    /// it as the same side, is the peer's word; if that is false, the data is garbage
    /// and nothing worse, because the rings check every cursor.
    ///
    /// # Errors
    ///
    /// [`PipeError`] if the place cannot be one of a pipe.
    pub fn join(arena: &Arena, place: PipePlace, side: Side) -> Result<Self, PipeError> {
        let size = RingSize::new(place.ring_size)?;
        let offset = ShmOffset(place.shm_offset);
        let base = arena.from_offset(offset, size.required_size(), RingHeader::ALIGN as u64)?;
        // The arena fits in the address space, and the region in the arena.
        let capacity = size.get() as usize;
        // SAFETY: `from_offset` vouches for required_size bytes at `base`,
        // aligned to 8: two rings, the second right behind the first. The
        // capacity is a multiple of 8 and not zero.
        let (a, b) = unsafe {
            let b = base.add(RingHeader::SIZE + capacity);
            ArenaRing::new(base, capacity).pair(ArenaRing::new(b, capacity))
        };
        let (out, inc) = match side {
            Side::A => (a, b),
            Side::B => (b, a),
        };
        Ok(Self {
            offset,
            outgoing: Producer::new(out),
            incoming: Consumer::new(inc),
        })
    }

    /// Where the pipe is in the arena.
    #[must_use]
    pub fn shm_offset(&self) -> ShmOffset {
        self.offset
    }

    /// Puts as much of `source` as there is room for; never waits.
    ///
    /// # Errors
    ///
    /// As [`Producer::write`].
    pub fn write(&mut self, source: &[u8]) -> Result<usize, RingError> {
        self.outgoing.write(source)
    }

    /// Takes what is there, up to `target.len()` bytes; never waits.
    ///
    /// # Errors
    ///
    /// As [`Consumer::read`].
    pub fn read(&mut self, target: &mut [u8]) -> Result<usize, RingError> {
        self.incoming.read(target)
    }

    /// Says that this side writes no more.
    pub fn close_write(&mut self) {
        self.outgoing.close();
    }

    /// Says that this side reads no more.
    pub fn close_read(&mut self) {
        self.incoming.close();
    }

    /// Whether the other side writes no more. Bytes may still be left to read.
    pub fn is_peer_write_closed(&mut self) -> bool {
        self.incoming.is_writer_closed()
    }

    /// Whether the other side reads no more.
    pub fn is_peer_read_closed(&mut self) -> bool {
        self.outgoing.is_reader_closed()
    }

    /// Whether both rings are closed by both sides: only then may the region be
    /// freed.
    pub fn is_closed(&mut self) -> bool {
        self.outgoing.is_closed()
            && self.incoming.is_closed()
            && self.is_peer_write_closed()
            && self.is_peer_read_closed()
    }

    /// The writing end.
    pub fn outgoing(&mut self) -> &mut Producer<ArenaRing> {
        &mut self.outgoing
    }

    /// The reading end.
    pub fn incoming(&mut self) -> &mut Consumer<ArenaRing> {
        &mut self.incoming
    }

    /// Both ends, to be used apart.
    #[must_use]
    pub fn into_split(self) -> (Producer<ArenaRing>, Consumer<ArenaRing>) {
        (self.outgoing, self.incoming)
    }
}

impl Read for BidirectionalPipe {
    fn read(&mut self, target: &mut [u8]) -> Result<usize, RingError> {
        self.incoming.read(target)
    }

    fn is_at_end(&mut self) -> Result<bool, InvalidCursor> {
        self.incoming.is_at_end()
    }
}

impl Write for BidirectionalPipe {
    fn write(&mut self, source: &[u8]) -> Result<usize, RingError> {
        self.outgoing.write(source)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
