//! Clients that ask an HTTP server, many at once on one epoll.

use super::GREETING;
use crate::connection::Connection as _;
use crate::failure::{Failure, ended};
use crate::native::Native;
use crate::native::connection::Connection;
use crate::net::Net as _;
use crate::reply::{Outcome, spread};
use std::net::SocketAddr;

/// Connections that are being opened at any one time.
const OPENING: usize = 64;
/// Bytes of an answer that are read at most.
const ANSWER: usize = 4096;
/// Headers of an answer that are looked at.
const HEADERS: usize = 16;

const KEEP: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
const CLOSE: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";

/// How connections are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// One after the other of a lane's requests goes over the same.
    Kept,
    /// Each request has a new one, whose opening and end are part of it.
    New,
}

impl Use {
    /// Its name in a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::New => "new",
        }
    }
}

/// Makes `requests` over as many lanes as `lanes` says, each of which has one open at a
/// time. Gives `ns` for all of them, and of the times of each `p50_ns`, `p99_ns` and
/// `max_ns`. Connections that are kept are open before the clock runs.
///
/// # Errors
///
/// If one fails, or is answered with anything but the greeting.
pub fn run(
    address: SocketAddr,
    lanes: usize,
    requests: usize,
    how: Use,
) -> Result<Outcome, Failure> {
    // The shares add up to `requests`.
    let shares = (0..lanes).map(|lane| (requests + lane) / lanes);
    let (start, times) = match how {
        Use::Kept => {
            let open = open(address, lanes)?;
            let start = Native.now();
            let lanes = open.into_iter().zip(shares);
            let tasks = lanes.map(|(connection, share)| kept(connection, share));
            (start, Native.run_all(tasks.collect()))
        }
        Use::New => {
            let start = Native.now();
            let tasks = shares.map(|share| new(address, share));
            (start, Native.run_all(tasks.collect()))
        }
    };
    let took = Native.now() - start;
    let times: Vec<Vec<u64>> = times.into_iter().collect::<Result<_, _>>()?;
    Ok(spread(times.concat(), Outcome::default().with("ns", took)))
}

fn open(address: SocketAddr, count: usize) -> Result<Vec<Connection>, Failure> {
    let mut open = Vec::with_capacity(count);
    while open.len() < count {
        let more = (count - open.len()).min(OPENING);
        let tasks = (0..more).map(|_| Connection::connect(address));
        for opened in Native.run_all(tasks.collect()) {
            open.push(opened?);
        }
    }
    Ok(open)
}

async fn kept(connection: Connection, count: usize) -> Result<Vec<u64>, Failure> {
    let mut times = Vec::with_capacity(count);
    let mut last = Native.now();
    for _ in 0..count {
        connection.write_all(KEEP).await?;
        answered(&connection).await?;
        let now = Native.now();
        times.push(now - last);
        last = now;
    }
    Ok(times)
}

async fn new(address: SocketAddr, count: usize) -> Result<Vec<u64>, Failure> {
    let mut times = Vec::with_capacity(count);
    let mut last = Native.now();
    for _ in 0..count {
        let connection = Connection::connect(address).await?;
        connection.write_all(CLOSE).await?;
        answered(&connection).await?;
        if connection.read(&mut [0]).await? > 0 {
            return Err(Failure::new("there is more than an answer"));
        }
        drop(connection);
        let now = Native.now();
        times.push(now - last);
        last = now;
    }
    Ok(times)
}

/// Waits for an answer, and checks it.
async fn answered(connection: &Connection) -> Result<(), Failure> {
    let mut buffer = [0; ANSWER];
    let mut len = 0;
    loop {
        match connection.read(&mut buffer[len..]).await? {
            0 => return Err(ended()),
            count => len += count,
        }
        if is_whole(&buffer[..len])? {
            return Ok(());
        }
    }
}

/// Whether that is a whole answer.
///
/// # Errors
///
/// If it is not the one that is wanted.
fn is_whole(bytes: &[u8]) -> Result<bool, Failure> {
    let other = || {
        let text = String::from_utf8_lossy(bytes);
        Failure::new(format!("not the answer: {text:?}"))
    };
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(Failure::of("HTTP"))?;
    let httparse::Status::Complete(head) = parsed else {
        return Ok(false);
    };
    let mut headers = response.headers.iter();
    let length = headers.find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let expected = GREETING.len().to_string();
    let length_is_right = length.is_some_and(|length| length.value == expected.as_bytes());
    let body = &bytes[head..];
    match response.code == Some(200) && length_is_right && GREETING.as_bytes().starts_with(body) {
        true => Ok(body.len() == GREETING.len()),
        false => Err(other()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::server;
    use std::net::Ipv4Addr;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn only_the_greeting_is_an_answer() {
        let good = "HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\nhello from Arca\n";
        for len in 0..good.len() {
            assert_eq!(is_whole(&good.as_bytes()[..len]), Ok(false), "{len} bytes");
        }
        assert_eq!(is_whole(good.as_bytes()), Ok(true));
        for bad in [
            good.replace("200", "404"),
            good.replace("16", "15"),
            good.replace("content", "context"),
            good.replace("Arca", "afar"),
            format!("{good}more"),
            "SSH-2.0\r\n\r\n".into(),
        ] {
            assert!(is_whole(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_server_answers_kept_connections_and_new_ones() {
        for (how, lanes, requests) in [(Use::Kept, 70, 500), (Use::New, 7, 100), (Use::Kept, 1, 3)]
        {
            let connections = match how {
                Use::Kept => lanes,
                Use::New => requests,
            };
            let (sender, address) = mpsc::channel();
            let server = thread::spawn(move || {
                let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let listening = |address| sender.send(address).expect("who waits");
                Native.serve_all(anywhere, connections, listening, server::answer)
            });
            let address = address.recv().expect("a port");
            let outcome = run(address, lanes, requests, how).expect("answers");
            assert!(outcome.get("p99_ns") >= outcome.get("p50_ns"), "{outcome}");
            assert_eq!(server.join().expect("no panic"), Ok(()));
        }
    }
}
