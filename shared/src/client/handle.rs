//! One handle to a stream, and the bytes that it has lent out.
//!
//! A handle lends bytes of the ring for as long as it is borrowed. That such a borrow
//! has ended nobody says; but whoever reaches the stream through the handle once more
//! can only do so then. So that takes back what was lent, and dropping the handle does.

use super::pipe_end::{Piece, PipeEnd};
use super::stream_core::StreamCore;
use crate::error::Error;
use alloc::sync::Arc;
use core::ops::Deref;
use core::sync::atomic::{AtomicUsize, Ordering};

/// How many bytes a handle has lent out, and were not given back.
///
/// Relaxed throughout: who lends or consumes has the handle for itself, and nothing is
/// carried by the number.
#[derive(Default)]
struct Loan(AtomicUsize);

impl Loan {
    /// Takes back what was lent, unread.
    fn settle(&self, end: &PipeEnd) {
        if self.0.load(Ordering::Relaxed) != 0 && self.0.swap(0, Ordering::Relaxed) != 0 {
            end.give_back(0);
        }
    }

    /// Takes back what was lent, of which `len` bytes were read. Of bytes that were lent
    /// before, and given back, those that are still there.
    fn consume(&self, end: &PipeEnd, len: usize) {
        match self.0.swap(0, Ordering::Relaxed) {
            0 => end.discard(len),
            lent => end.give_back(len.min(lent)),
        }
    }
}

/// A handle to a stream.
pub(super) struct Handle {
    core: Arc<StreamCore>,
    loan: Loan,
}

/// A handle that is borrowed for reading. It has no drop of its own: what it has lent
/// is taken back by the next use of the handle.
pub(super) struct BorrowedHandle<'a> {
    core: &'a StreamCore,
    loan: &'a Loan,
}

impl Handle {
    pub(super) fn new(core: Arc<StreamCore>) -> Self {
        Self {
            core,
            loan: Loan::default(),
        }
    }

    /// The stream itself, to be held by another handle.
    pub(super) fn shared(&self) -> Arc<StreamCore> {
        self.core.clone()
    }

    /// Whether that is the same stream.
    pub(super) fn is_of(&self, core: &Arc<StreamCore>) -> bool {
        Arc::ptr_eq(&self.core, core)
    }

    /// The handle for reading, and the stream for writing.
    pub(super) fn split(&mut self) -> (BorrowedHandle<'_>, &StreamCore) {
        self.loan.settle(&self.core.end);
        let (core, loan) = (&*self.core, &self.loan);
        (BorrowedHandle { core, loan }, core)
    }
}

macro_rules! lend {
    ($($handle:ty),+) => {
        $(impl $handle {
            /// Lends the bytes that `piece` is, as the handle's own.
            pub(super) fn lend(&mut self, piece: Piece) -> &[u8] {
                self.loan.0.store(piece.len(), Ordering::Relaxed);
                // SAFETY: the piece was lent to this handle, and only a use of the
                // handle gives it back, which the slice, a borrow of it, excludes: it
                // is not cloned, and a borrowed one has the other for itself. A handle
                // that is forgotten never gives it back, and keeps the pipe.
                unsafe { piece.bytes() }
            }

            /// Marks `len` of the bytes that were lent as read.
            pub(super) fn consume(&mut self, len: usize) {
                self.loan.consume(&self.core.end, len);
            }
        }

        impl Deref for $handle {
            type Target = StreamCore;

            fn deref(&self) -> &StreamCore {
                self.loan.settle(&self.core.end);
                &self.core
            }
        })+
    };
}

lend!(Handle, BorrowedHandle<'_>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.loan.settle(&self.core.end);
    }
}

/// The bytes that are there, lent by a handle that may block.
pub(super) fn fill(handle: &mut Handle) -> Result<&[u8], Error> {
    let piece = handle.read_in_place()?.into_piece();
    Ok(handle.lend(piece))
}
