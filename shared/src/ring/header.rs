//! The 24 bytes before a ring's data.

use crate::sync::{AtomicU8, AtomicU32, AtomicU64};

/// Head of a ring in shared memory. All fields are atomic; integers are
/// little-endian, as x86-64 stores them.
///
/// | offset | size | field | written by |
/// |---|---|---|---|
/// | 0 | 8 | read_cursor | consumer |
/// | 8 | 8 | write_cursor | producer |
/// | 16 | 1 | writer_closed | producer |
/// | 17 | 1 | reader_closed | consumer |
/// | 18 | 1 | room_wanted | producer sets, consumer clears |
/// | 19 | 1 | data_wanted | consumer sets, producer clears |
/// | 20 | 4 | errno | ring B: monitor; ring A: Arca |
///
/// The last three are ours: a peer written against the draft leaves them zero,
/// and nothing depends on them but whether a sleeper is woken.
#[repr(C)]
#[derive(Debug, Default)]
pub struct RingHeader {
    /// Bytes that the consumer has taken since the start.
    pub read_cursor: AtomicU64,
    /// Bytes that the producer has put since the start.
    pub write_cursor: AtomicU64,
    /// Not zero: the producer will put no more ([`Close`]).
    pub writer_closed: AtomicU8,
    /// Not zero: the consumer will take no more ([`Close`]).
    pub reader_closed: AtomicU8,
    /// Not zero: the producer waits for room and asks to be notified.
    pub room_wanted: AtomicU8,
    /// Not zero: the consumer waits for data and asks to be notified.
    pub data_wanted: AtomicU8,
    /// Why the stream ends, as a Linux errno; 0 means orderly.
    pub errno: AtomicU32,
}

/// What Arca says with a closed flag after a hello: which call closed the end. Any
/// value but 0 is a flag, and one that is none of these is [`Close::Shutdown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Close {
    /// This direction was shut down, as by shutdown(2).
    Shutdown = 1,
    /// The connection was closed, as by close(2): bytes that nobody has read make
    /// it a reset, whenever they came.
    Connection = 2,
}

impl Close {
    /// Whether a closed flag says [`Close::Connection`].
    #[must_use]
    pub fn is_connection(flag: u8) -> bool {
        flag == Self::Connection as u8
    }
}

impl RingHeader {
    /// Size in shared memory, in bytes.
    pub const SIZE: usize = 24;
    /// Alignment in shared memory, in bytes.
    pub const ALIGN: usize = 8;
}

#[cfg(not(loom))]
const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(size_of::<RingHeader>() == RingHeader::SIZE);
    assert!(align_of::<RingHeader>() == RingHeader::ALIGN);
    assert!(offset_of!(RingHeader, write_cursor) == 8);
    assert!(offset_of!(RingHeader, writer_closed) == 16);
    assert!(offset_of!(RingHeader, reader_closed) == 17);
    assert!(offset_of!(RingHeader, room_wanted) == 18);
    assert!(offset_of!(RingHeader, data_wanted) == 19);
    assert!(offset_of!(RingHeader, errno) == 20);
};
