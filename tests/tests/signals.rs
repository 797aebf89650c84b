//! SIGINT and SIGTERM end a guest in order, under load too; a second one at once.

use arca_tests::data::{assert_same, noise};
use arca_tests::guest::{DEADLINE, Guest, image, vmm};
use nix::sys::signal::Signal;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
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

#[test]
fn a_second_one_does_not_wait_for_a_peer_that_does_not_read() {
    let guest = Guest::start(&[], "echo-server", &["0"]);
    let address = guest.address();
    let mut client = TcpStream::connect(address).expect("the guest listens");
    client.set_nonblocking(true).expect("a socket");
    // Until neither side takes any more: the guest's answers lie undelivered.
    let chunk = vec![7; 1 << 20];
    let mut full = Instant::now();
    while full.elapsed() < Duration::from_millis(300) {
        match client.write(&chunk) {
            Ok(written) => {
                assert_ne!(written, 0);
                full = Instant::now();
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                thread::park_timeout(Duration::from_millis(1));
            }
        }
    }
    let began = Instant::now();
    guest.signal(Signal::SIGTERM);
    // The first is being seen to when the guest does not listen any more.
    while TcpStream::connect(address).is_ok() {
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "the first does nothing"
        );
    }
    guest.signal(Signal::SIGTERM);
    guest.finish().expect_code(143);
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
}

/// Waits until a process has taken its signals over: one before that would simply
/// kill it.
fn wait_until_taken(pid: u32) {
    // Signal n is bit n - 1.
    const BOTH: u64 = 1 << 1 | 1 << 14;
    let end = Instant::now() + DEADLINE;
    loop {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        if mask.expect("a mask") & BOTH == BOTH {
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
