//! The request ring, and the requests that wait for room in it.

use crate::protocol::frame::Frame;
use crate::ring::{ArenaRing, Arm, InvalidCursor, Producer, RingError};
use alloc::collections::VecDeque;

/// Puts requests into their ring, in the order in which they were made.
pub(super) struct Sender {
    ring: Producer<ArenaRing>,
    /// Frames that found the ring full, oldest first.
    waiting: VecDeque<Frame>,
}

impl Sender {
    /// Sends requests by this ring.
    pub(super) fn new(ring: Producer<ArenaRing>) -> Self {
        Self {
            ring,
            waiting: VecDeque::new(),
        }
    }

    /// Whether nothing waits for room.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends a frame, or keeps it until there is room.
    ///
    /// # Errors
    ///
    /// As [`Sender::flush`].
    pub(super) fn send(&mut self, frame: Frame) -> Result<(), InvalidCursor> {
        self.waiting.push_back(frame);
        self.flush().map(|_| ())
    }

    /// Sends what waits; says whether anything was sent. What still waits then has
    /// the ring armed for its room.
    ///
    /// # Errors
    ///
    /// [`InvalidCursor`] if the monitor broke the ring. What waited is dropped, and
    /// the session has to end for whoever waits for its reply.
    pub(super) fn flush(&mut self) -> Result<bool, InvalidCursor> {
        let mut sent = false;
        while let Some(frame) = self.waiting.front() {
            match frame.put(&mut self.ring) {
                Ok(()) => {
                    self.waiting.pop_front();
                    sent = true;
                }
                Err(RingError::WouldBlock) => match self.ring.arm_room(frame.wire_len()) {
                    Ok(Arm::Armed) => return Ok(sent),
                    Ok(Arm::Ready) => {}
                    Err(invalid) => return self.give_up(invalid),
                },
                Err(RingError::InvalidCursor(invalid)) => return self.give_up(invalid),
                // A monitor that leaves closes the reply ring too, from which whoever
                // waits learns it.
                Err(RingError::WriteClosed) => self.waiting.clear(),
            }
        }
        Ok(sent)
    }

    fn give_up(&mut self, invalid: InvalidCursor) -> Result<bool, InvalidCursor> {
        self.waiting.clear();
        Err(invalid)
    }
}
