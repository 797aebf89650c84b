//! SIGINT and SIGTERM end a guest in order, under load too; a second one at once.

use arca_tests::data::{assert_same, noise};
use arca_tests::guest::{Ended, Guest, deadline, image, vmm};
use arca_tests::unread;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Exchanges noise with an echo server until the connection ends; tells when the
/// first MiB has come back. Gives what came back, which must be a beginning of
/// what was sent.
fn load(address: SocketAddr, seed: u64, busy: &Sender<()>) -> Vec<u8> {
    const LEN: usize = 512 << 20;
    let sent = noise(seed, 8 << 20);
    let mut stream = TcpStream::connect(address).expect("the guest listens");
    let mut writer = stream.try_clone().expect("a second handle");
    let source = sent.clone();
    let writing = thread::spawn(move || {
        for _ in 0..LEN / source.len() {
            if writer.write_all(&source).is_err() {
                return;
            }
        }
        let _ = writer.shutdown(Shutdown::Write);
    });
    let (mut got, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(len) => {
                if got.len() < 1 << 20 && got.len() + len >= 1 << 20 {
                    let _ = busy.send(());
                }
                got.extend(&piece[..len]);
            }
            // What a process that ends does to a connection with bytes unread.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                break;
            }
        }
    }
    drop(stream);
    writing.join().expect("no panic");
    for (piece, wanted) in got.chunks(sent.len()).zip(std::iter::repeat(&sent)) {
        assert_same(piece, &wanted[..piece.len()]);
    }
    got
}

#[test]
fn under_load() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let guest = Guest::start(&["--vcpus", "2"], "echo-server", &["0"]);
        let address = guest.address();
        let (busy, ready) = channel();
        let clients: Vec<_> = (0..4)
            .map(|seed| {
                let busy = busy.clone();
                thread::spawn(move || load(address, seed, &busy))
            })
            .collect();
        for _ in &clients {
            ready.recv().expect("every client is busy");
        }
        guest.signal(signal);
        let ended = guest.finish_within(Duration::from_secs(20));
        ended.expect_code(code);
        for client in clients {
            let got = client.join().expect("the connection ends");
            assert!(got.len() >= 1 << 20);
        }
    }
}

/// Asks for the guest's state again and again until a line of it is as `wanted`.
#[track_caller]
fn wait_for_state(guest: &Guest, what: &str, wanted: impl Fn(&str) -> bool) {
    let end = Instant::now() + deadline();
    while !guest.stderr().lines().any(&wanted) {
        assert!(Instant::now() < end, "no {what}:\n{}", guest.stderr());
        guest.signal(Signal::SIGUSR1);
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// How much the guest has written to a peer, if the line of its state tells that: what
/// the kernel took, and what is in the ring.
fn written(line: &str) -> Option<usize> {
    let line = line.trim_start().strip_prefix("guest to peer: ")?;
    let (taken, ring) = line.split_once(" B, ring ")?;
    let (left, _) = ring.split_once(" of ")?;
    Some(taken.parse::<usize>().ok()? + left.parse::<usize>().ok()?)
}

#[test]
fn a_second_one_does_not_wait_for_a_peer_that_does_not_read() {
    // The guest has nothing to read: a connection with unread bytes would be reset, and
    // its peer not waited for.
    let (guest, input, peer) = unread::start(&[], Stdio::piped());
    wait_for_state(&guest, "bytes", |line| written(line) == Some(unread::LEN));
    guest.signal(Signal::SIGTERM);
    wait_for_state(&guest, "delivery", |line| {
        line.contains("the guest has ended; its session ")
    });
    guest.signal(Signal::SIGTERM);
    let ended = guest.finish();
    ended.expect_code(143);
    // What is given up when its time is over is told of.
    let Ended { stderr, .. } = &ended;
    assert!(!stderr.contains("not delivered"), "{stderr}");
    drop((input, peer));
}

#[test]
fn one_in_the_last_moments_does_not_change_the_exit_code() {
    // One round in three met the moment in which the signals were given back.
    for round in 0..20 {
        let mut command = Command::new(vmm());
        command.args([image("crash").as_os_str(), "spin".as_ref()]);
        command.stdin(Stdio::null());
        let mut guest = Guest::spawn(command);
        wait_until_taken(guest.child().id());
        wait_for_state(&guest, "guest", |line| line.contains("state of the guest"));
        guest.signal(Signal::SIGTERM);
        guest.wait_for("stopped by signal 15");
        let pid = Pid::from_raw(guest.child().id() as i32);
        let end = Instant::now() + deadline();
        let status = loop {
            if let Some(status) = guest.child().try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < end, "it goes on");
            kill(pid, Signal::SIGTERM).expect("not waited for yet");
        };
        assert_eq!(status.code(), Some(143), "round {round}: {status}");
    }
}

/// Waits until a process has taken its signals over: one before that would simply
/// kill it.
fn wait_until_taken(pid: u32) {
    // SIGINT, SIGUSR1 and SIGTERM: signal n is bit n - 1.
    const ALL: u64 = 1 << 1 | 1 << 9 | 1 << 14;
    let end = Instant::now() + deadline();
    loop {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        if mask.expect("a mask") & ALL == ALL {
            return;
        }
        assert!(Instant::now() < end, "never takes its signals over");
        thread::park_timeout(Duration::from_millis(1));
    }
}

#[test]
fn a_guest_that_spins_or_sleeps_is_stopped() {
    for (program, args) in [("crash", &["spin"][..]), ("cat", &[])] {
        let mut command = Command::new(vmm());
        command.arg(image(program)).args(args).stdin(Stdio::piped());
        let mut guest = Guest::spawn(command);
        wait_until_taken(guest.child().id());
        let _input = guest.child().stdin.take();
        guest.signal(Signal::SIGINT);
        guest
            .finish_within(Duration::from_secs(10))
            .expect_code(130);
    }
}

/// A pipe that nobody reads and that takes nothing more.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a pipe");
    while writer.write(&[0; 4096]).is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).expect("a pipe");
    (reader, writer)
}

