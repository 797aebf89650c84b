//! Frames: what a message on the control pipe is wrapped in.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | message_type |
//! | 1 | 2 | payload_len, little-endian, at most 256 |
//! | 3 | 4 | request_id, little-endian |
//! | 7 | payload_len | payload |
//!
//! See PROTOCOL.md, "Frames".

use crate::ring::{Arm, Consumer, InvalidCursor, Producer, RingError, RingMemory};

/// Bytes before a frame's payload.
pub const HEADER_LEN: usize = 7;
/// Most bytes that a payload can have.
pub const MAX_PAYLOAD: usize = 256;
/// Most bytes that a frame can have.
pub const MAX_FRAME: usize = HEADER_LEN + MAX_PAYLOAD;

/// Why a byte stream is not one of frames. There is no way to resynchronise: the
/// session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// payload_len is more than [`MAX_PAYLOAD`].
    #[error(
        "a frame of type {message_type} announces {payload_len} bytes of payload; at most {MAX_PAYLOAD} are allowed"
    )]
    TooLong {
        /// The frame's type.
        message_type: u8,
        /// The length it announces, in bytes.
        payload_len: u16,
    },
    /// The control ring itself is broken.
    #[error("control ring: {0}")]
    Ring(#[from] InvalidCursor),
}

/// What [`Frame::take_or_arm`] found in a ring.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a frame is taken apart at once, on the stack"
)]
pub enum Next {
    /// A frame, which was taken.
    Frame(Frame),
    /// No whole frame yet; the writer was asked for a notification of more bytes.
    Armed,
    /// The writer has closed, and every whole frame was taken. What is left is at
    /// most a part of one.
    End,
}

/// One frame, with room for the longest payload; it lives on the stack.
#[derive(Clone, Copy)]
pub struct Frame {
    /// What the payload is.
    pub message_type: u8,
    /// Arca's number for the request; the reply carries it back.
    pub request_id: u32,
    len: usize,
    payload: [u8; MAX_PAYLOAD],
}

impl Frame {
    /// A frame whose payload is what `fill` writes into the buffer it gets; it
    /// returns the length, of which at most [`MAX_PAYLOAD`] counts.
    pub fn build(
        message_type: u8,
        request_id: u32,
        fill: impl FnOnce(&mut [u8; MAX_PAYLOAD]) -> usize,
    ) -> Self {
        let mut payload = [0; MAX_PAYLOAD];
        let len = fill(&mut payload).min(MAX_PAYLOAD);
        Self {
            message_type,
            request_id,
            len,
            payload,
        }
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload[..self.len]
    }

    /// Bytes on the wire.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        HEADER_LEN + self.len
    }

    /// Writes the frame to the start of `target`, which must hold
    /// [`Frame::wire_len`] bytes; returns that length, or `None` if it does not.
    pub fn encode(&self, target: &mut [u8]) -> Option<usize> {
        let target = target.get_mut(..self.wire_len())?;
        target[0] = self.message_type;
        target[1..3].copy_from_slice(&(self.len as u16).to_le_bytes());
        target[3..7].copy_from_slice(&self.request_id.to_le_bytes());
        target[HEADER_LEN..].copy_from_slice(self.payload());
        Some(self.wire_len())
    }

    /// Reads a frame from the start of `source`: the frame, or `None` if it is
    /// not all there yet.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLong`].
    pub fn decode(source: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some((head, rest)) = source.split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let &[message_type, l0, l1, r0, r1, r2, r3] = head;
        let payload_len = u16::from_le_bytes([l0, l1]);
        if usize::from(payload_len) > MAX_PAYLOAD {
            return Err(FrameError::TooLong {
                message_type,
                payload_len,
            });
        }
        let Some(payload) = rest.get(..usize::from(payload_len)) else {
            return Ok(None);
        };
        let request_id = u32::from_le_bytes([r0, r1, r2, r3]);
        Ok(Some(Self::build(message_type, request_id, |buffer| {
            buffer[..payload.len()].copy_from_slice(payload);
            payload.len()
        })))
    }

    /// Puts the whole frame into a ring, or nothing of it.
    ///
    /// # Errors
    ///
    /// [`RingError::WouldBlock`] if the frame does not fit now, and as
    /// [`Producer::write`].
    pub fn put<M: RingMemory>(&self, ring: &mut Producer<M>) -> Result<(), RingError> {
        let mut buffer = [0; MAX_FRAME];
        let len = self.encode(&mut buffer).unwrap_or(0);
        if ring.free_for(len)? < len {
            return Err(RingError::WouldBlock);
        }
        ring.write(&buffer[..len]).map(|_| ())
    }

    /// Takes the next whole frame from a ring; `None` if there is none yet. The
    /// bytes are copied out of shared memory before they are parsed.
    ///
    /// # Errors
    ///
    /// [`FrameError`].
    pub fn take<M: RingMemory>(ring: &mut Consumer<M>) -> Result<Option<Self>, FrameError> {
        let mut buffer = [0; MAX_FRAME];
        let len = match ring.peek(&mut buffer) {
            Ok(len) => len,
            Err(RingError::InvalidCursor(invalid)) => return Err(invalid.into()),
            Err(_) => return Ok(None),
        };
        let Some(frame) = Self::decode(&buffer[..len])? else {
            return Ok(None);
        };
        ring.consume(frame.wire_len());
        Ok(Some(frame))
    }

    /// As [`Frame::take`]; without a whole frame, arms the ring for more bytes
    /// than those of the incomplete one.
    ///
    /// # Errors
    ///
    /// [`FrameError`].
    pub fn take_or_arm<M: RingMemory>(ring: &mut Consumer<M>) -> Result<Next, FrameError> {
        loop {
            // Both before the ring is read: what comes after them is then noticed
            // when it is armed.
            let over = ring.is_writer_closed();
            let seen = ring.available()?;
            if let Some(frame) = Self::take(ring)? {
                return Ok(Next::Frame(frame));
            }
            if over {
                return Ok(Next::End);
            }
            if ring.arm_data(seen)? == Arm::Armed {
                return Ok(Next::Armed);
            }
        }
    }
}

