//! A plain TCP relay, as anybody would write it: a listener with a port and a thread
//! of its own, a level-triggered epoll, non-blocking sockets, and one buffer that all
//! connections share.
//!
//! It is a process of the benchmark: told by lines where to forward to, it answers
//! where it listens.
//!
//! | module | holds |
//! |---|---|
//! | [`connection`] | the two sockets of a connection and what is between them |

mod connection;

use anyhow::{Context, Result, bail};
use arca_bench::Reply;
use connection::{Connection, End};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

/// Bytes that one call moves.
const PIECE: usize = arca_bench::PIECE;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// Sockets whose readiness one wait can bring.
const EVENTS: usize = 256;
/// What the events of the listener carry; others carry twice the connection's number,
/// and one more for its far end.
const LISTENER: u64 = u64::MAX;

/// The line that asks for a port from which to forward.
pub fn request(to: SocketAddr) -> String {
    format!("forward {to}")
}

/// Answers requests until there are no more.
pub fn serve(lines: impl Iterator<Item = String>, say: impl Fn(&str)) {
    for line in lines {
        let reply = match answer(&line) {
            Ok(address) => Reply::Listening(address),
            Err(error) => Reply::Failed(format!("{error:#}")),
        };
        say(&reply.to_string());
    }
}

fn answer(line: &str) -> Result<SocketAddr> {
    match line.strip_prefix("forward ").map(str::parse) {
        Some(Ok(to)) => forward(to).context("forward"),
        _ => bail!("not a request: {line:?}"),
    }
}

/// Starts to forward to an address; the thread runs as long as the process.
///
/// # Errors
///
/// If there is no port, or no epoll.
pub fn forward(to: SocketAddr) -> Result<SocketAddr> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    let address = listener.local_addr()?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let mut relay = Relay {
        to,
        listener,
        epoll,
        connections: Vec::new(),
        free: Vec::new(),
    };
    thread::spawn(move || {
        let Err(error) = relay.run();
        crate::say(format_args!("bench relay: {error}"));
    });
    Ok(address)
}

/// All connections from one port.
struct Relay {
    to: SocketAddr,
    listener: TcpListener,
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
}

impl Relay {
    /// Relays until something fails that is no connection's own.
    fn run(&mut self) -> io::Result<std::convert::Infallible> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut buffer = vec![0; PIECE];
        let mut gone = Vec::new();
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                result => result?,
            };
            for event in &events[..count] {
                if event.data() == LISTENER {
                    self.accept()?;
                    continue;
                }
                let number = (event.data() / 2) as usize;
                let end = match event.data() % 2 {
                    0 => End::Near,
                    _ => End::Far,
                };
                let Some(Some(connection)) = self.connections.get_mut(number) else {
                    continue;
                };
                let ready = event.events();
                if connection
                    .turn(&self.epoll, end, ready, &mut buffer)
                    .is_break()
                {
                    self.connections[number] = None;
                    gone.push(number);
                }
            }
            // Not before all events are seen: one of them may be of who had the number.
            self.free.append(&mut gone);
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let near = match self.listener.accept() {
                Ok((near, _)) => near,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The client's, which is gone already.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let number = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let tokens = [2 * number as u64, 2 * number as u64 + 1];
            match Connection::start(&self.epoll, near, self.to, tokens) {
                Ok(connection) => self.connections[number] = Some(connection),
                Err(error) => {
                    crate::say(format_args!("bench relay: {}: {error}", self.to));
                    self.free.push(number);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arca_bench::native::Native;
    use arca_bench::service::{Behaviour, listen};
    use arca_bench::wire::Header;
    use arca_bench::{Command, session};
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpStream};

    fn all_done(behaviour: Behaviour, commands: &[fn(SocketAddr) -> Command]) {
        let address = forward(listen(behaviour).expect("a port")).expect("a port");
        let mut lines = commands.iter().map(|make| make(address).to_string());
        let mut replies = Vec::new();
        let say = |line: &str| replies.push(line.to_owned());
        session::serve(&Native, 0, None, || lines.next(), say).expect("no first connection");
        assert_eq!(replies.len(), commands.len() + 1, "{replies:?}");
        for reply in &replies[1..] {
            assert!(reply.starts_with("done"), "{replies:?}");
        }
    }

    #[test]
    fn every_workload_goes_through() {
        fn transfer(address: SocketAddr, up: u64, down: u64) -> Command {
            let header = Header { up, down };
            Command::Transfer { address, header }
        }
        all_done(
            Behaviour::Transfer,
            &[
                |address| transfer(address, 9 << 20, 0),
                |address| transfer(address, 0, 9 << 20),
                |address| transfer(address, 9 << 20, 9 << 20),
            ],
        );
        let ping = |address| Command::Ping {
            address,
            size: 1,
            count: 100,
        };
        all_done(Behaviour::Echo, &[ping]);
        let churn = |address| Command::Churn {
            address,
            count: 100,
        };
        all_done(Behaviour::Churn, &[churn]);
        let open = |address| Command::Open {
            address,
            count: 100,
        };
        let exchange = |_| Command::Exchange {
            size: 64,
            count: 10,
        };
        all_done(Behaviour::SharedEcho, &[open, exchange, |_| Command::Close]);
        let both = |_| Command::Move {
            header: Header {
                up: 1 << 20,
                down: 1 << 20,
            },
        };
        all_done(Behaviour::SharedTransfer, &[open, both, |_| Command::Close]);
    }

    fn address_of_nobody() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.local_addr().expect("bound")
    }

    #[test]
    fn an_end_passes_through_and_the_other_way_stays() {
        let address = forward(listen(Behaviour::Echo).expect("a port")).expect("a port");
        let mut stream = TcpStream::connect(address).expect("listening");
        let sent: Vec<u8> = (0..3_000_000u32).map(|number| number as u8).collect();
        let mut reader = stream.try_clone().expect("a descriptor");
        let expected = sent.clone();
        let back = thread::spawn(move || {
            let mut back = Vec::new();
            reader.read_to_end(&mut back).expect("to the end");
            assert!(back == expected, "{} bytes came back", back.len());
        });
        stream.write_all(&sent).expect("taken");
        stream.shutdown(Shutdown::Write).expect("connected");
        back.join().expect("what was sent");
    }

    #[test]
    fn who_cannot_be_reached_is_an_end() {
        let address = forward(address_of_nobody()).expect("a port");
        let mut stream = TcpStream::connect(address).expect("listening");
        // An end, or a reset: never a wait.
        assert!(!matches!(stream.read(&mut [0]), Ok(1..)));
    }

    #[test]
    fn other_lines_are_refused() {
        for line in ["", "forward", "forward there", "listen echo"] {
            assert!(answer(line).is_err(), "{line:?}");
        }
        let asked = request(address_of_nobody());
        assert!(answer(&asked).is_ok(), "{asked}");
    }
}
