//! A guest that hangs is explained by its state: what is open, and what every vCPU and
//! task waits for.

use arca_tests::guest::{Ended, Guest};
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Runs a program until its time is up, and gives what its state said.
fn timed_out(options: &[&str], program: &str, args: &[&str]) -> Ended {
    let options = [options, &["--timeout", "700ms"]].concat();
    let ended = Guest::start(&options, program, args).finish();
    ended.expect_code(124).expect_stderr("(its time is up)");
    ended
}

#[test]
fn an_accept_to_which_nobody_comes() {
    timed_out(&[], "echo-server", &["0"])
        .expect_stderr("listeners: 1\n")
        .expect_stderr("an accept waits, and no connection has come")
        .expect_stderr("vCPU 0 has slept for 0.")
        .expect_stderr("outside of tasks it waits for a connection on listener ")
        .expect_stderr("guest/src/bin/echo-server.rs:");
}

#[test]
fn a_spin() {
    timed_out(&["--vcpus", "2"], "crash", &["spin"])
        .expect_stderr("vCPU 0 runs\n")
        .expect_stderr("crash::spin_for_ever (")
        .expect_stderr("vCPU 1 has slept for 0.");
}

#[test]
fn a_deadlock() {
    let ended = timed_out(&[], "crash", &["deadlock"]);
    ended
        .expect_stderr("tasks: 2\n")
        .expect_stderr("waits for task 1 to end\n")
        .expect_stderr("crash::wait_for_each_other (");
    for task in ["task 1", "task 2"] {
        ended.expect_stderr(&format!(
            "{task} crash::take_both::{{{{closure}}}}, spawned at "
        ));
    }
    let said = &ended.stderr;
    let mut locks: Vec<_> = said
        .lines()
        .filter_map(|line| line.split_once("waits for a lock, a channel or a signal at "))
        .map(|(_, lock)| lock)
        .collect();
    assert!(
        locks.iter().all(|lock| lock.ends_with(" (crash::LOCKS)")),
        "{said}"
    );
    locks.sort_unstable();
    locks.dedup();
    assert_eq!(locks.len(), 2, "each waits for what the other has:\n{said}");
    let lines = said.matches("in crash::take_both::{{closure}} (").count();
    assert_eq!(lines, 2, "each says where:\n{said}");
}

#[test]
fn a_peer_that_sends_nothing() {
    let guest = Guest::start(&[], "echo-server", &["0"]);
    let mut client = TcpStream::connect(guest.address()).expect("the guest listens");
    client.write_all(b"hello").expect("a peer");
    client.read_exact(&mut [0; 5]).expect("an echo");
    guest.signal(Signal::SIGUSR1);
    guest.wait_for("(as asked for)");
    let local = client.local_addr().expect("connected");
    let task = guest.wait_for("waits for bytes to read from connection ");
    assert!(task.ends_with(&format!(" with {local}")), "{task}");
    let way = guest.wait_for("peer to guest: 5 B");
    assert!(way.ends_with(": waits for the peer to send"), "{way}");
    // It goes on.
    client.write_all(b"world").expect("a peer");
    client.read_exact(&mut [0; 5]).expect("an echo");
    guest.signal(Signal::SIGTERM);
    guest.finish().expect_code(143);
}

#[test]
fn the_state_is_told_again_and_again() {
    let guest = Guest::start(&["--stats-every", "20ms"], "echo-server", &["0"]);
    let address = guest.address();
    for _ in 0..3 {
        let seen = guest.stderr().matches("state of the guest").count();
        guest.wait_until("the next state", |said| {
            said.matches("state of the guest").count() > seen
        });
        let mut client = TcpStream::connect(address).expect("the guest listens");
        client.write_all(b"hello").expect("a peer");
        client.read_exact(&mut [0; 5]).expect("an echo");
    }
    guest.signal(Signal::SIGTERM);
    guest.finish().expect_code(143);
}
