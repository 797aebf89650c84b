//! What is delivered when Arca closes its ends one after the other, or both at
//! once, and what came from the network meanwhile was not read: every order of the
//! two closes, the arrival and the write, without a hello and with one.

mod common;

use arca_shared::errno::Errno;
use arca_shared::protocol::message::{Reply, Request};
use arca_shared::ring::Close;
use common::{Session, Stream, digest, endpoint, pattern, until};
use nix::libc;
use std::io::{ErrorKind, Read, Write};
use std::mem::{size_of, zeroed};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

/// More than the kernel hands over before the peer reads.
const MUCH: usize = 1_500_000;

/// What comes from the network.
const LATE: &[u8] = b"12345";

/// What happens to a connection, once each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Bytes come, and Arca reads them.
    Read,
    /// Bytes come, and Arca reads none of them.
    Arrive,
    CloseRead,
    Write,
    CloseWrite,
}

/// The orders in which a write comes before the end of writing, and the arrival
/// before the last close.
fn orders(arrival: Step) -> impl Iterator<Item = [Step; 4]> {
    use Step::{CloseRead, CloseWrite, Write};
    let orders = [
        [arrival, CloseRead, Write, CloseWrite],
        [arrival, Write, CloseRead, CloseWrite],
        [arrival, Write, CloseWrite, CloseRead],
        [CloseRead, arrival, Write, CloseWrite],
        [CloseRead, Write, arrival, CloseWrite],
        [Write, arrival, CloseRead, CloseWrite],
        [Write, arrival, CloseWrite, CloseRead],
        [Write, CloseRead, arrival, CloseWrite],
        [Write, CloseWrite, arrival, CloseRead],
    ];
    orders.into_iter().filter(move |order| {
        let place = |step| order.iter().position(|&other| other == step);
        arrival != Step::Read || place(arrival) < place(CloseRead)
    })
}

/// How often in a row a shut window was probed.
fn probes(host: &TcpStream) -> u8 {
    // SAFETY: all fields are numbers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { zeroed() };
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel fills in no more than that length, which is ours.
    let result = unsafe {
        let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
        let value = (&raw mut info).cast();
        libc::getsockopt(host.as_raw_fd(), level, name, value, &raw mut len)
    };
    assert_eq!(result, 0, "no TCP_INFO");
    info.tcpi_backoff
}

/// A connection whose steps are taken one by one.
struct Play {
    session: Session,
    stream: Stream,
    host: TcpStream,
    said_hello: bool,
    /// What the last close says.
    last: Close,
    /// The monitor has seen each step before the next.
    settled: bool,
}

impl Play {
    fn new(said_hello: bool, last: Close, settled: bool) -> Self {
        let mut session = Session::start();
        if said_hello {
            session.peer.hello();
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let stream = session.peer.connect(address).expect("connects");
        let (host, _) = listener.accept().expect("accepts");
        host.set_read_timeout(Some(common::DEADLINE)).expect("set");
        Self {
            session,
            stream,
            host,
            said_hello,
            last,
            settled,
        }
    }

    /// Waits until the other kernel socket has all that the host sent.
    fn acknowledged(&self) {
        until("an acknowledgement", || {
            let mut count: libc::c_int = 0;
            let fd = self.host.as_raw_fd();
            // SAFETY: the request stores an int, which is ours.
            let result = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut count) };
            (result == 0 && count == 0).then_some(())
        });
    }

    /// Has the monitor look at everything, twice.
    fn look(&mut self) {
        // Nobody listens at port 1 of this address.
        let nowhere = "127.0.0.254:1".parse().expect("an address");
        let (request, refused) = (
            Request::Connect(endpoint(nowhere)),
            Reply::ConnectErr(Errno::ECONNREFUSED),
        );
        for _ in 0..2 {
            assert_eq!(self.session.peer.ask(request), refused);
        }
        if !self.said_hello {
            let turns = self.session.handle.stats().epoll_turns;
            until("the monitor to look", || {
                (self.session.handle.stats().epoll_turns > turns + 2).then_some(())
            });
        }
    }

    /// Writes all, and tells of each piece where the monitor does not look by the
    /// clock.
    fn write(&mut self, mut bytes: &[u8]) {
        until("room in ring A", || {
            if let Ok(len) = self.stream.pipe.write(bytes) {
                bytes = &bytes[len..];
                if self.said_hello {
                    self.session.peer.notify_pipe(&self.stream.pipe);
                }
            }
            bytes.is_empty().then_some(())
        });
    }

    fn take(&mut self, order: &[Step]) {
        let pipe_has = |stream: &mut Stream| stream.pipe.incoming().available();
        for (index, step) in order.iter().enumerate() {
            let rest = &order[index + 1..];
            let last = !rest.contains(&Step::CloseRead) && !rest.contains(&Step::CloseWrite);
            let by = if last { self.last } else { Close::Shutdown };
            match step {
                Step::Read | Step::Arrive => {
                    self.host.write_all(LATE).expect("writes");
                    self.acknowledged();
                    if rest.contains(&Step::CloseRead) {
                        let stream = &mut self.stream;
                        until("the bytes", || {
                            (pipe_has(stream) == Ok(LATE.len())).then_some(())
                        });
                    }
                    if *step == Step::Read {
                        assert_eq!(self.stream.read_exact(LATE.len()), LATE);
                    }
                }
                Step::CloseRead => self.stream.pipe.incoming().close_by(by),
                Step::Write => self.write(&pattern(MUCH, 21)),
                Step::CloseWrite => self.stream.pipe.outgoing().close_by(by),
            }
            if self.said_hello {
                self.session.peer.notify_pipe(&self.stream.pipe);
            }
            if self.settled {
                self.look();
            }
        }
    }

    /// Reads all that the host gets, and how it ends; `None` where that is all that
    /// was written and an end.
    fn loss(mut self) -> Option<String> {
        let mut bytes = Vec::new();
        let end = self.host.read_to_end(&mut bytes).map(|_| ());
        let sent = digest(&pattern(MUCH, 21));
        if end.is_err() || (bytes.len(), digest(&bytes)) != (MUCH, sent) {
            let kind = end.map_err(|error| error.kind());
            return Some(format!("{} bytes, {kind:?}", bytes.len()));
        }
        self.session.expect_no_pipes();
        self.session.stop();
        None
    }
}

