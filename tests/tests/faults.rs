//! What fails on the host, or at the other end, is an error in one place, and
//! nothing else notices.

use arca_tests::data::{assert_same, noise};
use arca_tests::guest::{Guest, deadline};
use arca_tests::local::{LocalGuest, free_port};
use arca_tests::oracle::GuestActor;
use arca_tests::service;
use nix::sys::signal::Signal;
use socket2::SockRef;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// A connection that fails rather than waits for ever.
fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the guest listens");
    stream
        .set_read_timeout(Some(deadline()))
        .expect("a deadline");
    stream
        .set_write_timeout(Some(deadline()))
        .expect("a deadline");
    stream
}

/// Makes the closing of a connection a reset.
fn reset(stream: TcpStream) {
    let linger = Some(Duration::ZERO);
    SockRef::from(&stream).set_linger(linger).expect("a socket");
}

/// Sends to an echo server, half-closes, and compares what comes back.
fn exchange(address: SocketAddr, seed: u64, len: usize) {
    let sent = noise(seed, len);
    let mut stream = connect(address);
    let mut writer = stream.try_clone().expect("a second handle");
    thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).expect("the guest reads");
            writer.shutdown(Shutdown::Write).expect("connected");
        });
        let mut got = Vec::with_capacity(len);
        stream.read_to_end(&mut got).expect("the guest answers");
        assert_same(&got, &sent);
    });
}

/// An echo server in this process.
fn server(vcpus: usize, low_memory: u64) -> (LocalGuest, SocketAddr) {
    let port = free_port();
    let guest = LocalGuest::start_with("echo-server", &[&port.to_string()], |config| {
        config.vcpus = vcpus;
        config.low_memory = low_memory;
    });
    let address = (Ipv4Addr::LOCALHOST, port).into();
    guest.wait_listening(address);
    (guest, address)
}

#[track_caller]
fn expect_nothing_left(guest: &LocalGuest) {
    guest.wait_until("free of connections", |stats| {
        (stats.monitor.connections, stats.monitor.pipes_allocated) == (0, 0)
    });
}

#[test]
fn a_client_that_resets_at_any_stage_harms_no_other() {
    let (guest, address) = server(2, 64 << 20);
    let stages: [fn(&mut TcpStream); 6] = [
        // At once.
        |_| {},
        // With bytes on their way.
        |stream| stream.write_all(&[1; 100_000]).expect("connected"),
        // With the echo unread.
        |stream| {
            stream.write_all(&[2; 1000]).expect("connected");
            stream.peek(&mut [0]).expect("an echo");
        },
        // In the middle of reading.
        |stream| {
            stream.write_all(&[3; 100_000]).expect("connected");
            stream.read_exact(&mut [0; 5000]).expect("an echo");
        },
        // After its half-close.
        |stream| {
            stream.write_all(&[4; 1000]).expect("connected");
            stream.shutdown(Shutdown::Write).expect("connected");
        },
        // After everything.
        |stream| {
            stream.write_all(&[5; 1000]).expect("connected");
            stream.shutdown(Shutdown::Write).expect("connected");
            stream.read_to_end(&mut Vec::new()).expect("an echo");
        },
    ];
    for round in 0..20 {
        for stage in stages {
            let mut stream = connect(address);
            stage(&mut stream);
            reset(stream);
        }
        exchange(address, round, 100_000);
    }
    expect_nothing_left(&guest);
    guest.stop();
}

#[test]
fn a_service_that_resets_at_any_stage_is_an_error_of_that_connection() {
    const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789";
    let (listener, address) = service::listen();
    // So many bytes of the response, and then a reset.
    let stages = [0, 1, 20, RESPONSE.len() - 10, RESPONSE.len() - 1];
    thread::spawn(move || {
        for sent in stages {
            let (mut stream, _) = listener.accept().expect("the guest connects");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a request");
                request.push(byte[0]);
            }
            stream.write_all(&RESPONSE[..sent]).expect("connected");
            reset(stream);
        }
    });
    for sent in stages {
        let ended = Guest::start(&[], "http-get", &[&format!("http://{address}/")]).finish();
        assert_eq!(ended.code, Some(1), "{sent}: {}", ended.stderr);
        assert!(ended.stderr.contains("reset"), "{sent}: {}", ended.stderr);
    }
}

#[test]
fn a_reader_that_stalls_holds_nobody_else_up() {
    // The server keeps what a client does not take: not for long, with so little
    // memory.
    let (guest, address) = server(1, 32 << 20);
    let sent = noise(1, 64 << 20);
    let mut stalled = connect(address);
    let mut writer = stalled.try_clone().expect("a second handle");
    writer.set_nonblocking(true).expect("a socket");
    let mut written = 0;
    // Writes what goes in until everything between here and the server's memory is
    // full, while another client is served all the time.
    let mut full = 0;
    for round in 0.. {
        match writer.write(&sent[written..]) {
            Ok(len) => {
                written += len;
                full = 0;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                full += 1;
            }
        }
        exchange(address, round, 256 << 10);
        if full == 50 {
            break;
        }
    }
    assert!(written < sent.len(), "nothing ever held it up");
    // It comes back, and nothing was lost meanwhile.
    writer.set_nonblocking(false).expect("a socket");
    thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent[written..]).expect("the guest reads");
            writer.shutdown(Shutdown::Write).expect("connected");
        });
        let mut got = Vec::with_capacity(sent.len());
        stalled.read_to_end(&mut got).expect("the guest answers");
        assert_same(&got, &sent);
    });
    expect_nothing_left(&guest);
    guest.stop();
}

