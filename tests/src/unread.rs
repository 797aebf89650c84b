//! A peer that does not read what the guest program `oracle` writes to it.

use crate::guest::{Guest, image, vmm};
use arca_shared::protocol::message::SocketOption;
use socket2::SockRef;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{ChildStdin, Command, Stdio};

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

/// Starts the program with options of the VMM's command before it, and tells it. Gives
/// the process, its standard input, at whose end the program ends, and the peer.
///
/// # Panics
///
/// If it does not start or does not connect.
#[must_use]
pub fn start(options: &[&str], stdout: Stdio) -> (Guest, ChildStdin, TcpStream) {
    let (listener, address) = service();
    let mut command = Command::new(vmm());
    command.args(options).arg(image("oracle"));
    command.stdin(Stdio::piped());
    let mut guest = Guest::spawn_to(command, stdout);
    let mut input = guest.child().stdin.take().expect("piped");
    for line in lines(address) {
        writeln!(input, "{line}").expect("the guest reads");
    }
    let (peer, _) = listener.accept().expect("the guest is connected");
    (guest, input, peer)
}
