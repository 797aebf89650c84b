//! `echo-server`: clients of the host against a server in the guest.

use arca_tests::data::{assert_same, noise};
use arca_tests::guest::{Guest, deadline};
use arca_tests::local::{LocalGuest, free_port};
use arca_tests::process::raise_descriptors;
use arca_tests::{platform, skip};
use arca_vmm::Platform;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

/// Sends, half-closes, reads to the end: what comes back must be what was sent.
fn exchange(address: SocketAddr, seed: u64, len: usize) {
    let sent = noise(seed, len);
    let mut stream = TcpStream::connect(address).expect("the guest listens");
    stream
        .set_read_timeout(Some(deadline()))
        .expect("a deadline");
    stream
        .set_write_timeout(Some(deadline()))
        .expect("a deadline");
    let mut writer = stream.try_clone().expect("a second handle");
    let source = sent.clone();
    let sender = thread::spawn(move || {
        writer.write_all(&source).expect("the guest reads");
        writer.shutdown(Shutdown::Write).expect("connected");
    });
    let mut got = Vec::with_capacity(len);
    stream.read_to_end(&mut got).expect("the guest answers");
    sender.join().expect("all was sent");
    assert_same(&got, &sent);
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[test]
fn sixty_four_mebibytes_come_back_after_a_half_close() {
    let guest = Guest::start(&[], "echo-server", &["0"]);
    exchange(guest.address(), 7, 64 << 20);
}

#[test]
fn rings_in_use_are_filled_in_ahead_where_that_helps_and_no_others() {
    let address = local(free_port());
    let args = [address.port().to_string()];
    let args = args.each_ref().map(String::as_str);
    let guest = LocalGuest::start_with("echo-server", &args, |config| config.sandbox = true);
    guest.wait_listening(address);
    for client in 0..8 {
        exchange(address, client, 1 << 10);
    }
    let small = guest.wait_until("done with little", |stats| {
        stats.monitor.bytes_to_tcp == 8 << 10 && stats.monitor.connections == 0
    });
    assert_eq!(small.monitor.prefaulted, 0);
    exchange(address, 9, 256 << 10);
    let used = guest.wait_until("done", |stats| {
        stats.monitor.bytes_to_tcp == (8 + 256) << 10 && stats.monitor.connections == 0
    });
    // Half as much again, and a group of eight pages, for each of the two rings.
    let most = (2 * (256 + 128 + 32)) << 10;
    match platform().resolve() {
        Platform::Kvm => assert!((1..=most).contains(&used.monitor.prefaulted), "{used:#?}"),
        _ => assert_eq!(used.monitor.prefaulted, 0),
    }
    guest.stop();
}

#[test]
fn eight_clients_at_once_and_then_nothing_is_left() {
    let address = local(free_port());
    let guest = LocalGuest::start("echo-server", &[&address.port().to_string()]);
    guest.wait_listening(address);
    thread::scope(|scope| {
        for client in 0..8 {
            scope.spawn(move || exchange(address, client, 8 << 20));
        }
    });
    guest.wait_until("free of data pipes", |stats| {
        stats.monitor.pipes_allocated == 0 && stats.monitor.connections_in == 8
    });
    guest.stop();
}

/// Connections that do nothing: more than the guest's memory would have room for
/// if each had a buffer of its own.
const IDLE: usize = 4000;

#[test]
fn thousands_of_idle_clients_leave_the_server_at_work() {
    let limit = raise_descriptors();
    if limit < IDLE as u64 + 100 {
        skip(&format!(
            "{IDLE} connections need more descriptors than {limit}"
        ));
        return;
    }
    let guest = Guest::start(&[], "echo-server", &["0"]);
    let address = guest.address();
    let mut idle = Vec::new();
    for number in 0..IDLE {
        let stream = TcpStream::connect(address);
        idle.push(stream.unwrap_or_else(|error| panic!("connection {number}: {error}")));
    }
    // Each was accepted: the last one has its answer, and so has the first.
    for stream in [IDLE - 1, 0, IDLE / 2].map(|number| &idle[number]) {
        echo(stream, b"still there?");
    }
    exchange(address, 9, 1 << 20);
}

#[test]
fn clients_beyond_the_servers_memory_wait_for_others_to_go() {
    // A heap of some 14 MiB has room for about 440.
    let guest = Guest::start(&["--memory", "16M"], "echo-server", &["0"]);
    let address = guest.address();
    let mut clients = Vec::new();
    for _ in 0..500 {
        clients.push(TcpStream::connect(address).expect("the host queues it"));
    }
    echo(&clients[0], b"the first");
    let last = clients.pop().expect("the last");
    last.set_nonblocking(true).expect("a socket");
    (&last).write_all(b"the last").expect("room in the socket");
    // Those before it go, and it has its turn.
    drop(clients);
    last.set_nonblocking(false).expect("a socket");
    let mut got = [0; 8];
    last.set_read_timeout(Some(deadline())).expect("a deadline");
    (&last).read_exact(&mut got).expect("the guest answers");
    assert_eq!(&got, b"the last");
}

#[test]
fn clients_that_never_read_are_held_back_not_kept_without_bound() {
    let guest = Guest::start(&["--memory", "16M"], "echo-server", &["0"]);
    let address = guest.address();
    // Each sends, byte by byte and in bulk, until nothing more is taken.
    let greedy: Vec<TcpStream> = (0..16)
        .map(|number| {
            let stream = TcpStream::connect(address).expect("the guest listens");
            stream.set_nodelay(true).expect("a socket");
            let pause = Some(Duration::from_millis(300));
            stream.set_write_timeout(pause).expect("a time-out");
            let piece = vec![number; if number % 2 == 0 { 1 } else { 1 << 20 }];
            let pieces = if number % 2 == 0 { 20_000 } else { 64 };
            for _ in 0..pieces {
                if (&stream).write_all(&piece).is_err() {
                    break;
                }
            }
            stream
        })
        .collect();
    // The server lives, and serves who reads.
    exchange(address, 11, 1 << 20);
    drop(greedy);
    exchange(address, 12, 1 << 20);
}

/// Sends something and waits until it comes back.
#[track_caller]
fn echo(mut stream: &TcpStream, text: &[u8]) {
    stream
        .set_read_timeout(Some(deadline()))
        .expect("a deadline");
    stream.write_all(text).expect("connected");
    let mut got = vec![0; text.len()];
    stream.read_exact(&mut got).expect("the guest answers");
    assert_same(&got, text);
}

#[test]
fn a_port_in_use_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let ended = Guest::start(&[], "echo-server", &[&port]).finish();
    ended.expect_code(1).expect_stderr("address in use");
}
