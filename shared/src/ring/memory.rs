//! The memory of a ring.

use super::RingHeader;
use core::ptr::NonNull;

/// The memory of one ring: a header and its data.
///
/// The same ring code runs over the arena, and over whatever a model checker or
/// a fuzzer puts in its place.
///
/// # Safety
///
/// An implementor's `header` is the same header at every call, shared with the
/// peer; `copy_in` and `copy_out` touch exactly the range asked for when it lies
/// inside the capacity.
pub unsafe trait RingMemory {
    /// The header.
    fn header(&self) -> &RingHeader;

    /// Bytes of data, fixed for good and not zero. Not read from shared memory.
    fn capacity(&self) -> usize;

    /// Copies `len` bytes from `source` into the data at `position`.
    ///
    /// # Safety
    ///
    /// `position + len` is at most the capacity, `source` is readable for `len`
    /// bytes and not part of the ring, and the range is the caller's to write:
    /// between the two cursors, on the producer's side.
    unsafe fn copy_in(&self, position: usize, source: *const u8, len: usize);

    /// Copies `len` bytes of the data at `position` to `target`.
    ///
    /// # Safety
    ///
    /// As [`RingMemory::copy_in`], for the consumer's side and a writable target.
    unsafe fn copy_out(&self, position: usize, target: *mut u8, len: usize);
}

/// A ring in an arena.
#[derive(Clone, Copy, Debug)]
pub struct ArenaRing {
    header: NonNull<RingHeader>,
    data: NonNull<u8>,
    capacity: usize,
    /// Header of the pipe's other ring; our own where there is none.
    sibling: NonNull<RingHeader>,
}

// SAFETY: an `ArenaRing` is an address; the header behind it is atomic and the
// data is only reached under the contract of `RingMemory`.
unsafe impl Send for ArenaRing {}
// SAFETY: as above.
unsafe impl Sync for ArenaRing {}

/// A stretch of a ring's data as up to two pieces of raw memory, in order; the
/// second follows where the first ends at the end of the data.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// Address and length of the first piece.
    pub first: (NonNull<u8>, usize),
    /// Address and length of the second piece; its length may be 0.
    pub second: (NonNull<u8>, usize),
}

impl Parts {
    /// Bytes in both pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.first.1 + self.second.1
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Without the second piece, if the first has `enough` bytes: one piece is
    /// cheaper to hand to the kernel than two.
    #[must_use]
    pub fn in_one(self, enough: usize) -> Self {
        match self.first.1 >= enough {
            true => Self {
                second: (self.second.0, 0),
                ..self
            },
            false => self,
        }
    }
}

impl ArenaRing {
    /// The ring whose header is at `header`, with `capacity` bytes of data right
    /// behind it.
    ///
    /// # Safety
    ///
    /// `header` is aligned to [`RingHeader::ALIGN`], header and data are mapped
    /// readable and writable while the ring is used, no Rust reference points
    /// into them but to the header's atomics, and `capacity` is not zero.
    #[must_use]
    pub unsafe fn new(header: NonNull<u8>, capacity: usize) -> Self {
        Self {
            header: header.cast(),
            // SAFETY: the data follows the header inside the same mapping.
            data: unsafe { header.add(RingHeader::SIZE) },
            capacity,
            sibling: header.cast(),
        }
    }

    /// This ring and `other` as the two of one pipe.
    pub(crate) fn pair(self, other: Self) -> (Self, Self) {
        let (sibling, other_sibling) = (other.header, self.header);
        (
            Self { sibling, ..self },
            Self {
                sibling: other_sibling,
                ..other
            },
        )
    }

    /// The header of the pipe's other ring.
    pub(super) fn sibling(&self) -> &RingHeader {
        // SAFETY: as in `header`: one of the two headers of the same region.
        unsafe { self.sibling.as_ref() }
    }

    /// `len` bytes of the data from `position` on, wrapping at the end.
    /// `position` must be below the capacity; `len` is cut to the capacity.
    pub(super) fn parts(&self, position: usize, len: usize) -> Parts {
        let len = len.min(self.capacity);
        let position = position.min(self.capacity);
        let first = len.min(self.capacity - position);
        Parts {
            // SAFETY: `position` is at most the capacity: inside the mapping,
            // or one past its end with a length of zero.
            first: (unsafe { self.data.add(position) }, first),
            second: (self.data, len - first),
        }
    }
}

// SAFETY: the header is where `new`'s caller says; the copies touch
// `data + position` for `len` bytes, which is inside the data by their contract.
unsafe impl RingMemory for ArenaRing {
    fn header(&self) -> &RingHeader {
        // SAFETY: mapped and aligned by `new`'s contract; all fields are atomic,
        // so that a reference may point at what the peer writes.
        unsafe { self.header.as_ref() }
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    unsafe fn copy_in(&self, position: usize, source: *const u8, len: usize) {
        // SAFETY: the caller keeps the range inside the data and the source
        // apart from it.
        unsafe { core::ptr::copy_nonoverlapping(source, self.data.as_ptr().add(position), len) }
        forget_what_memory_held();
    }

    unsafe fn copy_out(&self, position: usize, target: *mut u8, len: usize) {
        // SAFETY: the caller keeps the range inside the data and the target
        // apart from it.
        unsafe { core::ptr::copy_nonoverlapping(self.data.as_ptr().add(position), target, len) }
        forget_what_memory_held();
    }
}

/// Ends a copy between a ring and private memory, so that what is private is what
/// was copied.
///
/// The compiler takes the ring's bytes for memory that only this program changes. A
/// copy of a few bytes it may make by itself; left alone, it might read the ring once
/// more where the program reads its copy, since both hold the same by its lights: a
/// length that was checked would be another when it is used. It might as well read
/// what was put into a ring back from there. An assembly block that is not `nomem`
/// may, for all the compiler knows, change all memory that others can reach: the
/// ring and the copy hold the same no longer, and no read moves across. Inside the
/// copy a byte may be read twice, which is no harm: one of the two is what is there
/// afterwards, and nothing has been decided by the other.
///
/// Volatile copies would promise the same, a byte or a word at a time. This costs no
/// instruction.
#[inline(always)]
fn forget_what_memory_held() {
    // SAFETY: no instruction: nothing is read, written or changed.
    unsafe { core::arch::asm!("", options(nostack, preserves_flags)) };
}
