//! Pacing: the connections that do without.
//!
//! Some of the kernel's congestion controls send at the rate that they measured, by a
//! timer for each burst. BBR does, and hosts have it as their default. Between two ends on one
//! host there is no path to spare, nothing is lost, and the timers are most of what sending costs.
//! So such connections are given Reno, which does not pace, and which every kernel has.
//! All others keep what the host's administrator chose.

use socket2::{SockRef, Socket};
use std::net::IpAddr;

/// What connections within the host are sent by (tcp(7), TCP_CONGESTION).
const UNPACED: &[u8] = b"reno";

/// Has the kernel send without pacing on this connection, or on all that this listener accepts, if
/// it is within the host; whether it is. `local` may be unknown.
pub(crate) fn stop_within_host(socket: &Socket, local: Option<IpAddr>, peer: IpAddr) -> bool {
    let within = within_host(local, peer);
    if within {
        // It fails if the connection is gone, or where the administrator forbids Reno
        // (net.ipv4.tcp_allowed_congestion_control). Then it is sent as by default.
        let _ = SockRef::from(socket).set_tcp_congestion(UNPACED);
    }
    within
}

/// Whether both ends of a connection are on this host: the peer has an address of loopback, or
/// the one that is ours.
fn within_host(local: Option<IpAddr>, peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    peer.is_loopback() || local.map(|local| local.to_canonical()) == Some(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_addresses_tell_whether_a_connection_leaves_the_host() {
        let within = |local: Option<&str>, peer: &str| {
            let address = |text: &str| text.parse().expect("an address");
            within_host(local.map(address), address(peer))
        };
        for (local, peer) in [
            (None, "127.0.0.1"),
            (None, "127.8.0.1"),
            (None, "::1"),
            (None, "::ffff:127.0.0.1"),
            (Some("192.0.2.1"), "192.0.2.1"),
            (Some("::ffff:192.0.2.1"), "192.0.2.1"),
            (Some("2001:db8::1"), "2001:db8::1"),
            (Some("192.0.2.1"), "127.0.0.1"),
        ] {
            assert!(within(local, peer), "{local:?} to {peer}");
        }
        for (local, peer) in [
            (None, "192.0.2.1"),
            (None, "128.0.0.1"),
            (None, "::2"),
            (Some("192.0.2.1"), "192.0.2.2"),
            (Some("2001:db8::1"), "2001:db8::2"),
        ] {
            assert!(!within(local, peer), "{local:?} to {peer}");
        }
    }
}
