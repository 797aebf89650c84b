//! `http-server`: picoserve in the guest, under clients that people have.

use arca_tests::data::{assert_same, digest_of, noise};
use arca_tests::guest::{Ended, Guest, deadline};
use arca_tests::process::raise_descriptors;
use arca_tests::{has, skip};
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

fn server() -> (Guest, SocketAddr) {
    let guest = Guest::start(&[], "http-server", &["0"]);
    let address = guest.address_of("http-server");
    (guest, address)
}

/// What `GET /bytes/N` gives.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(deadline())).expect("a socket");
    stream
        .set_write_timeout(Some(deadline()))
        .expect("a socket");
    stream
}

/// Sends a request with that body, and gives the status and the body of the answer; the
/// connection stays.
#[track_caller]
fn ask(stream: &mut TcpStream, request: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let length = body.len();
    let head = format!("{request} HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("connected");
    stream.write_all(body).expect("connected");
    answer(stream)
}

#[track_caller]
fn answer(stream: &mut TcpStream) -> (u16, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let length = length.and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or_else(|| panic!("no length in:\n{head}"))];
    stream.read_exact(&mut body).expect("a body");
    (status.expect("a status"), body)
}

#[test]
fn requests_of_all_kinds_go_over_one_connection() {
    let (guest, address) = server();
    let mut stream = connect(address);
    let hello = (200, b"hello from Arca\n".to_vec());
    assert_eq!(ask(&mut stream, "GET /", b""), hello);
    let (status, body) = ask(&mut stream, "GET /bytes/1000000", b"");
    assert_eq!(status, 200);
    assert_same(&body, &bytes(1_000_000));
    assert_eq!(ask(&mut stream, "GET /no/such/page", b"").0, 404);
    assert_eq!(ask(&mut stream, "GET /bytes/many", b"").0, 404);
    assert_eq!(ask(&mut stream, "POST /", b"x").0, 405);
    for len in [0, 1, 5000, 20_000, 1 << 20] {
        let posted = noise(len as u64, len);
        let (status, body) = ask(&mut stream, "POST /echo", &posted);
        assert_eq!(status, 200, "{len} bytes");
        assert_same(&body, &posted);
    }
    assert_eq!(ask(&mut stream, "POST /echo", &[7; (1 << 20) + 1]).0, 413);
    assert_eq!(ask(&mut stream, "GET /", b""), hello);
    // Two at once, the second before the first is answered.
    let two = "GET /bytes/3 HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nConnection: close\r\n\r\n";
    stream.write_all(two.as_bytes()).expect("connected");
    assert_eq!(answer(&mut stream), (200, vec![0, 1, 2]));
    assert_eq!(answer(&mut stream), hello);
    assert_eq!(stream.read(&mut [0]).expect("an end in order"), 0);
    guest.signal(Signal::SIGTERM);
    guest.finish().expect_code(0);
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let (_guest, address) = server();
    let mut stream = connect(address);
    let head = format!("GET / HTTP/1.1\r\nX: {}\r\n", "x".repeat(8 << 10));
    stream.write_all(head.as_bytes()).expect("connected");
    assert_eq!(answer(&mut stream).0, 400);
    // The others are served.
    assert_eq!(ask(&mut connect(address), "GET /", b"").0, 200);
}

/// Runs a client, if it is there.
fn client(mut command: Command) -> Option<Ended> {
    let name = command.get_program().to_str().expect("text");
    if !has(name) {
        return None;
    }
    command.stdin(Stdio::null());
    Some(Guest::spawn(command).finish_within(10 * deadline()))
}

/// Mebibytes of the largest body.
fn mebibytes() -> usize {
    let set = std::env::var("ARCA_HTTP_MEBIBYTES").ok();
    set.and_then(|set| set.parse().ok()).unwrap_or(64)
}

#[test]
fn curl_gets_bodies_of_all_sizes_over_one_connection() {
    let (_guest, address) = server();
    let folder = tempfile::tempdir().expect("a folder");
    let sizes = [0, 1, 16, 65_536, 3_000_000, mebibytes() << 20];
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail"]);
    curl.args(["--write-out", "%{http_code} %{num_connects}\n"]);
    for size in sizes {
        let file = folder.path().join(size.to_string());
        curl.arg("--output").arg(file);
        curl.arg(format!("http://{address}/bytes/{size}"));
    }
    let Some(ended) = client(curl) else {
        return;
    };
    ended.expect_code(0);
    let said = String::from_utf8_lossy(&ended.stdout);
    let wanted: Vec<_> = (0..sizes.len())
        .map(|number| format!("200 {}", u8::from(number == 0)))
        .collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), wanted);
    for size in sizes {
        let file = std::fs::File::open(folder.path().join(size.to_string()));
        let got = file.and_then(|mut file| digest_of(&mut file));
        let wanted = digest_of(&mut Counting { at: 0, len: size }).expect("bytes");
        // curl makes no file of nothing.
        if size > 0 {
            assert_eq!(got.expect("a file"), wanted);
        }
    }
}

/// What `GET /bytes/N` gives, not in memory at once.
struct Counting {
    at: usize,
    len: usize,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = buffer.len().min(self.len - self.at);
        for byte in &mut buffer[..len] {
            *byte = (self.at % 251) as u8;
            self.at += 1;
        }
        Ok(len)
    }
}

#[test]
fn wrk_meets_no_error() {
    let limit = raise_descriptors();
    if limit < 1000 {
        skip(&format!("wrk needs more descriptors than {limit}"));
        return;
    }
    let (_guest, address) = server();
    let seconds = std::env::var("ARCA_WRK_SECONDS").unwrap_or_else(|_| "1".into());
    for connections in ["1", "64", "256"] {
        let mut wrk = Command::new("wrk");
        wrk.args(["--threads", "1", "--timeout", "30s"]);
        wrk.args(["--connections", connections, "--duration", &seconds]);
        wrk.arg(format!("http://{address}/"));
        let Some(ended) = client(wrk) else {
            return;
        };
        ended.expect_code(0);
        let said = String::from_utf8_lossy(&ended.stdout);
        println!("{connections} connections:\n{said}");
        let requests = said.lines().find(|line| line.contains("requests in"));
        let requests = requests.and_then(|line| line.trim().split(' ').next());
        assert!(requests.is_some_and(|n| n != "0"), "{said}");
        for error in ["Socket errors", "Non-2xx"] {
            assert!(!said.contains(error), "{said}");
        }
    }
}

#[test]
fn ab_meets_no_error() {
    let (_guest, address) = server();
    let mut ab = Command::new("ab");
    ab.args(["-n", "1000", "-c", "32", "-q"]);
    ab.arg(format!("http://{address}/bytes/2000"));
    let Some(ended) = client(ab) else {
        return;
    };
    ended.expect_code(0);
    let said = String::from_utf8_lossy(&ended.stdout);
    let counts = |name: &str| {
        let line = said.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().last()?.parse().ok())
    };
    assert_eq!(counts("Complete requests:"), Some(1000), "{said}");
    assert_eq!(counts("Failed requests:"), Some(0), "{said}");
}
