//! A thousand connections at once, half of them made by the guest and half
//! accepted by it, each moving as much as it can in both directions; and nothing
//! is left of them. Alone in its file: it counts what the whole process has.
//!
//! `ARCA_CROWD_KIBIBYTES` is how much, 1,024 unless given.

use arca_tests::data::noise;
use arca_tests::guest::deadline;
use arca_tests::process::{descriptors, expect_descriptors, raise_descriptors};
use arca_tests::skip;
use arca_tests::talk::Talk;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sha2::{Digest, Sha256};
use socket2::{Domain, Socket, Type};
use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::Instant;

/// Connections in each direction.
const COUNT: usize = 500;
/// Size of the digest that follows them.
const DIGEST: usize = 32;
/// Threads that the host's ends are spread over.
const THREADS: usize = 4;
/// Bytes moved at a time.
const PIECE: usize = 64 << 10;

/// Bytes that each moves each way.
fn len() -> usize {
    let set = env::var("ARCA_CROWD_KIBIBYTES").ok();
    let set = set.map(|text| {
        text.parse::<usize>()
            .expect("ARCA_CROWD_KIBIBYTES is a number")
    });
    set.unwrap_or(1 << 10) << 10
}

/// The host's end of a connection.
struct End {
    stream: TcpStream,
    /// Bytes to move each way, beside the digest.
    len: usize,
    seed: u64,
    sent: usize,
    /// What is to be sent next, from `offset`.
    piece: Vec<u8>,
    offset: usize,
    sent_digest: Sha256,
    received: Vec<u8>,
    at_end: bool,
}

impl End {
    fn new(stream: TcpStream, len: usize, seed: u64) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            len,
            seed,
            sent: 0,
            piece: Vec::new(),
            offset: 0,
            sent_digest: Sha256::new(),
            received: Vec::with_capacity(len + DIGEST),
            at_end: false,
        })
    }

    fn is_sending(&self) -> bool {
        self.sent < self.len + DIGEST
    }

    /// What poll is asked for; nothing if all is done.
    fn interest(&self) -> PollFlags {
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::POLLIN, !self.at_end);
        interest.set(PollFlags::POLLOUT, self.is_sending());
        interest
    }

    /// Sends a piece.
    fn send(&mut self) -> io::Result<()> {
        if self.offset == self.piece.len() {
            self.offset = 0;
            self.piece = match self.len - self.sent {
                0 => self.sent_digest.clone().finalize().to_vec(),
                left => {
                    let piece = noise(self.seed << 32 | self.sent as u64, PIECE.min(left));
                    self.sent_digest.update(&piece);
                    piece
                }
            };
        }
        let len = (&self.stream).write(&self.piece[self.offset..])?;
        self.offset += len;
        self.sent += len;
        match self.is_sending() {
            true => Ok(()),
            false => self.stream.shutdown(Shutdown::Write),
        }
    }

    /// Receives a piece.
    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; PIECE];
        let len = (&self.stream).read(&mut buffer)?;
        self.received.extend_from_slice(&buffer[..len]);
        self.at_end = len == 0;
        Ok(())
    }

    /// Whether all came, and has its digest.
    fn is_good(&self) -> bool {
        let Some((bytes, told)) = self.received.split_at_checked(self.len) else {
            return false;
        };
        !self.is_sending() && Sha256::digest(bytes)[..] == *told
    }
}

/// Moves everything over `ends`, and says how many are as they should be.
fn exchange(mut ends: Vec<End>) -> usize {
    let end = Instant::now() + deadline();
    loop {
        let left = ends.iter().filter(|end| !end.interest().is_empty());
        let mut fds: Vec<PollFd<'_>> = left
            .map(|end| PollFd::new(end.stream.as_fd(), end.interest()))
            .collect();
        if fds.is_empty() {
            return ends.iter().filter(|end| end.is_good()).count();
        }
        match poll(&mut fds, PollTimeout::from(1000u16)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => panic!("poll: {errno}"),
        }
        let ready: Vec<_> = fds.iter().map(|fd| fd.revents()).collect();
        let left = ends.iter_mut().filter(|end| !end.interest().is_empty());
        for (end, ready) in left.zip(ready) {
            let ready = ready.unwrap_or(PollFlags::empty());
            if ready.contains(PollFlags::POLLOUT) && end.is_sending() {
                tolerate(end.send());
            }
            if ready.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
                tolerate(end.receive());
            }
        }
        assert!(Instant::now() < end, "not all moves by the deadline");
    }
}