/// What a signal finds the process waiting for.
struct Stage {
    name: &'static str,
    args: Vec<String>,
    /// Its standard output, or else its standard error, takes nothing.
    full_stdout: bool,
    full_stderr: bool,
}

fn stages() -> Vec<Stage> {
    let stage = |name, program: &str, args: &[&str], full_stdout, full_stderr| Stage {
        name,
        args: std::iter::once(image(program).display().to_string())
            .chain(args.iter().map(ToString::to_string))
            .collect(),
        full_stdout,
        full_stderr,
    };
    vec![
        Stage {
            args: vec!["no/such/image".into()],
            ..stage("saying that it cannot start", "cat", &[], false, true)
        },
        stage("the guest's code", "crash", &["spin"], false, false),
        stage("standard input", "cat", &[], false, false),
        stage(
            "room in standard output",
            "print",
            &["1000000"],
            true,
            false,
        ),
        stage("standard output's flush", "print", &["10"], true, false),
        stage(
            "standard output's drain",
            "print",
            &["1000", "exit"],
            true,
            false,
        ),
        stage(
            "standard error",
            "print",
            &["1000000", "stderr"],
            false,
            true,
        ),
        stage(
            "standard error's drain",
            "print",
            &["10", "stderr"],
            false,
            true,
        ),
        stage("saying how it crashed", "crash", &["ud2"], false, true),
        stage("a connection", "echo-server", &["0"], false, false),
        stage("the relay's log", "echo-server", &["0"], false, true),
    ]
}

#[test]
fn the_first_one_ends_it_whatever_it_waits_for() {
    let stages = stages();
    thread::scope(|scope| {
        for stage in &stages {
            scope.spawn(move || {
                let (_reader, full) = full_pipe();
                let mut command = Command::new(vmm());
                command.args(&stage.args).stdin(Stdio::piped());
                command.stdout(Stdio::null()).stderr(Stdio::null());
                if stage.full_stdout {
                    command.stdout(full.try_clone().expect("a descriptor"));
                }
                if stage.full_stderr {
                    command.stderr(full);
                }
                let mut child = command.spawn().expect("the command starts");
                wait_until_taken(child.id());
                // Whatever comes first, a while later it waits where it is to.
                thread::park_timeout(Duration::from_millis(700));
                if let Some(status) = child.try_wait().expect("a child") {
                    panic!("{}: it does not wait: {status}", stage.name);
                }
                kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("it runs");
                let end = Instant::now() + Duration::from_secs(20);
                let status = loop {
                    match child.try_wait().expect("a child") {
                        Some(status) => break status,
                        None if Instant::now() > end => {
                            let _ = child.kill();
                            panic!("{}: it goes on", stage.name);
                        }
                        None => thread::park_timeout(Duration::from_millis(5)),
                    }
                };
                // What ended before the signal came keeps its code: the signal only
                // hurries what is left of it.
                let code = status.code().or(status.signal().map(|signal| 128 + signal));
                assert_ne!(code, Some(0), "{}", stage.name);
                println!("{}: {status}", stage.name);
            });
        }
    });
}
