//! `interfaces`: what others' crates reach the guest by, and signals that a program waits
//! for.

use arca_tests::data::{assert_same, noise};
use arca_tests::guest::{Guest, deadline, image, vmm};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// What the program says of each thing that it has checked, beside its random bytes.
const CHECKED: [&str; 12] = [
    "ok: embedded-nal-async connects",
    "ok: edge-nal connects, splits and shuts down",
    "ok: edge-nal binds and accepts",
    "ok: a name has an address",
    "ok: an address is its own name",
    "ok: a name that is none has no address",
    "ok: an address has no name",
    "ok: embassy-time's timers last their time",
    "ok: embassy-time's time-outs end what takes longer",
    "ok: a time that is past has come",
    "ok: getrandom gives random bytes",
    "ok: what is generated in place is parsed in place",
];

/// A service that sends back what comes.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(len @ 1..) = stream.read(&mut buffer) {
                    stream.write_all(&buffer[..len]).expect("the guest reads");
                }
            });
        }
    });
    address
}

#[test]
fn others_crates_have_network_names_time_and_random_bytes() {
    let address = echo().to_string();
    let mut drawn = BTreeSet::new();
    for vcpus in ["1", "2"] {
        let guest = Guest::start(&["--vcpus", vcpus], "interfaces", &[&address]);
        let ended = guest.finish();
        let output = String::from_utf8_lossy(&ended.stdout).into_owned();
        ended.expect_code(0);
        let mut lines: Vec<_> = output.lines().collect();
        let bytes = lines.iter().position(|line| line.starts_with('['));
        drawn.insert(lines.remove(bytes.expect("random bytes")).to_owned());
        assert_eq!(lines, CHECKED);
    }
    assert_eq!(drawn.len(), 2, "new ones at every boot: {drawn:?}");
}

#[test]
fn lines_are_read_whole_by_reads_that_are_given_up() {
    let mut command = Command::new(vmm());
    command.arg(image("interfaces")).arg("lines");
    command.stdin(Stdio::piped());
    let mut guest = Guest::spawn(command);
    let mut input = guest.child().stdin.take().expect("piped");
    let bytes: Vec<u8> = noise(11, 300_000)
        .into_iter()
        .map(|byte| match byte {
            // A line of some fifty bytes, as a rule.
            0..5 => b'\n',
            _ => b'a' + byte % 26,
        })
        .collect();
    let (first, source) = bytes.split_at(7001);
    assert_ne!(first.last(), Some(&b'\n'), "it ends within a line");
    input.write_all(first).expect("the guest reads");
    // The rest comes once a read was given up at all.
    guest.wait_for("waits for a line");
    let source = source.to_vec();
    let writer = thread::spawn(move || {
        for (count, piece) in source.chunks(7001).enumerate() {
            input.write_all(piece).expect("the guest reads");
            if count % 8 == 0 {
                // So that reads wait.
                thread::park_timeout(Duration::from_millis(2));
            }
        }
    });
    let ended = guest.finish();
    writer.join().expect("all was written");
    ended.expect_code(0);
    let mut wanted = bytes;
    if wanted.last() != Some(&b'\n') {
        wanted.push(b'\n');
    }
    assert_same(&ended.stdout, &wanted);
    let said = ended.stderr.split("given up ").nth(1).expect("a count");
    let count: u64 = said
        .split(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number");
    assert!(count > 0, "no read was given up");
}

#[test]
fn a_relay_hands_bytes_and_both_ends_on() {
    let guest = Guest::start(&[], "interfaces", &["relay", &echo().to_string()]);
    let line = guest.wait_for("relay at ");
    let address = line.split(' ').nth(2).expect("an address");
    let mut stream = TcpStream::connect(address).expect("the guest listens");
    stream
        .set_read_timeout(Some(deadline()))
        .expect("a deadline");
    let sent = noise(23, 24 << 20);
    let (mut writer, source) = (stream.try_clone().expect("a handle"), sent.clone());
    let sender = thread::spawn(move || {
        writer.write_all(&source).expect("the guest reads");
        writer.shutdown(Shutdown::Write).expect("connected");
    });
    let mut got = Vec::new();
    // To the end, which comes all the way from the service, after ours.
    stream.read_to_end(&mut got).expect("the guest writes");
    sender.join().expect("all was sent");
    assert_same(&got, &sent);
    let ended = guest.finish();
    ended.expect_code(0);
    let counts = format!("{0} {0}\n", sent.len());
    assert_eq!(String::from_utf8_lossy(&ended.stdout), counts);
}

/// A guest that waits for signals.
fn waiting(kind: &str) -> Guest {
    let guest = Guest::start(&[], "interfaces", &[kind]);
    guest.wait_for("ready true true");
    guest
}

#[test]
fn a_program_that_waits_for_signals_sees_to_them_itself() {
    let guest = waiting("signals");
    for count in 1..=2 {
        guest.signal(Signal::SIGHUP);
        let all = |said: &str| said.matches("HangUp").count() == count;
        guest.wait_until("told of SIGHUP", all);
    }
    guest.signal(Signal::SIGTERM);
    guest.finish().expect_code(0).expect_stderr("Terminate");
}

#[test]
fn a_program_that_goes_on_after_the_first_is_ended_by_a_second_at_once() {
    let guest = waiting("lasting");
    guest.signal(Signal::SIGTERM);
    guest.wait_for("Terminate");
    // SIGHUP counts as none of the two.
    guest.signal(Signal::SIGHUP);
    guest.wait_for("HangUp");
    // Its time-out would make it a 143, after the first.
    guest.signal(Signal::SIGINT);
    guest.finish().expect_code(130);
}

#[test]
fn a_program_that_goes_on_after_the_first_is_stopped_in_time() {
    let guest = waiting("lasting");
    guest.signal(Signal::SIGTERM);
    guest.finish_within(deadline()).expect_code(143);
}

#[test]
fn a_hang_up_that_no_program_waits_for_does_what_it_does() {
    let mut guest = Guest::start(&[], "echo-server", &["0"]);
    guest.address();
    guest.signal(Signal::SIGHUP);
    let status = guest.child().wait().expect("a child");
    assert_eq!(status.signal(), Some(Signal::SIGHUP as i32));
}

#[test]
fn a_hang_up_that_is_ignored_stays_so() {
    let mut command = Command::new("sh");
    // As nohup(1) does.
    command.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]);
    command.arg(vmm()).arg(image("echo-server")).arg("0");
    command.stdin(Stdio::null());
    let guest = Guest::spawn(command);
    let address = guest.address();
    guest.signal(Signal::SIGHUP);
    let mut stream = TcpStream::connect(address).expect("the guest listens");
    stream
        .set_read_timeout(Some(deadline()))
        .expect("a deadline");
    stream.write_all(b"still there").expect("the guest reads");
    let mut answer = [0; 11];
    stream.read_exact(&mut answer).expect("the guest answers");
    assert_eq!(&answer, b"still there");
    drop(stream);
    guest.signal(Signal::SIGTERM);
    guest.finish().expect_code(143);
}
