//! `echo-server`: clients of the host against a server in the guest.

use arca_tests::data::{assert_same, noise};
use arca_tests::guest::{DEADLINE, Guest};
use arca_tests::local::{LocalGuest, free_port};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::thread;

/// Sends, half-closes, reads to the end: what comes back must be what was sent.
fn exchange(address: SocketAddr, seed: u64, len: usize) {
    let sent = noise(seed, len);
    let mut stream = TcpStream::connect(address).expect("the guest listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    stream
        .set_write_timeout(Some(DEADLINE))
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

#[test]
fn a_port_in_use_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let ended = Guest::start(&[], "echo-server", &[&port]).finish();
    ended.expect_code(1).expect_stderr("address in use");
}
