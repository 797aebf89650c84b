//! A single-producer single-consumer ring of bytes: one direction of a pipe.
//!
//! The ring is a [`RingHeader`] and `capacity` bytes of data. Both cursors
//! count bytes since the start and never go back; the place in the data is the
//! cursor modulo the capacity, and the bytes in use are `write - read`.
//!
//! Each end keeps its own cursor to itself and only publishes it: what stands in
//! shared memory is, for its owner, write-only. The peer's cursor is read once
//! into a local and must pass a check (it moves forward, and not past what is
//! possible) before anything is done with it. A peer that breaks that rule gets
//! [`RingError::InvalidCursor`].
//!
//! # Memory ordering
//!
//! | store | load | what it carries |
//! |---|---|---|
//! | producer's write_cursor, Release | consumer's load, Acquire | the bytes before the cursor |
//! | consumer's read_cursor, Release | producer's load, Acquire | that the bytes before it were read and may be overwritten |
//! | writer_closed, Release | load, Acquire | the final write_cursor, and the errno |
//! | reader_closed, Release | load, Acquire | the errno |
//! | room_wanted / data_wanted, SeqCst fence after | SeqCst fence, then load | an end that waits arms, then checks the cursor; its peer publishes, then checks the flag: one of them sees the other |
//!
//! See DATAPIPE.md for the layout byte for byte.

mod consumer;
mod header;
mod memory;
mod producer;

pub use consumer::Consumer;
pub use header::{Close, RingHeader};
pub use memory::{ArenaRing, Parts, RingMemory};
pub use producer::Producer;

/// What an end found when it armed its ring, that is, asked in the header to be
/// notified: [`Consumer::arm_data`], [`Producer::arm_room`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// What it waits for is not there, and the peer's next change to the ring is
    /// sure to see the request: this end may sleep.
    Armed,
    /// It is there already, or the peer has closed: go on at once. The request
    /// stands all the same, and may cause one spurious notification.
    Ready,
}

/// Why a ring did not take or give a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The ring is full (for a write) or empty (for a read).
    #[error("the ring is full or empty")]
    WouldBlock,
    /// The reader has closed: nothing written would be read.
    #[error("the reader has closed")]
    WriteClosed,
    /// The peer broke a rule of the ring; the connection cannot go on.
    #[error("{0}")]
    InvalidCursor(#[from] InvalidCursor),
}

/// A cursor that its owner cannot truthfully have stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCursor {
    /// write_cursor went back, or past what the ring can hold.
    #[error("write_cursor says {found}, but must lie in {low}..={high}")]
    Write {
        /// The value found in shared memory.
        found: u64,
        /// The lowest value it can have.
        low: u64,
        /// The highest value it can have.
        high: u64,
    },
    /// read_cursor went back, or past what was written.
    #[error("read_cursor says {found}, but must lie in {low}..={high}")]
    Read {
        /// The value found in shared memory.
        found: u64,
        /// The lowest value it can have.
        low: u64,
        /// The highest value it can have.
        high: u64,
    },
}

#[cfg(all(test, not(loom)))]
mod tests;
