//! Tests of sessions, listeners and streams, against a monitor that the test
//! plays.

use super::*;
use crate::errno::Errno;
use crate::error::Error;
use crate::pipe::BidirectionalPipe;
use crate::protocol::message::{Name, Reply, Request, SocketOption, Target};
use crate::testing::hal::Event;
use crate::testing::peer::{LOCAL, Peer, REMOTE, address};
use alloc::sync::Arc;
use core::net::SocketAddr;
use core::sync::atomic::Ordering;
use core::time::Duration;

mod halves;
mod in_place;
mod interfaces;
mod sockets;
mod streams;

fn os<T>(errno: Errno) -> Result<T, Error> {
    Err(Error::Os(errno))
}

fn remote() -> SocketAddr {
    REMOTE.into()
}

/// While the caller is parked, takes this one request and answers it.
fn answer(peer: &Arc<Peer>, request: Request, reply: Reply) {
    let other = peer.clone();
    peer.hal.while_parked(move || {
        let (id, found) = other.request();
        assert_eq!(found, request);
        other.reply(id, reply);
    });
}

/// A peer, its session, a connection of it and the monitor's end of that.
struct Connected {
    peer: Arc<Peer>,
    session: ArcaSession,
    stream: ArcaTcpStream,
    theirs: BidirectionalPipe,
}

/// A connection whose rings have that capacity.
fn connected(capacity: u64) -> Connected {
    let peer = Peer::simple();
    let session = peer.session();
    let (stream, theirs) = peer.connect(&session, capacity);
    Connected {
        peer,
        session,
        stream,
        theirs,
    }
}
