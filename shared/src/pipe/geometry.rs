//! Where a pipe is, and how large.

use crate::memory::ArenaError;
use crate::ring::RingHeader;

/// Where one pipe is: what a `DataPipeInfo` says on the wire.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipePlace {
    /// Offset of the pipe's first header from the arena's base, in bytes.
    pub shm_offset: u64,
    /// Capacity of one direction, in bytes.
    pub ring_size: u64,
}

/// Capacity of one direction, checked: not zero, a multiple of 8, and small
/// enough that a pipe of it fits in an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RingSize(u64);

/// Why a place is not one of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PipeError {
    /// The ring size is zero, not a multiple of 8, or too large.
    #[error("ring size {0} is not a multiple of 8 between 8 and 2^40 bytes")]
    RingSize(u64),
    /// The region does not lie in the arena.
    #[error(transparent)]
    Arena(#[from] ArenaError),
}

impl RingSize {
    /// Checks a ring size, in bytes.
    ///
    /// # Errors
    ///
    /// [`PipeError::RingSize`].
    pub const fn new(bytes: u64) -> Result<Self, PipeError> {
        if bytes == 0 || !bytes.is_multiple_of(8) || bytes > 1 << 40 {
            return Err(PipeError::RingSize(bytes));
        }
        Ok(Self(bytes))
    }

    /// The ring size whose pipe is exactly `region` bytes: what a buddy
    /// allocator hands out without waste. 128 KiB give 65,512.
    ///
    /// # Errors
    ///
    /// [`PipeError::RingSize`] if the region is too small, or an odd size.
    pub const fn for_region(region: u64) -> Result<Self, PipeError> {
        match (region / 2).checked_sub(RingHeader::SIZE as u64) {
            Some(bytes) => Self::new(bytes),
            None => Err(PipeError::RingSize(0)),
        }
    }

    /// Capacity of one direction, in bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Bytes that the pipe takes in the arena: both headers and both rings.
    #[must_use]
    pub const fn required_size(self) -> u64 {
        2 * (RingHeader::SIZE as u64 + self.0)
    }
}