impl core::fmt::Debug for Frame {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (kind, id) = (self.message_type, self.request_id);
        write!(
            f,
            "Frame(type {kind}, request {id}, {:02x?})",
            self.payload()
        )
    }
}

impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        self.message_type == other.message_type
            && self.request_id == other.request_id
            && self.payload() == other.payload()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::pipe::{BidirectionalPipe, Side};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_frame_survives_the_trip(
            message_type: u8,
            request_id: u32,
            payload in proptest::collection::vec(any::<u8>(), 0..=MAX_PAYLOAD),
        ) {
            let frame = Frame::build(message_type, request_id, |buffer| {
                buffer[..payload.len()].copy_from_slice(&payload);
                payload.len()
            });
            let mut wire = [0; MAX_FRAME];
            let len = frame.encode(&mut wire).expect("large enough");
            prop_assert_eq!(len, HEADER_LEN + payload.len());
            prop_assert_eq!(Frame::decode(&wire[..len]), Ok(Some(frame)));
            for cut in 0..len {
                prop_assert_eq!(Frame::decode(&wire[..cut]), Ok(None));
            }
        }
    }

    #[test]
    fn every_length_past_the_limit_is_refused() {
        for payload_len in 257..=u16::MAX {
            let [low, high] = payload_len.to_le_bytes();
            let wire = [1, low, high, 0, 0, 0, 0];
            assert_eq!(
                Frame::decode(&wire),
                Err(FrameError::TooLong {
                    message_type: 1,
                    payload_len
                })
            );
        }
    }

    #[test]
    fn a_frame_is_put_whole_and_may_fill_a_ring() {
        let arena = crate::testing::test_arena(1);
        let place = crate::pipe::PipePlace {
            shm_offset: 0,
            ring_size: 16,
        };
        let mut pipe = BidirectionalPipe::join(&arena, place, Side::A).expect("fits");
        let frame = |len| Frame::build(1, 2, move |_| len);
        let put = frame(10).put(pipe.outgoing());
        assert_eq!(put, Err(RingError::WouldBlock));
        assert_eq!(pipe.outgoing().written(), 0);
        assert_eq!(frame(9).put(pipe.outgoing()), Ok(()));
        assert_eq!(pipe.outgoing().free(), Ok(0));
    }

    #[test]
    fn a_ring_without_a_whole_frame_is_armed_for_more_of_it() {
        let arena = crate::testing::test_arena(1);
        let place = crate::pipe::PipePlace {
            shm_offset: 0,
            ring_size: 64,
        };
        let join = |side| BidirectionalPipe::join(&arena, place, side).expect("fits");
        let (mut arca, mut linux) = (join(Side::A), join(Side::B));
        let (requests, ring) = (arca.outgoing(), linux.incoming());
        assert_eq!(Frame::take_or_arm(ring), Ok(Next::Armed));
        let frame = Frame::build(1, 2, |_| 9);
        let mut wire = [0; 16];
        frame.encode(&mut wire).expect("its length");
        for part in [&wire[..3], &wire[3..12]] {
            requests.write(part).expect("room");
            assert!(requests.should_notify_data());
            assert_eq!(Frame::take_or_arm(ring), Ok(Next::Armed));
        }
        requests.write(&wire[12..]).expect("room");
        assert!(requests.should_notify_data());
        requests.write(&wire[..5]).expect("room");
        requests.close();
        assert_eq!(Frame::take_or_arm(ring), Ok(Next::Frame(frame)));
        assert_eq!(Frame::take_or_arm(ring), Ok(Next::End), "a part is left");
    }

    #[test]
    fn frames_are_equal_when_all_of_them_is() {
        let frame = |message_type, request_id, byte| {
            Frame::build(message_type, request_id, move |buffer| {
                buffer[0] = byte;
                1
            })
        };
        assert_eq!(frame(1, 2, 3), frame(1, 2, 3));
        for other in [frame(9, 2, 3), frame(1, 9, 3), frame(1, 2, 9)] {
            assert_ne!(frame(1, 2, 3), other);
        }
        let text = alloc::format!("{:?}", frame(1, 2, 3));
        assert_eq!(text, "Frame(type 1, request 2, [03])");
    }
}
