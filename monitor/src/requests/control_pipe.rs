//! The control pipe: requests in, replies out.

use crate::violation::Violation;
use crate::wake::coalescer::WakeCoalescer;
use arca_shared::memory::ShmOffset;
use arca_shared::notify::Slot;
use arca_shared::pipe::BidirectionalPipe;
use arca_shared::pipe::PipeRegion;
use arca_shared::protocol::frame::{Frame, FrameError, HEADER_LEN, Next};
use arca_shared::protocol::message::Reply;
use arca_shared::ring::{Arm, RingError};

/// Bytes of the longest reply on the wire.
const MAX_REPLY: usize = HEADER_LEN + Reply::MAX_PAYLOAD;

/// The monitor's side of the control pipe.
pub(crate) struct ControlPipe {
    pipe: BidirectionalPipe,
    slot: Slot,
    /// Replies were put that the guest was not notified of.
    notify_pending: bool,
    /// Requests were taken since the guest was last notified of the room.
    taken: bool,
    /// Arca closed an end of the pipe, and every request before that was taken.
    left: bool,
    _region: PipeRegion,
}

impl ControlPipe {
    pub(crate) fn new(pipe: BidirectionalPipe, region: PipeRegion) -> Self {
        Self {
            slot: Slot::from(ShmOffset(region.place().shm_offset)),
            pipe,
            notify_pending: false,
            taken: false,
            left: false,
            _region: region,
        }
    }

    /// Replies that are sure to fit the empty ring.
    pub(crate) fn max_replies(&mut self) -> usize {
        self.pipe.outgoing().capacity() / MAX_REPLY
    }

    pub(crate) fn slot(&self) -> Slot {
        self.slot
    }

    /// Takes the next request off the ring; `None` if there is none, or if there
    /// is no room for its reply. In both cases the guest was asked to say when
    /// that changes. Once Arca has closed an end there is none any more
    /// ([`ControlPipe::is_left`]). `waiting`: requests whose replies are still to come.
    pub(crate) fn next_frame(&mut self, waiting: usize) -> Result<Option<Frame>, Violation> {
        let frame = self.take_frame(waiting)?;
        self.taken |= frame.is_some();
        Ok(frame)
    }

    /// Whether Arca has left the session: it takes no more replies, or sends no
    /// more requests and all that it sent were taken.
    pub(crate) fn is_left(&self) -> bool {
        self.left
    }

    fn take_frame(&mut self, waiting: usize) -> Result<Option<Frame>, Violation> {
        // The replies of all that wait, and one more, must be sure to fit.
        let needed = (waiting + 1) * MAX_REPLY;
        loop {
            // Both cursors are read first, whether or not they are needed: an invalid
            // one is found at once, and not taken for an orderly end.
            let room = self.pipe.outgoing().free()?;
            self.pipe.incoming().available().map_err(FrameError::from)?;
            // Nobody takes the reply to what else is asked.
            self.left |= self.pipe.is_peer_read_closed();
            if self.left {
                return Ok(None);
            }
            if room >= needed {
                break;
            }
            if self.pipe.outgoing().arm_room(needed)? == Arm::Armed {
                return Ok(None);
            }
        }
        match Frame::take_or_arm(self.pipe.incoming())? {
            Next::Frame(frame) => Ok(Some(frame)),
            Next::Armed => Ok(None),
            Next::End => {
                self.left = true;
                Ok(None)
            }
        }
    }

    /// Puts a reply into the ring.
    pub(crate) fn put(&mut self, request_id: u32, reply: &Reply) -> Result<(), Violation> {
        match reply.to_frame(request_id).put(self.pipe.outgoing()) {
            Ok(()) => self.notify_pending = true,
            // A guest that reads no replies gets none.
            Err(RingError::WriteClosed) => {}
            Err(RingError::WouldBlock) => return Err(Violation::NoRoom),
            Err(RingError::InvalidCursor(invalid)) => return Err(invalid.into()),
        }
        Ok(())
    }

    /// Notifies the guest of the replies put, and of the room for requests made,
    /// since the last time.
    pub(crate) fn notify(&mut self, wakes: &mut WakeCoalescer) {
        let mut notify = std::mem::take(&mut self.notify_pending);
        if notify {
            let _ = self.pipe.outgoing().should_notify_data();
        }
        if std::mem::take(&mut self.taken) {
            let requests = self.pipe.incoming();
            notify |= requests.should_notify_room(requests.capacity() / 2);
        }
        if notify {
            wakes.notify(self.slot);
        }
    }

    /// Says that the session is over: no request is taken and no reply comes.
    pub(crate) fn close(&mut self, wakes: &mut WakeCoalescer) {
        self.pipe.close_read();
        self.pipe.close_write();
        wakes.notify(self.slot);
    }
}
