//! A connection that Arca has left with bytes that its peer does not take.
//!
//! Linux keeps such a connection after close, and gives it up when the peer has
//! taken nothing for long. The bytes that the kernel has not taken yet are ours to
//! keep, in ring A, and so the socket stays open; but the kernel goes on to judge
//! the peer, by TCP_USER_TIMEOUT: how long it may let a segment or a window probe
//! go unanswered, or its window closed (tcp(7)). What the peer takes starts it anew.

use super::{Connection, Uplink};
use crate::relay::Relay;
use crate::sys;
use nix::errno::Errno;

impl Connection {
    /// The socket takes no more for now. If Arca has left, the kernel is to give the
    /// peer up that takes nothing for the orphan timeout.
    pub(super) fn bound_orphan(&mut self, relay: &Relay) {
        if self.has_left()
            && !std::mem::replace(&mut self.bounded, true)
            && let Some(socket) = &self.socket
        {
            sys::limit_silence(socket, relay.orphan_timeout);
        }
    }

    /// Takes note of a peer that is gone, or that the kernel has given up, while
    /// ring A was to be drained.
    pub(super) fn check_orphan(&mut self, relay: &mut Relay) {
        if !self.has_left() || !self.ready.failed || self.uplink != Uplink::Open {
            return;
        }
        self.ready.failed = false;
        let Some(errno) = self.socket.as_ref().and_then(sys::take_error) else {
            return;
        };
        // A peer that resets wants nothing of it: to nobody is that a loss.
        if errno == Errno::ETIMEDOUT {
            let (id, lost, limit) = (self.id, self.undelivered(), relay.orphan_timeout);
            relay.stats.given_up += 1;
            relay.stats.undelivered += lost as u64;
            relay.warn(format_args!(
                "connection {id} is given up with {lost} bytes undelivered: its peer has taken \
                 nothing for {limit:?}; --orphan-timeout is how long it may"
            ));
        }
        self.on_receive_error(sys::wire_errno(errno), relay);
    }
}
