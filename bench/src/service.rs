//! The process that both sides talk to: servers of every workload, and the client
//! for those in which the program under measurement is the server.
//!
//! It is told what to do by lines, as those programs are, and answers as they do.
//! Each listener has a port and a thread of its own. A single connection is served
//! with blocking calls, and many with one epoll: whichever is faster, and the same
//! for both sides.

use crate::client::transfer::{give, take};
use crate::connection::Listener as _;
use crate::failure::Failure;
use crate::http::load::{self, Use};
use crate::native::blocking::{Listener, Stream};
use crate::native::{self, Native, connection, event_loop};
use crate::reply::{Outcome, Reply};
use crate::wire::payload;
use crate::{PIECE, client, server};
use embedded_io::Write as _;
use futures_util::stream::{FuturesUnordered, Stream as _};
use std::fmt;
use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};
use std::thread;

/// What a listener does with its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Echo, one connection after the other.
    Churn,
    /// Echo, a thread for each connection.
    Echo,
    /// Transfers, a thread for each connection.
    Transfer,
    /// Echo for many connections.
    SharedEcho,
    /// Transfers for many connections.
    SharedTransfer,
}

impl Behaviour {
    const ALL: [(Self, &str); 5] = [
        (Self::Churn, "churn"),
        (Self::Echo, "echo"),
        (Self::Transfer, "transfer"),
        (Self::SharedEcho, "shared-echo"),
        (Self::SharedTransfer, "shared-transfer"),
    ];
}

/// What is asked of the service: one line of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A new listener; answered with its address.
    Listen(Behaviour),
    /// A churn of that many connections to a server; answered with `ns`.
    Load(SocketAddr, usize),
    /// HTTP requests; answered as [`load::run`] does.
    Fetch {
        /// Who answers them.
        address: SocketAddr,
        /// How many at a time.
        lanes: usize,
        /// How many.
        requests: usize,
        /// Over which connections.
        how: Use,
    },
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(wanted) => {
                let mut all = Behaviour::ALL.iter();
                let name = all.find(|(known, _)| known == wanted);
                write!(f, "listen {}", name.map_or("", |(_, name)| name))
            }
            Self::Load(address, count) => write!(f, "load {address} {count}"),
            Self::Fetch {
                address,
                lanes,
                requests,
                how,
            } => write!(f, "fetch {address} {lanes} {requests} {}", how.name()),
        }
    }
}

impl FromStr for Request {
    type Err = Failure;

    fn from_str(line: &str) -> Result<Self, Failure> {
        let mut words = line.split_whitespace();
        let mut next = || words.next().unwrap_or_default();
        let request = match next() {
            "listen" => {
                let name = next();
                let mut all = Behaviour::ALL.iter();
                let found = all.find(|(_, known)| *known == name);
                found.map(|&(behaviour, _)| Self::Listen(behaviour))
            }
            "load" => match (next().parse(), next().parse()) {
                (Ok(address), Ok(count)) => Some(Self::Load(address, count)),
                _ => None,
            },
            "fetch" => match (next().parse(), next().parse(), next().parse(), next()) {
                (Ok(address), Ok(lanes), Ok(requests), how) => {
                    let mut all = [Use::Kept, Use::New].into_iter();
                    let how = all.find(|known| known.name() == how);
                    how.map(|how| Self::Fetch {
                        address,
                        lanes,
                        requests,
                        how,
                    })
                }
                _ => None,
            },
            _ => None,
        };
        request.ok_or_else(|| Failure::new(format!("not a request: {line:?}")))
    }
}

/// Answers requests until there are no more.
pub fn serve(lines: impl Iterator<Item = String>, mut say: impl FnMut(&str)) {
    for line in lines {
        let reply = line.parse().and_then(answer);
        let reply = reply.unwrap_or_else(|failure: Failure| Reply::Failed(failure.to_string()));
        say(&reply.to_string());
    }
}

fn answer(request: Request) -> Result<Reply, Failure> {
    match request {
        Request::Listen(behaviour) => Ok(Reply::Listening(listen(behaviour)?)),
        Request::Load(address, count) => {
            let took = client::churn::run(&Native, address, count)?;
            Ok(Reply::Done(Outcome::default().with("ns", took)))
        }
        Request::Fetch {
            address,
            lanes,
            requests,
            how,
        } => Ok(Reply::Done(load::run(address, lanes, requests, how)?)),
    }
}

/// Starts a listener, whose thread runs as long as the process.
///
/// # Errors
///
/// If there is no port.
pub fn listen(behaviour: Behaviour) -> Result<SocketAddr, Failure> {
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    match behaviour {
        Behaviour::SharedEcho => share(anywhere, server::echo_shared),
        Behaviour::SharedTransfer => share(anywhere, server::transfer_shared),
        _ => {
            let listener = Listener::bind(anywhere)?;
            let address = listener.address();
            thread::spawn(move || report(accept_all(&listener, behaviour)));
            Ok(address)
        }
    }
}

/// A client that goes away is that client's to report; it is said all the same.
fn report(result: Result<(), Failure>) {
    if let Err(failure) = result {
        eprintln!("bench service: {failure}");
    }
}

