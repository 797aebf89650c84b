//! The memory of the rings, lent to whoever parses or generates in place.
//!
//! Bytes between the cursors of ring B, and room in ring A, are this side's alone: a
//! monitor that keeps to the protocol neither writes the ones nor reads the other.
//! So they can be lent as slices, of one piece each: up to the end of the ring's
//! memory, where it wraps. While they are, nobody else on this side may give the bytes
//! back or use the room, and the half does not close: whoever wants to waits, as for a
//! ring that is empty or full, and a closing is done when what was lent is given
//! back.
//!
//! A host that does not keep to the protocol can change what is lent while it is. So
//! it can change any memory of its guest; but a program that is to withstand a
//! monitor gone wrong copies what it checks before it uses it, or reads it once.

use super::closing::Ending;
use super::{PipeEnd, Take};
use crate::errno::Errno;
use crate::error::Error;
use crate::ring::RingError;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::task::{Context, Poll};

/// Most room that is lent at a time, in bytes. What is put is not sent before all of it is
/// there, and one who generates should be at the next piece while the monitor sends
/// the last.
const MOST_ROOM: usize = 256 << 10;

/// Whether a half has lent its ring's memory out.
#[derive(Default)]
pub(super) struct Lending {
    lent: bool,
    /// Somebody found it lent, and waits for it.
    awaited: bool,
    /// It is to be closed when it is given back.
    closing: Option<Ending>,
}

impl Lending {
    /// Whether the half is lent; whoever asks is then woken when it is given back.
    pub(super) fn refuses(&mut self) -> bool {
        self.awaited |= self.lent;
        self.lent
    }

    /// Whether closing has to wait until the half is given back.
    pub(super) fn defers(&mut self, ending: Ending) -> bool {
        if self.lent {
            self.closing = self.closing.max(Some(ending));
        }
        self.lent
    }

    /// The half is not lent any more: whether somebody waits for it, and how it is to
    /// be closed.
    fn end(&mut self) -> (bool, Option<Ending>) {
        let Self {
            awaited, closing, ..
        } = core::mem::take(self);
        (awaited, closing)
    }
}

/// A piece of memory that a half has lent out; an empty one is not lent.
pub(in crate::client) struct Piece {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a piece is an address and a length; what may be done there is said where it
// becomes a slice.
unsafe impl Send for Piece {}
// SAFETY: as above.
unsafe impl Sync for Piece {}

impl Piece {
    const EMPTY: Self = Self {
        start: NonNull::dangling(),
        len: 0,
    };

    pub(in crate::client) fn len(&self) -> usize {
        self.len
    }

    /// The bytes.
    ///
    /// # Safety
    ///
    /// The piece is lent, and not given back, for as long as the slice lives; and it
    /// was lent to be read.
    pub(in crate::client) unsafe fn bytes<'a>(&self) -> &'a [u8] {
        // SAFETY: by the caller's word the piece is lent: bytes of a ring between its
        // cursors, which are mapped and which nobody on this side gives back, or
        // writes; a monitor that keeps to the protocol does not either. Or they are
        // bytes of `left`, which nobody touches meanwhile.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

/// Bytes of the stream, lent where they are; none is the end of the stream. Dropping it
/// gives them back unread.
pub(in crate::client) struct Lent<'a> {
    end: &'a PipeEnd,
    piece: Piece,
}

impl<'a> Lent<'a> {
    /// Gives them back, the first `len` of them read.
    pub(in crate::client) fn consume(self, len: usize) {
        let lent = ManuallyDrop::new(self);
        if lent.piece.len > 0 {
            lent.end.give_back(len.min(lent.piece.len));
        }
    }

    /// Leaves them lent, to be given back by [`PipeEnd::give_back`].
    pub(in crate::client) fn into_piece(self) -> Piece {
        let mut lent = ManuallyDrop::new(self);
        core::mem::replace(&mut lent.piece, Piece::EMPTY)
    }
}

impl Deref for Lent<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: they are given back when this is consumed or dropped, which the
        // slice does not outlive.
        unsafe { self.piece.bytes() }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if self.piece.len > 0 {
            self.end.give_back(0);
        }
    }
}