/// Plays all orders in which both ends are shut down; what was lost by any.
fn shut_down(said_hello: bool) -> String {
    let mut lost = String::new();
    for arrival in [Step::Arrive, Step::Read] {
        for order in orders(arrival) {
            for settled in [false, true] {
                let mut play = Play::new(said_hello, Close::Shutdown, settled);
                play.take(&order);
                play.look();
                if let Some(loss) = play.loss() {
                    lost += &format!("{order:?}, settled {settled}: {loss}\n");
                }
            }
        }
    }
    lost
}

#[test]
fn a_draft_peer_loses_nothing_by_what_it_did_not_read() {
    assert_eq!(shut_down(false), "");
}

#[test]
fn shutting_both_ends_down_loses_nothing_by_what_was_not_read() {
    assert_eq!(shut_down(true), "");
}

#[test]
fn closing_the_connection_with_bytes_unread_is_a_reset() {
    for order in orders(Step::Arrive) {
        for settled in [false, true] {
            let mut play = Play::new(true, Close::Connection, settled);
            play.take(&order);
            play.session.expect_no_pipes();
            let mut bytes = Vec::new();
            let error = play.host.read_to_end(&mut bytes).expect_err("a reset");
            let kind = error.kind();
            assert_eq!(kind, ErrorKind::ConnectionReset, "{order:?} {settled}");
            assert!(pattern(MUCH, 21).starts_with(&bytes), "{order:?} {settled}");
            play.session.stop();
        }
    }
}

#[test]
fn closing_the_connection_with_nothing_unread_delivers_all() {
    for order in orders(Step::Read) {
        for settled in [false, true] {
            let mut play = Play::new(true, Close::Connection, settled);
            play.take(&order);
            play.look();
            assert_eq!(play.loss(), None, "{order:?}, settled {settled}");
        }
    }
}

#[test]
fn what_a_draft_peer_stores_as_a_flag_does_not_matter() {
    let mut play = Play::new(false, Close::Connection, false);
    play.take(&[Step::Arrive, Step::CloseRead, Step::Write, Step::CloseWrite]);
    play.look();
    assert_eq!(play.loss(), None);
}

#[test]
fn what_comes_while_the_last_bytes_of_a_shut_down_connection_go_out_is_dropped() {
    for said_hello in [false, true] {
        let mut play = Play::new(false, Close::Shutdown, true);
        // Ring and socket are full.
        play.stream.fill(&play.session);
        let sent = play.stream.pipe.outgoing().written();
        if said_hello {
            play.session.peer.hello();
            play.said_hello = true;
        }
        play.take(&[Step::CloseRead, Step::CloseWrite, Step::Arrive]);
        let mut bytes = Vec::new();
        play.host.read_to_end(&mut bytes).expect("an end");
        assert_eq!(bytes.len() as u64, sent);
        play.session.expect_no_pipes();
        play.session.stop();
    }
}

#[test]
fn a_peer_that_waits_for_room_gets_none_and_reads_all() {
    for said_hello in [false, true] {
        let mut play = Play::new(said_hello, Close::Shutdown, true);
        play.take(&[Step::CloseRead]);
        // More than the socket takes, so that a window that opened would be used.
        let mut writer = play.host.try_clone().expect("a clone");
        let writer = std::thread::spawn(move || writer.write_all(&pattern(8 << 20, 22)));
        // A probe of a window that is all but shut carries bytes, also natively.
        until("a probe of a shut window", || {
            (probes(&play.host) > 0).then_some(())
        });
        play.take(&[Step::Write, Step::CloseWrite]);
        let mut bytes = Vec::new();
        let end = play.host.read_to_end(&mut bytes);
        assert_eq!((bytes.len(), end.is_ok()), (MUCH, true), "{end:?}");
        assert_eq!(digest(&bytes), digest(&pattern(MUCH, 21)));
        play.session.expect_no_pipes();
        // Its writer finds out that nobody reads.
        let _ = play.host.shutdown(std::net::Shutdown::Both);
        assert!(writer.join().expect("no panic").is_err());
        play.session.stop();
    }
}
