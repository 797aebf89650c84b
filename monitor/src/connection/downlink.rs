//! From TCP to Arca.

use super::{Connection, Leaving, spent};
use crate::relay::Relay;
use crate::sys;
use crate::trace::{Direction, TraceKind};
use arca_shared::ring::{Arm, InvalidCursor};
use nix::errno::Errno;
use std::net::Shutdown;

/// What becomes of the bytes that TCP delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Downlink {
    /// They go into ring B.
    Open,
    /// TCP has come to its end, and Arca is notified once it has read all of ring B:
    /// a draft peer that sees the flag first may lose the last bytes.
    Ending,
    /// There are no more, or Arca does not want them.
    Done,
}

/// Room that is enough for a receive: more that lies beyond the wrap is left for
/// the next one.
const PIECE: usize = 16 << 10;

impl Connection {
    /// Receives into ring B; whether there is more that could be received.
    pub(super) fn run_downlink(&mut self, relay: &mut Relay) -> Result<bool, InvalidCursor> {
        let mut budget = relay.budget;
        loop {
            match self.downlink {
                Downlink::Done => {
                    self.refuse_late_data(relay)?;
                    return Ok(false);
                }
                Downlink::Ending => {
                    self.end_downlink(relay)?;
                    return Ok(false);
                }
                Downlink::Open => {}
            }
            if self.reader_gone() {
                // Both ends may have been closed since this turn began.
                if self.wants_abort() {
                    self.abort(relay)?;
                    continue;
                }
                if self.is_left() {
                    self.leave(relay)?;
                    continue;
                }
                relay.trace(|| TraceKind::ReaderClosed { id: self.id });
                if let Some(socket) = &self.socket {
                    // Fails only if the connection is gone already.
                    let _ = socket.shutdown(Shutdown::Read);
                }
                self.close_write(relay);
                return Ok(false);
            }
            let Some(socket) = &self.socket else {
                self.downlink = Downlink::Ending;
                continue;
            };
            if !self.ready.readable {
                return Ok(false);
            }
            if budget == 0 {
                return Ok(true);
            }
            let room = self
                .to_arca
                .room_parts(budget.min(relay.receive_max))?
                .in_one(PIECE);
            if room.is_empty() {
                if self.to_arca.arm_room(1)? == Arm::Armed {
                    relay.stats.ring_full += 1;
                    return Ok(false);
                }
                continue;
            }
            match sys::receive(socket, &room) {
                Ok(0) => {
                    self.downlink = Downlink::Ending;
                    self.peer_ended = true;
                    relay.trace(|| TraceKind::HalfClosed {
                        id: self.id,
                        direction: Direction::Down,
                        bytes: self.to_arca.written(),
                    });
                }
                Ok(len) => {
                    if let Some(tracer) = &mut relay.tracer {
                        // Before the guest may take it, and give the room to what comes
                        // next.
                        let before = self.to_arca.written();
                        tracer.data(self.id, Direction::Down, before, &room, len);
                    }
                    self.to_arca.commit(len);
                    if self.to_arca.should_notify_data() {
                        relay.wakes.notify_data(self.slot);
                    }
                    let full = self.to_arca.free()? < self.to_arca.capacity() / 2;
                    relay.wakes.bytes_received(len, full);
                    budget = spent(budget, len);
                    relay.stats.bytes_from_tcp += len as u64;
                    // A short count: nothing is left, unless an end or an error
                    // is, and epoll says when there is more.
                    if len < room.len() && !self.ready.read_until_eof {
                        self.ready.readable = false;
                    }
                }
                Err(Errno::EAGAIN) => self.ready.readable = false,
                Err(errno) => self.on_receive_error(sys::wire_errno(errno), relay),
            }
        }
    }

    /// TCP has come to its end: notifies Arca, a draft peer only once it has read
    /// everything.
    fn end_downlink(&mut self, relay: &mut Relay) -> Result<(), InvalidCursor> {
        let unread = self.to_arca.free()? < self.to_arca.capacity();
        if unread
            && !relay.said_hello
            && !self.reader_gone()
            && self.to_arca.arm_room(self.to_arca.capacity())? == Arm::Armed
        {
            return Ok(());
        }
        self.close_write(relay);
        Ok(())
    }

    /// While ring A drains after Arca has closed the connection, data that comes is
    /// answered with a reset, as the kernel does for a closed socket.
    fn refuse_late_data(&mut self, relay: &mut Relay) -> Result<(), InvalidCursor> {
        if self.leaving != Leaving::Closed || !self.ready.readable {
            return Ok(());
        }
        self.ready.readable = false;
        if self.socket.as_ref().is_some_and(sys::has_unread) {
            self.abort(relay)?;
        }
        Ok(())
    }
}
