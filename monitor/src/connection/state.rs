//! A connection as a person is told of it.

use super::{Connection, Downlink, Uplink};
use crate::state::{ConnectionState, DirectionState};

impl Connection {
    /// What it does, and who waits for whom.
    pub(crate) fn state(&mut self) -> ConnectionState {
        let address =
            |address: std::io::Result<socket2::SockAddr>| address.ok().and_then(|a| a.as_socket());
        let socket = self.socket.as_ref();
        ConnectionState {
            id: self.id,
            local: socket.and_then(|socket| address(socket.local_addr())),
            peer: socket.and_then(|socket| address(socket.peer_addr())),
            pipe: self.region.place(),
            up: self.up_state(),
            down: self.down_state(),
        }
    }

    fn up_state(&mut self) -> DirectionState {
        // What is in a ring that the guest broke is not read again.
        let in_ring = match self.protocol_error {
            true => None,
            false => self.from_arca.available().ok(),
        };
        let waits = match (self.uplink, in_ring) {
            (Uplink::Done, _) => "ended",
            (Uplink::Discarding, _) => "the socket takes no more; what the guest writes is dropped",
            (Uplink::Open, Some(0)) if self.writer_gone() => "ending",
            (Uplink::Open, Some(0)) => "waits for the guest to write",
            (Uplink::Open, _) if !self.ready.writable => "waits for the peer to read",
            (Uplink::Open, _) => "is being sent",
        };
        DirectionState {
            bytes: self.from_arca.taken(),
            in_ring,
            waits,
        }
    }

    fn down_state(&mut self) -> DirectionState {
        let capacity = self.to_arca.capacity();
        let in_ring = match self.protocol_error {
            true => None,
            false => self.to_arca.free().ok().map(|free| capacity - free),
        };
        let unread = in_ring.is_some_and(|len| len > 0);
        let waits = match self.downlink {
            Downlink::Done if unread => "ended; the guest has not read the rest",
            Downlink::Done => "ended",
            Downlink::Ending => "ended; waits for the guest to read the rest",
            Downlink::Open if in_ring == Some(capacity) => "full: waits for the guest to read",
            Downlink::Open if unread => "the guest has not read it yet",
            Downlink::Open if self.ready.readable => "is being received",
            Downlink::Open => "waits for the peer to send",
        };
        DirectionState {
            bytes: self.to_arca.written(),
            in_ring,
            waits,
        }
    }
}
