//! Limits: what goes beyond one is refused with the error that fits, and harms
//! nothing that is there.

use arca_tests::guest::{Guest, image, vmm};
use arca_tests::local::{LocalGuest, free_port};
use arca_tests::service;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};

/// What `hostile hoard` says with these options, line by line.
fn hoard(options: &[&str]) -> Vec<String> {
    let (service, _) = service::echo();
    let port = service.port().to_string();
    let ended = Guest::start(options, "hostile", &["hoard", "0", "1", &port]).finish();
    ended.expect_code(0);
    let text = String::from_utf8(ended.stdout).expect("text");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn options_limit_connections_listeners_and_accepts() {
    let said = hoard(&[
        "--limit-connections",
        "7",
        "--limit-listeners",
        "3",
        "--limit-accepts",
        "5",
    ]);
    let full = "too many connections or listeners";
    assert_eq!(said[0], format!("connections: 7, then {full}"));
    assert_eq!(said[1], format!("listeners: 3, then {full}"));
    assert_eq!(said[2], "accepts: 5, then operation would block");
    // All requests that wait count together.
    let said = hoard(&["--limit-requests", "4", "--limit-connections", "1"]);
    assert_eq!(said[2], "accepts: 4, then operation would block");
}

#[test]
fn a_full_arena_is_an_error_for_a_connect() {
    let said = hoard(&["--arena", "4M"]);
    let count = said[0].strip_prefix("connections: ");
    let count = count.and_then(|rest| rest.strip_suffix(", then no buffer space left"));
    let all: u32 = count
        .unwrap_or_else(|| panic!("{said:?}"))
        .parse()
        .expect("a number");
    let said = hoard(&["--arena", "4M", "--limit-arena", "50"]);
    let count = said[0].strip_prefix("connections: ");
    let count = count.and_then(|rest| rest.strip_suffix(", then no buffer space left"));
    let half: u32 = count
        .unwrap_or_else(|| panic!("{said:?}"))
        .parse()
        .expect("a number");
    assert!(half > 0 && half < all, "{half} of {all}");
}

/// Connects so many clients at once, each with its own word, and serves them one
/// after the other, in order: those that do not fit wait in the backlog.
fn serve_all(address: SocketAddr, count: u32) {
    let mut clients = Vec::new();
    for number in 0..count {
        let mut client = TcpStream::connect(address).expect("the guest listens");
        let limit = Some(arca_tests::guest::deadline());
        client.set_read_timeout(limit).expect("a deadline");
        client.write_all(&number.to_le_bytes()).expect("connected");
        clients.push(client);
    }
    for (number, mut client) in (0..count).zip(clients) {
        let mut word = [0; 4];
        client.read_exact(&mut word).expect("served in its turn");
        assert_eq!(u32::from_le_bytes(word), number);
    }
}

#[test]
fn a_full_arena_makes_clients_wait_and_loses_none() {
    let port = free_port();
    let guest = LocalGuest::start_with("echo-server", &[&port.to_string()], |config| {
        config.arena_size = 2 << 20;
    });
    let address = (Ipv4Addr::LOCALHOST, port).into();
    guest.wait_listening(address);
    serve_all(address, 400);
    guest.wait_until("free", |stats| stats.monitor.pipes_allocated == 0);
    assert_eq!(guest.stats().monitor.connections_in, 400);
    guest.stop();
}

#[test]
fn a_limit_of_64_descriptors_makes_clients_wait_and_spins_not() {
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 64 && exec \"$@\"", "sh"])
        .arg(vmm())
        .arg("--stats")
        .arg(image("echo-server"))
        .arg("0")
        .stdin(Stdio::null());
    let guest = Guest::spawn(command);
    serve_all(guest.address(), 200);
    guest.signal(nix::sys::signal::Signal::SIGTERM);
    let ended = guest.finish();
    ended.expect_code(143);
    let number = |name: &str| -> u64 {
        let line = ended
            .stderr
            .lines()
            .find(|line| line.trim().starts_with(name));
        let value = line.and_then(|line| line.split_whitespace().nth(1));
        value.and_then(|value| value.parse().ok()).expect(name)
    };
    assert_eq!(number("connections_in"), 200);
    // Some for each connection, and ten a second while there is no descriptor.
    let turns = number("epoll_turns");
    assert!(turns < 5_000, "{turns} turns");
}

#[test]
fn a_connect_without_a_descriptor_is_an_error() {
    let (service, _) = service::echo();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 64 && exec \"$@\"", "sh"])
        .arg(vmm())
        .arg(image("hostile"))
        .args(["hoard", "0", "1", &service.port().to_string()])
        .stdin(Stdio::null());
    let ended = Guest::spawn(command).finish();
    ended.expect_code(0);
    let text = String::from_utf8(ended.stdout).expect("text");
    let count = text
        .strip_prefix("connections: ")
        .and_then(|rest| rest.split_once(", then "));
    let (count, refused) = count.unwrap_or_else(|| panic!("{text}"));
    assert!(
        (20..64).contains(&count.parse::<u32>().expect("a number")),
        "{text}"
    );
    assert!(refused.starts_with("too many open"), "{text}");
}
