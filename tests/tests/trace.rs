//! A trace shows every frame and every byte, as text and to tshark.

use arca_tests::data::{assert_same, noise};
use arca_tests::guest::Guest;
use arca_tests::skip;
use nix::sys::signal::Signal;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

/// Sends `bytes` to an echo server and takes them back, to the end of both streams.
fn echo(address: SocketAddr, bytes: &[u8]) -> SocketAddr {
    let mut stream = TcpStream::connect(address).expect("the guest listens");
    let local = stream.local_addr().expect("connected");
    let mut back = Vec::new();
    thread::scope(|scope| {
        let mut writer = stream.try_clone().expect("a second handle");
        scope.spawn(move || {
            writer.write_all(bytes).expect("a peer");
            writer.shutdown(Shutdown::Write).expect("connected");
        });
        stream.read_to_end(&mut back).expect("an echo");
    });
    assert_same(&back, bytes);
    local
}

/// What tshark says of a file; `None`, and the test is skipped, where there is none.
fn tshark(file: &Path, args: &[&str]) -> Option<String> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args(args).stdin(Stdio::null());
    match command.output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(error) => {
            skip(&format!("tshark, which reads traces: {error}"));
            None
        }
    }
}

/// The bytes of a stream, those of one side after the other's: tshark puts those that
/// the second side sent behind a tab.
fn followed(text: &str) -> [Vec<u8>; 2] {
    let mut sides = [Vec::new(), Vec::new()];
    for line in text.lines() {
        let (side, hex) = match line.strip_prefix('\t') {
            Some(hex) => (1, hex),
            None => (0, line),
        };
        if hex.is_empty() || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            continue;
        }
        let digits = hex.as_bytes().chunks(2);
        let bytes = digits.map(|pair| {
            let pair = std::str::from_utf8(pair).expect("ASCII");
            u8::from_str_radix(pair, 16).expect("hexadecimal")
        });
        sides[side].extend(bytes);
    }
    sides
}

#[test]
fn tshark_shows_the_bytes_of_every_stream() {
    for listen in ["127.0.0.1", "::1"] {
        shows_the_bytes(listen);
    }
}

fn shows_the_bytes(listen: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("trace.pcapng");
    let option = ["--trace-file", file.to_str().expect("text")];
    let guest = Guest::start(&option, "echo-server", &["0", listen]);
    let address = guest.address();
    // More than a ring has room for, and so little that it is one segment.
    let sent = [noise(1, 5 << 20), noise(2, 7)];
    let peers: Vec<_> = sent.iter().map(|bytes| echo(address, bytes)).collect();
    guest.signal(Signal::SIGTERM);
    let ended = guest.finish();
    ended.expect_code(143);
    assert!(!ended.stderr.contains("left out"), "{}", ended.stderr);
    for (index, (bytes, peer)) in sent.iter().zip(&peers).enumerate() {
        let follow = format!("follow,tcp,raw,{index}");
        let Some(text) = tshark(&file, &["-q", "-z", &follow]) else {
            return;
        };
        assert!(
            text.contains(&format!(":{}", peer.port())),
            "{index}: {}",
            &text[..400]
        );
        let [there, back] = followed(&text);
        assert_same(&there, bytes);
        assert_same(&back, bytes);
    }
    // Nothing looks wrong to it, and the frames are there.
    let wrong = "tcp.analysis.lost_segment || tcp.analysis.retransmission || _ws.malformed";
    let found = tshark(&file, &["-Y", wrong]);
    assert_eq!(found.as_deref(), Some(""));
    let comments = tshark(&file, &["-T", "fields", "-e", "frame.comment"]).expect("as above");
    for says in [
        "-> 1 Hello",
        "ListenAt",
        "<- 2 Listening",
        "Accepted",
        "connection ",
    ] {
        assert!(comments.contains(says), "{says:?} is not in:\n{comments}");
    }
}

#[test]
fn the_life_of_a_connection_in_lines() {
    let guest = Guest::start(&["--trace"], "echo-server", &["0"]);
    let peer = echo(guest.address(), &noise(3, 1000));
    let opened = guest.wait_for(&format!("with {peer}, accepted on listener "));
    assert!(opened.ends_with(" B each way"), "{opened}");
    for says in [
        "control -> 1 Hello { version: 1",
        "control -> 2 ListenAt { address: Address(127.0.0.1:0)",
        "control <- 2 Listening { listener_id: ",
        " <- 1000 B, 1000 in all",
        " <- end, after 1000 B",
        " -> 1000 B, 1000 in all",
        " -> end, after 1000 B",
        " freed",
    ] {
        guest.wait_for(says);
    }
    // One that is reset by its peer.
    let mut stream = TcpStream::connect(guest.address()).expect("the guest listens");
    stream.write_all(b"hello").expect("a peer");
    stream.read_exact(&mut [0; 5]).expect("an echo");
    let socket = socket2::SockRef::from(&stream);
    socket
        .set_linger(Some(std::time::Duration::ZERO))
        .expect("an option");
    drop(stream);
    guest.wait_for(" reset by the host's side: ECONNRESET");
    guest.signal(Signal::SIGTERM);
    guest.finish().expect_code(143);
}

#[test]
fn a_filter_leaves_out_what_is_not_wanted() {
    let guest = Guest::start(&["--trace=connections"], "echo-server", &["0"]);
    let peer = echo(guest.address(), b"hello");
    guest.wait_for(&format!("with {peer}, accepted"));
    guest.wait_for(" freed");
    guest.signal(Signal::SIGTERM);
    let ended = guest.finish();
    ended.expect_code(143);
    for unwanted in ["control ->", "5 B, 5 in all"] {
        assert!(!ended.stderr.contains(unwanted), "{}", ended.stderr);
    }
    let wrong = Guest::start(&["--trace=frames"], "echo-server", &["0"]).finish();
    wrong.expect_code(125).expect_stderr("or a port");
}

#[test]
fn a_trace_that_nobody_reads_holds_nothing_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let fifo = folder.path().join("trace");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    // Opened, and not read.
    let path = fifo.clone();
    let reader = thread::spawn(move || File::open(path).expect("a writer comes"));
    let option = ["--trace-file", fifo.to_str().expect("text")];
    let guest = Guest::start(&option, "echo-server", &["0"]);
    let reader = reader.join().expect("no panic");
    // More than the queue and the FIFO hold.
    let bytes = noise(4, 48 << 20);
    echo(guest.address(), &bytes);
    guest.signal(Signal::SIGTERM);
    let ended = guest.finish();
    ended
        .expect_code(143)
        .expect_stderr("the trace is not complete: nobody reads it");
    drop(reader);
}

#[test]
fn a_trace_file_that_cannot_be_made_is_one_line() {
    let option = ["--trace-file", "/no/such/folder/trace"];
    let ended = Guest::start(&option, "echo-server", &["0"]).finish();
    ended.expect_code(125).expect_stderr(
        "arca: the trace file /no/such/folder/trace could not be made: No such file",
    );
}
