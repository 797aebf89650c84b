//! `proxy`: connections passed on, both ways.

use arca_tests::data::{assert_same, noise};
use arca_tests::guest::{Guest, deadline};
use arca_tests::local::{LocalGuest, free_port};
use arca_tests::process::raise_descriptors;
use arca_tests::redis::Redis;
use arca_tests::{has, service, skip};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Barrier;
use std::thread;

/// Clients at once.
const CLIENTS: usize = 256;
/// Bytes that each sends and gets back.
const EACH: usize = 256 << 10;

#[test]
fn many_connections_at_once_are_passed_on_whole() {
    let limit = raise_descriptors();
    if limit < 5 * CLIENTS as u64 {
        skip(&format!(
            "{CLIENTS} clients need more descriptors than {limit}"
        ));
        return;
    }
    let (echo, open) = service::echo();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let guest = LocalGuest::start("proxy", &[&address.to_string(), &echo.to_string()]);
    guest.wait_listening(address);
    let all_connected = Barrier::new(CLIENTS);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let all_connected = &all_connected;
            scope.spawn(move || {
                let mut stream = TcpStream::connect(address).expect("it listens");
                stream.set_read_timeout(Some(deadline())).expect("a socket");
                all_connected.wait();
                let sent = noise(client as u64, EACH);
                let mut sender = stream.try_clone().expect("a socket");
                thread::scope(|scope| {
                    scope.spawn(|| {
                        sender.write_all(&sent).expect("the guest receives");
                        sender.shutdown(Shutdown::Write).expect("connected");
                    });
                    let mut got = Vec::with_capacity(EACH);
                    stream.read_to_end(&mut got).expect("the guest sends");
                    assert_same(&got, &sent);
                });
            });
        }
    });
    guest.wait_until("free of data pipes", |stats| {
        stats.monitor.pipes_allocated == 0 && stats.monitor.connections_in == CLIENTS as u64
    });
    assert_eq!(open.count(), 0);
    guest.stop();
}

#[test]
fn what_cannot_be_passed_on_is_reset() {
    let nobody = format!("127.0.0.1:{}", free_port());
    let guest = Guest::start(&[], "proxy", &["0", &nobody]);
    let mut stream = TcpStream::connect(guest.address_of("proxy")).expect("it listens");
    stream.set_read_timeout(Some(deadline())).expect("a socket");
    let error = stream.read(&mut [0]).expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn redis_benchmark_runs_through_it_without_an_error() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let target = format!("127.0.0.1:{}", redis.port());
    let guest = Guest::start(&[], "proxy", &["0", &target]);
    let port = guest.address_of("proxy").port().to_string();
    let requests = std::env::var("ARCA_REDIS_REQUESTS").unwrap_or_else(|_| "2000".into());
    let mut benchmark = Command::new("redis-benchmark");
    benchmark.args(["-p", &port, "-n", &requests, "--csv"]);
    if !has("redis-benchmark") {
        return;
    }
    let ended = Guest::spawn(benchmark).finish_within(10 * deadline());
    ended.expect_code(0);
    let said = String::from_utf8_lossy(&ended.stdout);
    // A line for each test, after that of the columns' names.
    let done: Vec<_> = said.lines().filter(|line| line.starts_with('"')).collect();
    assert!(done.len() >= 17, "{said}\n{}", ended.stderr);
    for name in ["PING_INLINE", "SET", "GET", "LRANGE_600", "MSET (10 keys)"] {
        let name = format!("\"{name}");
        assert!(
            done.iter().any(|line| line.starts_with(&name)),
            "no {name} in:\n{said}"
        );
    }
    assert_eq!(ended.stderr, "");
}
