//! Reading and writing that wait, over ends that never do.
//!
//! An end moves what can be moved, or says `WouldBlock`. What follows from that,
//! to move everything and to wait in between, is the same for every end: it is
//! here once. How to wait is the end's own affair; one that knows nothing better
//! spins, ever longer.

use crate::ring::{Consumer, InvalidCursor, Producer, RingError, RingMemory};

/// A transfer that was not carried to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}, after {moved} bytes")]
pub struct Incomplete {
    /// Bytes that were moved before.
    pub moved: usize,
    /// Why no more were.
    pub reason: RingError,
}

/// The most times that a wait spins, as a power of two: some ten microseconds.
const SPINS: u32 = 8;

/// Waits a little, the longer the more waits there were in a row.
fn spin(waits: u32) {
    for _ in 0..1u32 << waits.min(SPINS) {
        core::hint::spin_loop();
    }
}

/// An end that bytes are read from.
pub trait Read {
    /// Takes what is there, up to `target.len()` bytes; never waits.
    ///
    /// # Errors
    ///
    /// [`RingError::WouldBlock`] if nothing is there, be it that the stream is at
    /// its end; [`RingError::InvalidCursor`].
    fn read(&mut self, target: &mut [u8]) -> Result<usize, RingError>;

    /// Whether the writer has closed and everything is read.
    ///
    /// # Errors
    ///
    /// A [`InvalidCursor`].
    fn is_at_end(&mut self) -> Result<bool, InvalidCursor>;

    /// Waits for data, or for a while; `waits` is how many waits in a row found
    /// none. Spins unless an end knows better.
    fn wait_for_data(&mut self, waits: u32) {
        spin(waits);
    }

    /// Takes what is there, waiting for at least one byte; 0 is the end of the
    /// stream, or an empty `target`.
    ///
    /// # Errors
    ///
    /// [`RingError::InvalidCursor`].
    fn read_some(&mut self, target: &mut [u8]) -> Result<usize, RingError> {
        let mut waits = 0;
        loop {
            match self.read(target) {
                Err(RingError::WouldBlock) => {}
                result => return result,
            }
            if self.is_at_end()? {
                return Ok(0);
            }
            self.wait_for_data(waits);
            waits = waits.saturating_add(1);
        }
    }

    /// Fills `target`, waiting for as long as it takes; a short count is the end
    /// of the stream.
    ///
    /// # Errors
    ///
    /// [`Incomplete`], with the bytes that came before the [`InvalidCursor`].
    fn read_full(&mut self, target: &mut [u8]) -> Result<usize, Incomplete> {
        let mut moved = 0;
        while moved < target.len() {
            match self.read_some(&mut target[moved..]) {
                Ok(0) => break,
                Ok(len) => moved += len,
                Err(reason) => return Err(Incomplete { moved, reason }),
            }
        }
        Ok(moved)
    }
}

/// An end that bytes are written to.
pub trait Write {
    /// Puts as much of `source` as there is room for; never waits.
    ///
    /// # Errors
    ///
    /// [`RingError::WouldBlock`] if there is no room, [`RingError::WriteClosed`] if
    /// either end has closed, [`RingError::InvalidCursor`].
    fn write(&mut self, source: &[u8]) -> Result<usize, RingError>;

    /// Waits for room, or for a while; `waits` is how many waits in a row found
    /// none. Spins unless an end knows better.
    fn wait_for_room(&mut self, waits: u32) {
        spin(waits);
    }

    /// Puts all of `source`, waiting for room until the reader has closed.
    ///
    /// # Errors
    ///
    /// [`Incomplete`], with the bytes that were put before the reader closed, or
    /// the [`InvalidCursor`].
    fn write_all(&mut self, source: &[u8]) -> Result<(), Incomplete> {
        let (mut moved, mut waits) = (0, 0);
        while moved < source.len() {
            match self.write(&source[moved..]) {
                Ok(0) | Err(RingError::WouldBlock) => {
                    self.wait_for_room(waits);
                    waits = waits.saturating_add(1);
                }
                Ok(len) => (moved, waits) = (moved + len, 0),
                Err(reason) => return Err(Incomplete { moved, reason }),
            }
        }
        Ok(())
    }
}

impl<M: RingMemory> Read for Consumer<M> {
    fn read(&mut self, target: &mut [u8]) -> Result<usize, RingError> {
        Self::read(self, target)
    }

    fn is_at_end(&mut self) -> Result<bool, InvalidCursor> {
        Self::is_at_end(self)
    }
}

impl<M: RingMemory> Write for Producer<M> {
    fn write(&mut self, source: &[u8]) -> Result<usize, RingError> {
        Self::write(self, source)
    }
}
