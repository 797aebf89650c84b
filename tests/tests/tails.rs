//! What a program had written to its connections when it ended reaches their peers,
//! however late they read; a loss is named, and is no success.

use arca_tests::data::assert_same;
use arca_tests::guest::deadline;
use arca_tests::records;
use arca_tests::talk::Talk;
use arca_tests::unread::{self, LEN, lines, service};
use arca_vmm::{ExitStatus, StopReason, VmConfig};
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

fn written() -> Vec<u8> {
    arca_script::data::noise(7, LEN)
}

/// A guest that has written to a peer that has not read.
fn start(adjust: impl FnOnce(&mut VmConfig)) -> (Talk, TcpStream) {
    let (listener, address) = service();
    let mut talk = Talk::start("oracle", &[], adjust);
    for line in lines(address) {
        talk.say(&line).expect("the guest is there");
        let answer = talk.hear(deadline()).expect("an answer");
        assert!(answer.starts_with("ok"), "{line}: {answer}");
    }
    let (peer, _) = listener.accept().expect("the guest is connected");
    peer.set_read_timeout(Some(deadline())).expect("a deadline");
    (talk, peer)
}

/// Reads to the end, which must be an orderly one.
fn read_all(mut peer: TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    let end = peer.read_to_end(&mut got);
    assert!(end.is_ok(), "after {} bytes: {end:?}", got.len());
    got
}

#[test]
fn a_peer_that_reads_late_gets_all() {
    // Later than anything that is only for a guest that did not end in order.
    const LATE: Duration = Duration::from_secs(8);
    let (talk, peer) = start(|_| {});
    let reader = thread::spawn(move || {
        thread::park_timeout(LATE);
        read_all(peer)
    });
    let status = talk.finish();
    let got = reader.join().expect("no panic");
    assert_same(&got, &written());
    assert!(matches!(status, ExitStatus::Exited(0)), "{status}");
    let said = records::lately();
    assert!(said.contains("SIGTERM ends that at once"), "{said}");
}

#[test]
fn a_peer_that_never_reads_is_given_up_and_that_is_no_success() {
    let (talk, peer) = start(|config| {
        config.monitor.orphan_timeout = Duration::from_millis(500);
    });
    let status = talk.finish();
    assert!(matches!(status, ExitStatus::OutputLost), "{status}");
    assert_eq!(status.code(), 74);
    drop(peer);
}

#[test]
fn waiting_ends_when_somebody_asks_and_with_the_time_of_the_guest() {
    let (talk, peer) = start(|_| {});
    let handle = talk.guest().handle().clone();
    let (ended, waiting) = std::sync::mpsc::channel();
    let finishing = thread::spawn(move || {
        let status = talk.finish();
        let _ = ended.send(());
        status
    });
    // It waits: two seconds after nothing else is left to do it still does.
    assert!(waiting.recv_timeout(Duration::from_secs(2)).is_err());
    handle.stop(StopReason::Signal(Signal::SIGTERM as i32));
    let asked = Instant::now();
    let status = finishing.join().expect("no panic");
    assert!(matches!(status, ExitStatus::OutputLost), "{status}");
    assert!(asked.elapsed() < Duration::from_secs(20));
    drop(peer);

    let (talk, peer) = start(|config| config.timeout = Some(Duration::from_secs(5)));
    let status = talk.finish();
    assert!(matches!(status, ExitStatus::OutputLost), "{status}");
    drop(peer);
}

#[test]
fn the_command_says_what_it_waits_for_and_ends_with_a_signal() {
    let (guest, input, mut peer) = unread::start(&["--orphan-timeout", "10m"], Stdio::piped());
    drop(input);
    guest.wait_for("the program has ended, and the peers of 1 connections");
    guest.signal(Signal::SIGUSR1);
    guest.wait_for("the guest has ended; its session ");
    let way = guest.wait_for("guest to peer: ");
    assert!(way.ends_with(" B: waits for the peer to read"), "{way}");
    guest.signal(Signal::SIGTERM);
    let ended = guest.finish();
    ended.expect_code(74).expect_stderr("not delivered");
    // It is not taken for the whole.
    peer.set_read_timeout(Some(deadline())).expect("a deadline");
    assert!(peer.read_to_end(&mut Vec::new()).is_err());
}

#[test]
fn a_lost_standard_output_is_named_while_a_peer_is_still_waited_for() {
    // A pipe's 64 KiB, which nobody reads: no answer has room.
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(&[0; 64 << 10]).expect("room");
    let (guest, input, peer) = unread::start(&["--orphan-timeout", "10m"], writer.into());
    drop(input);
    guest.wait_for("the program has ended, and the peers of 1 connections");
    guest.wait_for("bytes of standard output could not be delivered");
    guest.signal(Signal::SIGTERM);
    guest.finish().expect_code(74);
    drop((reader, peer));
}
