//! From Arca to TCP.

use super::{Connection, SEND_MAX, spent};
use crate::relay::Relay;
use crate::sys;
use crate::trace::{Direction, TraceKind};
use arca_shared::ring::{Arm, InvalidCursor};
use nix::errno::Errno;
use std::net::Shutdown;

/// What becomes of the bytes in ring A.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uplink {
    /// They are sent.
    Open,
    /// The socket takes no more: they are dropped, so that a writer that does
    /// not read the flag still comes to its end, until Arca closes its writer.
    Discarding,
    /// There are no more.
    Done,
}

/// What was sent in a row, with more there each time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Burst {
    bytes: usize,
    /// How many of the next count as the end of a long one.
    followers: u8,
    /// Where the last one ended that is to be pushed.
    end: Option<u64>,
}

impl Burst {
    /// So many bytes are full segments, with a short one at their end.
    const LONG: usize = 64 << 10;
    /// What a program writes in one call may come in so many pieces after a long
    /// one: as the ring filled, and as it was read.
    const MAX_FOLLOWERS: u8 = 4;

    /// Takes note of a piece that was sent; whether the kernel is to keep nothing
    /// of it back, unless more is sent soon: the end of a long burst, or what comes
    /// soon after one.
    fn sent(&mut self, len: usize, more: bool) -> bool {
        self.bytes += len;
        if more {
            return false;
        }
        let long = std::mem::take(&mut self.bytes) > Self::LONG;
        let follows = self.followers > 0;
        self.followers = match long {
            true => Self::MAX_FOLLOWERS,
            false => self.followers.saturating_sub(1),
        };
        long || follows
    }
}

impl Connection {
    /// Has the kernel keep nothing of a burst back that has ended and was not
    /// followed by more.
    pub(crate) fn push_burst(&mut self) {
        if self.burst.end.take() == Some(self.from_arca.taken())
            && let Some(socket) = &self.socket
        {
            sys::push(socket);
        }
    }

    /// Sends what is in ring A; whether there is more that could be sent.
    pub(super) fn run_uplink(&mut self, relay: &mut Relay) -> Result<bool, InvalidCursor> {
        let mut budget = relay.budget;
        loop {
            match self.uplink {
                Uplink::Done => return Ok(false),
                Uplink::Discarding => {
                    return self.discard(relay);
                }
                Uplink::Open => {}
            }
            // Not the last few bytes of it: they would be a segment of their own.
            if budget < (SEND_MAX / 2).min(relay.budget.div_ceil(2)) {
                return Ok(true);
            }
            let data = self.from_arca.data_parts(budget.min(SEND_MAX))?;
            if data.is_empty() {
                if self.is_drained()? {
                    // Arca may have closed both ends since this turn began: that is
                    // no half-close, after which a reset would look different.
                    if !self.has_left() && self.wants_abort() {
                        self.abort(relay)?;
                        continue;
                    }
                    if !self.has_left() && self.is_left() {
                        self.leave(relay)?;
                        continue;
                    }
                    self.finish_uplink(relay);
                    continue;
                }
                if self.from_arca.arm_data(0)? == Arm::Armed {
                    relay.stats.ring_empty += 1;
                    return Ok(false);
                }
                continue;
            }
            let more = self.from_arca.available()? > data.len();
            let Some(socket) = &self.socket else {
                self.uplink = Uplink::Discarding;
                continue;
            };
            if !self.ready.writable {
                self.bound_orphan(relay);
                return Ok(false);
            }
            match sys::send(socket, &data) {
                Ok(len) => {
                    // A short count: the socket's buffer is full, and epoll
                    // says when it is not.
                    self.ready.writable = len == data.len();
                    if let Some(tracer) = &mut relay.tracer {
                        let before = self.from_arca.taken();
                        tracer.data(self.id, Direction::Up, before, &data, len);
                    }
                    budget = spent(budget, len);
                    relay.stats.bytes_to_tcp += len as u64;
                    relay.wakes.bytes_sent(len);
                    let more = more || !self.ready.writable;
                    self.consume(len, relay);
                    if self.burst.sent(len, more) {
                        self.burst.end = Some(self.from_arca.taken());
                        relay.burst_ends.push((self.id, false));
                    }
                }
                Err(Errno::EAGAIN) => self.ready.writable = false,
                Err(errno) => {
                    self.store_errno(sys::wire_errno(errno), relay);
                    self.uplink = Uplink::Discarding;
                    self.close_read(relay);
                    // What the kernel still has is read to its end.
                    self.ready.readable = true;
                    self.ready.read_until_eof = true;
                    // The downlink had its turn: it gets another.
                    self.discard(relay)?;
                    return Ok(true);
                }
            }
        }
    }

    /// Gives room back, and notifies an Arca that waits for it.
    fn consume(&mut self, len: usize, relay: &mut Relay) {
        self.from_arca.consume(len);
        let enough = self.from_arca.capacity() / 2;
        if self.from_arca.should_notify_room(enough) {
            relay.wakes.notify(self.slot);
        }
    }

    /// Whether Arca has written its last byte and all is taken. The flag is
    /// read before the ring.
    fn is_drained(&mut self) -> Result<bool, InvalidCursor> {
        Ok(self.writer_gone() && self.from_arca.available()? == 0)
    }

    /// Ring A has come to its orderly end.
    fn finish_uplink(&mut self, relay: &mut Relay) {
        self.uplink = Uplink::Done;
        relay.trace(|| TraceKind::HalfClosed {
            id: self.id,
            direction: Direction::Up,
            bytes: self.from_arca.taken(),
        });
        if self.has_left() {
            self.close_socket();
        } else if let Some(socket) = &self.socket {
            // Fails only if the connection is gone already, which the downlink
            // finds out.
            let _ = socket.shutdown(Shutdown::Write);
        }
        self.close_read(relay);
    }

    /// Drops what is in ring A; whether there is more that could be dropped.
    fn discard(&mut self, relay: &mut Relay) -> Result<bool, InvalidCursor> {
        // The flag is read before the ring.
        let over = self.writer_gone();
        let len = self.from_arca.available()?;
        if len > 0 {
            self.consume(len, relay);
        }
        if over {
            self.uplink = Uplink::Done;
            return Ok(false);
        }
        Ok(self.from_arca.arm_data(0)? == Arm::Ready)
    }
}

#[cfg(test)]
mod tests {
    use super::Burst;

    #[test]
    fn the_end_of_a_long_burst_is_pushed_and_what_follows_it() {
        let mut burst = Burst::default();
        assert!(!burst.sent(100, false) && !burst.sent(100, false));
        assert!(!burst.sent(Burst::LONG, true));
        assert!(burst.sent(1, false));
        for _ in 0..Burst::MAX_FOLLOWERS {
            assert!(burst.sent(100, false), "what follows it");
        }
        assert!(!burst.sent(100, false));
        // Short ones do not add up to a long one.
        for _ in 0..2 * Burst::LONG {
            assert!(!burst.sent(1, false));
        }
    }

    #[test]
    fn a_burst_is_long_past_its_bound() {
        let mut burst = Burst::default();
        assert!(!burst.sent(Burst::LONG, false));
        assert!(burst.sent(Burst::LONG + 1, false));
    }
}
