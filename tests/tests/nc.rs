//! `nc`: standard input and output, relayed to a peer and back.

use arca_tests::data::{blocks_digest, digest_of, send_blocks};
use arca_tests::guest::{Guest, deadline, image, vmm};
use arca_tests::local::free_port;
use arca_tests::service::listen;
use std::io::{PipeWriter, Read, Write, pipe};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread::{self, JoinHandle};

/// Mebibytes that go each way.
fn blocks() -> u64 {
    let set = std::env::var("ARCA_NC_MEBIBYTES").ok();
    set.and_then(|set| set.parse().ok()).unwrap_or(64)
}

/// A running `nc`, with its input, and the digest of its output when that has ended.
struct Nc {
    guest: Guest,
    input: PipeWriter,
    output: JoinHandle<String>,
}

impl Nc {
    fn start(args: &[&str]) -> Self {
        let (input, to_guest) = pipe().expect("a pipe");
        let (mut from_guest, output) = pipe().expect("a pipe");
        let mut command = Command::new(vmm());
        command.arg(image("nc")).args(args).stdin(input);
        Self {
            guest: Guest::spawn_to(command, output.into()),
            input: to_guest,
            output: thread::spawn(move || digest_of(&mut from_guest).expect("a pipe")),
        }
    }

    /// Sends both ways at once, with a peer that does so too, to the end of both.
    fn exchange(self, mut peer: TcpStream) {
        let Self {
            guest,
            mut input,
            output,
        } = self;
        let typing = thread::spawn(move || send_blocks(&mut input, 1000, blocks()));
        let mut answering = peer.try_clone().expect("a socket");
        let answering = thread::spawn(move || {
            let sent = send_blocks(&mut answering, 2000, blocks());
            sent.and_then(|()| answering.shutdown(Shutdown::Write))
        });
        let received = digest_of(&mut peer).expect("the guest's end");
        assert_eq!(received, blocks_digest(1000, blocks()));
        let sent = typing.join().expect("no panic");
        sent.expect("the guest reads its input");
        let sent = answering.join().expect("no panic");
        sent.expect("the guest receives");
        guest.finish_within(10 * deadline()).expect_code(0);
        let printed = output.join().expect("no panic");
        assert_eq!(printed, blocks_digest(2000, blocks()));
    }
}

#[test]
fn a_client_relays_both_ways_to_both_ends() {
    let (listener, address) = listen();
    let nc = Nc::start(&["127.0.0.1", &address.port().to_string()]);
    nc.exchange(listener.accept().expect("the guest connects").0);
}

#[test]
fn a_server_relays_both_ways_to_both_ends() {
    let nc = Nc::start(&["-l", "0"]);
    let address: SocketAddr = nc.guest.address_of("nc");
    nc.exchange(TcpStream::connect(address).expect("it listens"));
}

#[test]
fn each_end_is_passed_on_by_itself() {
    let (listener, address) = listen();
    let mut nc = Nc::start(&["localhost", &address.port().to_string()]);
    let (mut peer, _) = listener.accept().expect("the guest connects");
    peer.set_read_timeout(Some(deadline())).expect("a socket");
    // A piece without a line end arrives although no end follows.
    nc.input.write_all(b"ping").expect("the guest reads");
    let mut got = [0; 4];
    peer.read_exact(&mut got).expect("the guest sends");
    assert_eq!(&got, b"ping");
    drop(nc.input);
    assert_eq!(peer.read(&mut got).expect("the end"), 0);
    // The other direction lives.
    peer.write_all(b"late answer").expect("a half-close only");
    drop(peer);
    nc.guest.finish().expect_code(0);
    let printed = nc.output.join().expect("no panic");
    assert_eq!(printed, digest_of(&mut &b"late answer"[..]).expect("bytes"));
}

#[test]
fn a_reset_ends_it_although_its_input_does_not_end() {
    let (listener, address) = listen();
    let nc = Nc::start(&["127.0.0.1", &address.port().to_string()]);
    let peer: TcpStream = listener.accept().expect("the guest connects").0;
    let peer = socket2::Socket::from(peer);
    peer.set_linger(Some(std::time::Duration::ZERO))
        .expect("a socket");
    drop(peer);
    let Nc { guest, input, .. } = nc;
    let ended = guest.finish();
    ended.expect_code(1).expect_stderr("connection reset");
    drop(input);
}

#[test]
fn a_refused_connect_and_a_taken_port_are_said() {
    let port = free_port().to_string();
    let ended = Guest::start(&[], "nc", &["127.0.0.1", &port]).finish();
    ended.expect_code(1).expect_stderr("connection refused");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let ended = Guest::start(&[], "nc", &["-l", &port]).finish();
    ended.expect_code(1).expect_stderr("address in use");
}
