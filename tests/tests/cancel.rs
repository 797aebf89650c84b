//! Connects and accepts that are given up, or run out of time, hold nothing up
//! and lose nothing.

use arca_tests::guest::deadline;
use arca_tests::oracle::{Actor, GuestActor};
use nix::libc;
use socket2::{Domain, SockAddr, Socket, Type};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Instant;

/// State of a socket that has sent a SYN and got no answer, as the kernel's
/// headers number it.
const SYN_SENT: u8 = 2;

/// A listener of loopback that answers no connect any more, with what fills it.
struct Full {
    address: SocketAddr,
    _sockets: Vec<Socket>,
}

impl Full {
    fn new() -> Self {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&anywhere.into()).expect("a free port");
        listener.listen(0).expect("bound");
        let place = listener.local_addr().expect("bound");
        let address = place.as_socket().expect("an IP address");
        let mut sockets = vec![listener];
        let end = Instant::now() + deadline();
        // On loopback, a connect that the listener takes is over when it returns.
        while sockets.len() == 1 || state(&sockets[sockets.len() - 1]) != SYN_SENT {
            assert!(Instant::now() < end, "the backlog is never full");
            sockets.push(start_connect(&place));
        }
        Self {
            address,
            _sockets: sockets,
        }
    }
}

/// A connect that does not wait.
fn start_connect(place: &SockAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_nonblocking(true).expect("a socket");
    // Whether it is there yet, its state tells.
    let _ = socket.connect(place);
    socket
}

/// The TCP state of a socket.
fn state(socket: &Socket) -> u8 {
    let mut info = [0u8; 256];
    let mut len = info.len() as libc::socklen_t;
    // SAFETY: the buffer is ours, and the length is the buffer's.
    let result = unsafe {
        let info = info.as_mut_ptr().cast();
        let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
        libc::getsockopt(socket.as_raw_fd(), level, name, info, &raw mut len)
    };
    assert_eq!(result, 0, "the kernel tells a socket's state");
    info[0]
}

/// Waits until so many data pipes are allocated, those set aside included.
#[track_caller]
fn expect_pipes(guest: &GuestActor, count: u64) {
    guest
        .guest()
        .wait_until(&format!("{count} data pipes"), |stats| {
            stats.monitor.pipes_allocated == count
        });
}

#[test]
fn a_connect_that_never_completes_holds_nothing_up_and_can_be_given_up() {
    let full = Full::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let open = listener.local_addr().expect("bound");
    for (vcpus, tasks) in [(1, false), (2, true)] {
        let mut guest = GuestActor::start(vcpus, tasks);
        guest.expect(&format!("start a connect s {}", full.address), "ok");
        guest.expect("waits a", "waits");
        for number in 0..100 {
            guest.make(&format!("connect c{number} {open}"));
            let (_stream, peer) = listener.accept().expect("the guest connects");
            assert!(peer.ip().is_loopback());
        }
        guest.expect("done a", "false");
        // Each connection has a data pipe, and one is set aside for the connect.
        expect_pipes(&guest, 101);
        // Time runs out for another, while the first goes on.
        let late = format!("connect-timeout t {} 50", full.address);
        guest.expect(&late, "error ETIMEDOUT");
        expect_pipes(&guest, 101);
        guest.expect("cancel a", "cancelled");
        expect_pipes(&guest, 100);
        // The session is as good as before.
        guest.make(&format!("connect s {open}"));
        let (stream, _) = listener.accept().expect("the guest connects");
        guest.expect("write-all s hello", "ok");
        drop(stream);
        guest.expect("clear", "ok");
        guest.settle();
    }
}

#[test]
fn a_connect_runs_out_of_time_while_a_hundred_others_complete() {
    let full = Full::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let open = listener.local_addr().expect("bound");
    let mut guest = GuestActor::start(1, true);
    let late = format!("start late connect-timeout t {} 300", full.address);
    guest.expect(&late, "ok");
    for number in 0..100 {
        guest.expect(&format!("start j{number} connect c{number} {open}"), "ok");
    }
    for number in 0..100 {
        guest.make(&format!("finish j{number}"));
    }
    guest.expect("finish late", "error ETIMEDOUT");
    expect_pipes(&guest, 100);
}

#[test]
fn an_accept_that_is_given_up_loses_no_connection() {
    for vcpus in [1, 2] {
        let mut guest = GuestActor::start(vcpus, true);
        let address: SocketAddr = guest.make("bind l 127.0.0.1:0").parse().expect("it");
        let mut accepted = 0;
        let rounds = 200;
        for round in 0..rounds {
            guest.expect("start j accept s l", "ok");
            if round % 2 == 0 {
                guest.expect("waits j", "waits");
            }
            let client = TcpStream::connect(address).expect("the guest listens");
            // Between the connection and the cancelling, either may be first.
            let taken = match guest.tell("cancel j").as_str() {
                "cancelled" => guest.make("accept s l"),
                text => text.strip_prefix("ok ").expect("a connection").into(),
            };
            let peer = client.local_addr().expect("connected").to_string();
            assert!(taken.ends_with(&peer), "{taken} is not from {peer}");
            guest.expect("write-all s x", "ok");
            guest.expect("close s", "ok");
            accepted += 1;
        }
        guest.expect("clear", "ok");
        guest.settle();
        let stats = guest.guest().stats().monitor;
        assert_eq!((accepted, stats.connections_in), (rounds, rounds));
    }
}

#[test]
fn an_accept_behind_one_that_is_given_up_is_next() {
    let mut guest = GuestActor::start(1, true);
    let address: SocketAddr = guest.make("bind l 127.0.0.1:0").parse().expect("it");
    guest.expect("start a accept s l", "ok");
    guest.expect("start b accept t l", "ok");
    guest.expect("waits a", "waits");
    guest.expect("waits b", "waits");
    guest.expect("cancel a", "cancelled");
    let _client = TcpStream::connect(address).expect("the guest listens");
    guest.make("finish b");
    guest.expect("write-all t x", "ok");
}