fn tolerate(result: io::Result<()>) {
    match result {
        Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("{error}"),
        _ => {}
    }
}

/// A listener with room for all clients at once. With std's 128, Linux drops what
/// does not fit, and once it falls back to SYN cookies a client may believe in a
/// connection that was never queued.
fn listen() -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&anywhere.into()).expect("a free port");
    socket.listen(2 * COUNT as i32).expect("listens");
    // Linux takes this for how long an accept may wait.
    socket
        .set_read_timeout(Some(deadline()))
        .expect("a deadline");
    socket.into()
}

/// Everything on a guest with so many vCPUs.
fn crowd(vcpus: usize) {
    let listener = listen();
    let address = listener.local_addr().expect("bound").to_string();
    let len = len();
    let args = [address, COUNT.to_string(), len.to_string()];
    let args = args.each_ref().map(String::as_str);
    let mut guest = Talk::start("crowd", &args, |config| config.vcpus = vcpus);
    let at_boot = guest.guest().stats().monitor;
    let place: SocketAddr = guest
        .hear(deadline())
        .expect("listens")
        .parse()
        .expect("at");
    let began = Instant::now();
    let mut ends = Vec::new();
    for seed in 0..COUNT as u64 {
        // The two take turns, so that neither has to wait for the other's end.
        let (stream, _) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) => panic!("{seed} accepted: {error}\n{:#?}", guest.guest().stats()),
        };
        ends.push(End::new(stream, len, 2 * seed).expect("non-blocking"));
        let stream = TcpStream::connect(place).expect("the guest listens");
        ends.push(End::new(stream, len, 2 * seed + 1).expect("non-blocking"));
    }
    let mut shares: Vec<Vec<End>> = (0..THREADS).map(|_| Vec::new()).collect();
    for (index, end) in ends.into_iter().enumerate() {
        shares[index % THREADS].push(end);
    }
    let threads = shares
        .into_iter()
        .map(|ends| thread::spawn(|| exchange(ends)));
    let threads: Vec<_> = threads.collect();
    let good = threads.into_iter().map(|thread| thread.join());
    let good: usize = good.map(|good| good.expect("no panic")).sum();
    assert_eq!(
        good,
        2 * COUNT,
        "connections that are good at the host's end"
    );
    let good = guest.hear(deadline()).expect("the guest is done");
    let moved = (2 * COUNT * 2 * len) as f64 / (1 << 20) as f64;
    let speed = moved / began.elapsed().as_secs_f64();
    println!(
        "{vcpus} vCPUs: {speed:.0} MiB/s over {} connections",
        2 * COUNT
    );
    assert_eq!(good, (2 * COUNT).to_string(), "at the guest's end");
    let after = guest.guest().wait_until("free of data pipes", |stats| {
        stats.monitor.pipes_allocated == 0 && stats.monitor.connections == 0
    });
    assert_eq!(after.monitor.arena_used, at_boot.arena_used);
    assert_eq!(after.monitor.connections_in, COUNT as u64);
    assert_eq!(after.monitor.connections_out, COUNT as u64);
    assert_eq!(guest.finish().code(), 0);
}

#[test]
fn a_thousand_connections_move_a_mebibyte_each_way_and_leave_nothing() {
    let wanted = 4 * COUNT as u64 + 200;
    let allowed = raise_descriptors();
    if allowed < wanted {
        return skip(&format!(
            "{wanted} descriptors are needed, {allowed} allowed"
        ));
    }
    // Built before anything is counted.
    let _ = arca_tests::guest::image("crowd");
    let before = descriptors();
    crowd(1);
    crowd(2);
    expect_descriptors(before);
}