/// Room for bytes of the stream, lent where it is. It holds what was there before.
/// Dropping it puts nothing.
pub(in crate::client) struct Room<'a> {
    end: &'a PipeEnd,
    piece: Piece,
}

impl Room<'_> {
    /// Puts its first `len` bytes.
    pub(in crate::client) fn commit(self, len: usize) {
        let room = ManuallyDrop::new(self);
        room.end.commit(len.min(room.piece.len));
    }
}

impl Deref for Room<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as in `deref_mut`.
        unsafe { core::slice::from_raw_parts(self.piece.start.as_ptr(), self.piece.len) }
    }
}

impl DerefMut for Room<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: room of the ring behind its write cursor, which is mapped, holds
        // bytes of one value or another, and is lent to this alone until it is dropped,
        // which the slice does not outlive. A monitor that keeps to the protocol does
        // not look there.
        unsafe { core::slice::from_raw_parts_mut(self.piece.start.as_ptr(), self.piece.len) }
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.end.commit(0);
    }
}

impl PipeEnd {
    /// Lends the bytes that are there, as many as lie in one piece.
    pub(in crate::client) fn try_lend(&self) -> Result<Lent<'_>, Error> {
        let input = &mut *self.input.lock();
        let mut piece = Piece::EMPTY;
        if self.front(input, usize::MAX, Take::All)? > 0 {
            (piece.start, piece.len) = match &mut input.ring {
                Some(ring) => ring.data_parts(usize::MAX)?.first,
                None => {
                    let left = input.left.as_slices().0;
                    (NonNull::from(left).cast(), left.len())
                }
            };
            input.lending.lent = true;
        }
        Ok(Lent { end: self, piece })
    }

    /// [`PipeEnd::try_lend`], or waits.
    pub(in crate::client) fn poll_lend(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Lent<'_>, Error>> {
        self.poll_data(context, || self.try_lend())
    }

    /// Ends the lending of bytes, of which `len` were read. To be called by whoever has
    /// them lent, for whom no slice of them is left.
    pub(in crate::client) fn give_back(&self, len: usize) {
        let mut input = self.input.lock();
        if !input.lending.lent {
            return;
        }
        let wanted = input.consume(len);
        let (awaited, closing) = input.lending.end();
        drop(input);
        if wanted {
            self.notify();
        }
        if let Some(ending) = closing {
            self.close(false, true, ending);
        }
        if awaited {
            self.events.readers.wake();
        }
    }

    /// Takes up to `len` bytes that a look has shown and that are lent to nobody.
    pub(in crate::client) fn discard(&self, len: usize) {
        let mut input = self.input.lock();
        let wanted = !input.lending.lent && input.consume(len);
        drop(input);
        if wanted {
            self.notify();
        }
    }

    /// Lends room, as much as lies in one piece, but at most [`MOST_ROOM`].
    pub(in crate::client) fn try_room(&self) -> Result<Room<'_>, Error> {
        let mut output = self.output.lock();
        let ring = output.ring()?;
        if ring.is_reader_closed() {
            return Err(self.refused(&output, RingError::WriteClosed));
        }
        let (start, len) = ring.room_parts(MOST_ROOM)?.first;
        if len == 0 {
            return Err(Errno::EAGAIN.into());
        }
        output.lending.lent = true;
        let piece = Piece { start, len };
        Ok(Room { end: self, piece })
    }

    /// [`PipeEnd::try_room`], or waits.
    pub(in crate::client) fn poll_lend_room(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Room<'_>, Error>> {
        self.poll_room(context, || self.try_room())
    }

    /// Ends the lending of room, of which the first `len` bytes are put.
    fn commit(&self, len: usize) {
        let mut output = self.output.lock();
        if len > 0
            && let Some(ring) = &mut output.ring
        {
            ring.commit(len);
        }
        let (awaited, closing) = output.lending.end();
        drop(output);
        if len > 0 {
            self.notify();
        }
        if let Some(ending) = closing {
            self.close(true, false, ending);
        }
        if awaited {
            self.events.writers.wake();
        }
    }
}