fn accept_all(listener: &Listener, behaviour: Behaviour) -> Result<(), Failure> {
    loop {
        if behaviour == Behaviour::Churn {
            server::churn(listener, 1)?;
            continue;
        }
        let mut stream = listener.accept()?;
        thread::spawn(move || {
            report(match behaviour {
                Behaviour::Transfer => transfer(&mut stream),
                _ => server::echo(&mut stream),
            });
        });
    }
}

/// Serves transfers until the client closes. Where both directions are wanted at
/// once, a second thread does one of them.
fn transfer(stream: &mut Stream) -> Result<(), Failure> {
    let outgoing = payload(PIECE);
    let mut incoming = payload(PIECE);
    while let Some(header) = server::header(stream)? {
        if header.up > 0 && header.down > 0 {
            let mut other = stream.try_clone()?;
            thread::scope(|scope| {
                let giver = scope.spawn(|| give(&mut other, header.down, &outgoing));
                let taken = take(stream, header.up, &mut incoming);
                native::join(giver).and(taken)
            })?;
        } else {
            give(stream, header.down, &outgoing)?;
            take(stream, header.up, &mut incoming)?;
        }
        let counted = stream.write_all(&header.up.to_le_bytes());
        counted.map_err(Failure::of("write"))?;
    }
    Ok(())
}

/// Starts a thread that serves all connections of a listener, each by a task.
fn share<F>(
    address: SocketAddr,
    task: impl Fn(connection::Connection) -> F + Send + 'static,
) -> Result<SocketAddr, Failure>
where
    F: Future<Output = Result<(), Failure>> + 'static,
{
    let (socket, address) = connection::bind(address)?;
    thread::spawn(move || {
        let listener = connection::Listener::adopt(socket);
        report(listener.and_then(|listener| {
            let mut tasks = FuturesUnordered::new();
            event_loop::block_on(poll_fn(|context| {
                serve_shared(&listener, &task, &mut tasks, context)
            }))
        }));
    });
    Ok(address)
}

fn serve_shared<F>(
    listener: &connection::Listener,
    task: impl Fn(connection::Connection) -> F,
    tasks: &mut FuturesUnordered<F>,
    context: &mut Context<'_>,
) -> Poll<Result<(), Failure>>
where
    F: Future<Output = Result<(), Failure>>,
{
    while let Poll::Ready(accepted) = listener.poll_accept(context) {
        tasks.push(task(accepted?));
    }
    while let Poll::Ready(Some(ended)) = Pin::new(&mut *tasks).poll_next(context) {
        report(ended);
    }
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, session, wire::Header};

    fn run(command: Command) -> Vec<Reply> {
        let mut lines = vec![Command::Close.to_string(), command.to_string()];
        if let Command::Exchange { .. } | Command::Move { .. } = command {
            let behaviour = match command {
                Command::Exchange { .. } => Behaviour::SharedEcho,
                _ => Behaviour::SharedTransfer,
            };
            let address = listen(behaviour).expect("a port");
            let count = 100;
            lines.push(Command::Open { address, count }.to_string());
        }
        let mut replies = Vec::new();
        let say = |line: &str| replies.push(line.parse().expect("a reply"));
        session::serve(&Native, 0, None, || lines.pop(), say).expect("no first connection");
        replies
    }

    fn all_done(command: Command) {
        let replies = run(command);
        for reply in &replies[1..] {
            assert!(matches!(reply, Reply::Done(_)), "{command}: {replies:?}");
        }
    }

    #[test]
    fn every_workload_runs_natively() {
        let address = listen(Behaviour::Transfer).expect("a port");
        let n = (3 << 20) + 1;
        for (up, down) in [(n, 0), (0, n), (n, n)] {
            let header = Header { up, down };
            all_done(Command::Transfer { address, header });
            let in_place = false;
            all_done(Command::Work {
                address,
                header,
                in_place,
            });
            let (up, down) = (up / 10, down / 10);
            let header = Header { up, down };
            all_done(Command::Move { header });
        }
        let address = listen(Behaviour::Echo).expect("a port");
        let (size, count) = (1, 100);
        all_done(Command::Ping {
            address,
            size,
            count,
        });
        all_done(Command::Exchange { size: 64, count });
        let address = listen(Behaviour::Churn).expect("a port");
        all_done(Command::Churn { address, count });
    }

    #[test]
    fn a_server_is_loaded() {
        let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port");
        let address = listener.address();
        let server = thread::spawn(move || server::churn(&listener, 10));
        let reply = answer(Request::Load(address, 10)).expect("served");
        assert!(matches!(reply, Reply::Done(_)));
        assert_eq!(server.join().expect("no panic"), Ok(()));
    }

    #[test]
    fn requests_come_back() {
        let mut requests: Vec<_> = Behaviour::ALL
            .iter()
            .map(|&(behaviour, _)| Request::Listen(behaviour))
            .collect();
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        requests.push(Request::Load(address, 9));
        requests.extend([Use::Kept, Use::New].map(|how| Request::Fetch {
            address,
            lanes: 2,
            requests: 3,
            how,
        }));
        for request in requests {
            assert_eq!(request.to_string().parse(), Ok(request));
        }
        for line in [
            "",
            "listen",
            "listen x",
            "load 1 2",
            "load",
            "fetch 127.0.0.1:1 1 1 x",
        ] {
            assert!(line.parse::<Request>().is_err(), "{line:?}");
        }
    }
}
