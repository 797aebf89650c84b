//! A hundred thousand connections that come and go in one guest, half of them
//! made by it and half accepted: nothing grows. Alone in its file: it counts what
//! the whole process has.
//!
//! `ARCA_CYCLES` is how many there are, 100,000 unless given.

use arca_tests::guest::deadline;
use arca_tests::process::{descriptors, expect_descriptors, resident};
use arca_tests::talk::Talk;
use std::env;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

/// Cycles in one go, at one address, at most: fewer than there are ports.
const ROUND: usize = 2_500;
/// After so many cycles what is kept is filled: caches, buffers, tables.
const SETTLED: usize = 10_000;
/// Loopback addresses that are taken in turn, for each has ports of its own.
const ADDRESSES: u8 = 8;
/// Growth of memory that is none: what the allocators keep for the next round.
const SLACK: u64 = 1 << 20;

/// Gives every client its byte back, and waits until the client has closed.
fn serve(listener: TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.expect("a client");
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a byte");
        stream.write_all(&byte).expect("the client is there");
        assert_eq!(stream.read(&mut byte).expect("an orderly end"), 0);
    }
}

/// Cycles that the guest begins, so many.
fn outbound(guest: &mut Talk, address: SocketAddr, count: usize) {
    guest
        .say(&format!("churn {address} {count}"))
        .expect("runs");
    let answer = guest.hear(deadline()).expect("an answer");
    assert!(answer.starts_with("done"), "{answer}");
}

/// Cycles that the host begins, so many; the source address is chosen so that its ports
/// are not used up.
fn inbound(guest: &mut Talk, from: SocketAddr, count: usize) {
    guest.say(&format!("serve 0 {count}")).expect("runs");
    let answer = guest.hear(deadline()).expect("an answer");
    let address: Option<SocketAddr> = answer
        .strip_prefix("listening ")
        .and_then(|address| address.parse().ok());
    let address = address.unwrap_or_else(|| panic!("{answer}"));
    for _ in 0..count {
        let kind = socket2::Type::STREAM;
        let socket = socket2::Socket::new(socket2::Domain::IPV4, kind, None).expect("a socket");
        socket.bind(&from.into()).expect("a free port");
        socket.connect(&address.into()).expect("the guest listens");
        let mut stream = TcpStream::from(socket);
        let mut byte = [0x5a];
        stream.write_all(&byte).expect("the guest is there");
        stream.read_exact(&mut byte).expect("the byte comes back");
    }
    let answer = guest.hear(deadline()).expect("an answer");
    assert!(answer.starts_with("done"), "{answer}");
}

#[test]
fn nothing_grows_while_connections_come_and_go() {
    let cycles: usize = match env::var("ARCA_CYCLES") {
        Ok(text) => text.parse().expect("ARCA_CYCLES is a number"),
        Err(_) => 100_000,
    };
    let hosts: Vec<SocketAddr> = (1..=ADDRESSES)
        .map(|last| {
            let listener =
                TcpListener::bind(SocketAddr::from(([127, 0, 0, last], 0))).expect("a free port");
            let address = listener.local_addr().expect("bound");
            thread::spawn(move || serve(listener));
            address
        })
        .collect();
    let mut guest = Talk::start("bench", &[], |_| {});
    let ready = guest.hear(deadline()).expect("the guest is ready");
    assert!(ready.starts_with("ready"), "{ready}");
    let open = descriptors();
    let began = Instant::now();
    let mut first = None;
    let count = (cycles / 16).clamp(1, ROUND);
    let rounds = cycles.div_ceil(2 * count).max(3);
    for round in 0..rounds {
        let host = hosts[round % hosts.len()];
        outbound(&mut guest, host, count);
        inbound(&mut guest, SocketAddr::new(host.ip(), 0), count);
        let stats = guest.guest().wait_until("free of connections", |stats| {
            let monitor = &stats.monitor;
            (monitor.connections, monitor.listeners) == (0, 0) && monitor.pipes_allocated == 0
        });
        let arena = stats.monitor.arena_used;
        // The service's thread has yet to close its end of the last one.
        expect_descriptors(open);
        let memory = resident();
        if first.is_none() && 2 * count * (round + 1) >= SETTLED.min(cycles / 2) {
            first = Some((arena, memory));
        }
        if round + 1 == rounds {
            let (arena_first, memory_first) = first.expect("there are more rounds");
            assert_eq!(arena, arena_first, "bytes of the arena");
            println!(
                "{} cycles in {:?}; memory {} KiB once it was settled, {} KiB at the end",
                stats.monitor.connections_in + stats.monitor.connections_out,
                began.elapsed(),
                memory_first >> 10,
                memory >> 10
            );
            assert!(
                memory < memory_first + SLACK,
                "memory grew from {memory_first} to {memory}"
            );
            assert_eq!(stats.monitor.connections_out, (rounds * count) as u64);
            assert_eq!(stats.monitor.connections_in, (rounds * count) as u64);
        }
    }
    assert_eq!(guest.finish().code(), 0);
}
