//! A peer that does not read what the guest program `oracle` writes to it.

use arca_shared::protocol::message::SocketOption;
use socket2::SockRef;
use std::net::{SocketAddr, TcpListener};

/// Bytes that the program writes: fewer than its pipe takes, so that it is done whatever
/// the kernel has taken, and more than the kernel takes.
pub const LEN: usize = 2_000_000;

/// A service whose peers' bytes stay with their senders until it reads.
///
/// # Panics
///
/// If there is no port.
#[must_use]
pub fn service() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    SockRef::from(&listener)
        .set_recv_buffer_size(16 << 10)
        .expect("set");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// What the program is told: to write [`LEN`] bytes to the service.
#[must_use]
pub fn lines(address: SocketAddr) -> [String; 3] {
    [
        format!("connect s {address}"),
        // Linux takes twice as much at most.
        format!("set-option s {} 200000", SocketOption::SendBuffer as u8),
        format!("write-all s @7:{LEN}"),
    ]
}