#[test]
fn a_service_that_accepts_and_never_reads_is_back_pressure() {
    let (listener, address) = service::listen();
    let (other, _) = service::echo();
    let mut guest = GuestActor::start(1, true);
    guest.make(&format!("connect s {address}"));
    let (mut silent, _) = listener.accept().expect("the guest connects");
    // More than ring and kernel hold.
    const LEN: usize = 64 << 20;
    guest.expect(&format!("start job write-all s @9:{LEN}"), "ok");
    guest.expect("waits job", "waits");
    // Others go on.
    for number in 0..50 {
        guest.make(&format!("connect c{number} {other}"));
        guest.expect(&format!("write-all c{number} hello"), "ok");
        let echo = guest.tell(&format!("read-exact c{number} 5"));
        assert!(echo.ends_with("5 bytes hello"), "{echo}");
        guest.expect(&format!("close c{number}"), "ok");
    }
    guest.expect("done job", "false");
    // What waited arrives when it is wanted.
    let reading = thread::spawn(move || {
        let mut got = vec![0; LEN];
        silent.read_exact(&mut got).expect("all of it");
        got
    });
    guest.expect("finish job", "ok");
    let got = reading.join().expect("no panic");
    assert_same(&got, &noise(9, LEN));
    guest.expect("clear", "ok");
}

#[test]
fn a_guest_killed_in_the_middle_of_a_transfer_leaves_its_peers_with_an_end() {
    let port = free_port().to_string();
    for signal in [Signal::SIGKILL, Signal::SIGABRT] {
        let guest = Guest::start(&[], "echo-server", &[&port]);
        let mut stream = connect(guest.address());
        let mut writer = stream.try_clone().expect("a second handle");
        let writing = thread::spawn(move || while writer.write_all(&[1; 1 << 16]).is_ok() {});
        stream.read_exact(&mut vec![0; 1 << 20]).expect("an echo");
        guest.signal(signal);
        assert_eq!(guest.finish().code, None);
        let mut rest = Vec::new();
        let result = stream.read_to_end(&mut rest);
        if let Err(error) = result {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        assert!(rest.iter().all(|byte| *byte == 1));
        drop(stream);
        writing.join().expect("no panic");
    }
    // The port is free again.
    let guest = Guest::start(&[], "echo-server", &[&port]);
    exchange(guest.address(), 1, 100_000);
}

#[test]
fn a_crash_with_a_hundred_connections_open_ends_each_of_them() {
    let (service, open) = service::echo();
    let port = service.port().to_string();
    let guest = Guest::start(&[], "hostile", &["die", "0", "1", &port]);
    let ended = guest.finish();
    ended.expect_code(101).expect_stderr("invalid opcode");
    ended.expect_stderr("100 connections");
    let end = std::time::Instant::now() + deadline();
    while open.count() > 0 {
        let left = open.count();
        assert!(
            std::time::Instant::now() < end,
            "{left} connections are left"
        );
        thread::park_timeout(Duration::from_millis(1));
    }
}

#[test]
fn a_storm_of_signals_that_interrupt_every_call_loses_nothing() {
    let mut guest = Guest::start(&["--vcpus", "2"], "echo-server", &["0"]);
    let address = guest.address();
    let pid = guest.child().id();
    let calm = AtomicBool::new(false);
    let signals = thread::scope(|scope| {
        let storm = scope.spawn(|| {
            let mut sent = 0u64;
            while !calm.load(Ordering::Relaxed) {
                sent += interrupt_threads(pid);
            }
            sent
        });
        for seed in 0..4 {
            exchange(address, seed, 16 << 20);
        }
        calm.store(true, Ordering::Relaxed);
        storm.join().expect("no panic")
    });
    println!("{signals} signals");
    assert!(signals > 1000, "{signals}");
    guest.signal(Signal::SIGTERM);
    guest.finish().expect_code(143);
}

/// Sends the signal that interrupts calls to every thread that has it in use; how
/// many.
fn interrupt_threads(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let mut sent = 0;
    for task in tasks.flatten() {
        let tid = task.file_name().to_string_lossy().parse::<i32>();
        let Ok(tid) = tid else { continue };
        let signal = nix::libc::SIGRTMIN() + 6;
        // SAFETY: a signal to a thread of a process of ours; its handler there does
        // nothing.
        let result = unsafe { nix::libc::syscall(nix::libc::SYS_tgkill, pid, tid, signal) };
        sent += u64::from(result == 0);
    }
    sent
}
