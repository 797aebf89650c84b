//! What is asked of a program under measurement.

use crate::failure::Failure;
use crate::wire::Header;
use alloc::format;
use core::fmt;
use core::net::SocketAddr;
use core::str::{FromStr, SplitWhitespace};

/// A command: one line of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// One transfer over a new connection. Answers with `ns`.
    Transfer {
        /// Who serves it.
        address: SocketAddr,
        /// What it is.
        header: Header,
    },
    /// One transfer over a new connection, which is generated and parsed. Answers with
    /// `ns`.
    Work {
        /// Who serves it.
        address: SocketAddr,
        /// What it is.
        header: Header,
        /// Where the bytes are, not in a buffer.
        in_place: bool,
    },
    /// Round trips over a new connection. Answers with `ns` for all of them,
    /// `p50_ns`, `p99_ns` and `max_ns`.
    Ping {
        /// Who serves it.
        address: SocketAddr,
        /// Bytes in each direction.
        size: usize,
        /// Round trips.
        count: usize,
    },
    /// Connects, exchanges a byte and closes, one connection after the other.
    /// Answers with `ns`.
    Churn {
        /// Who serves it.
        address: SocketAddr,
        /// Connections.
        count: usize,
    },
    /// Listens, says where, and serves that many connections of a churn. Answers
    /// with `ns`.
    Serve {
        /// Where; 0 for any port.
        port: u16,
        /// Connections.
        count: usize,
    },
    /// Listens, says where, and answers the HTTP requests of that many connections.
    /// Answers with `ns`.
    Http {
        /// Connections.
        count: usize,
    },
    /// Notifies, hands over and sleeps; see [`exits`](crate::client::exits) for the
    /// answer.
    Exits {
        /// How many times.
        count: usize,
    },
    /// Opens connections and keeps them. Answers with `ns`.
    Open {
        /// Who serves them.
        address: SocketAddr,
        /// Connections.
        count: usize,
    },
    /// Round trips on all open connections at once. Answers as a ping does.
    Exchange {
        /// Bytes in each direction.
        size: usize,
        /// Round trips on each connection.
        count: usize,
    },
    /// The same transfer on each open connection, all at once. Answers with `ns`.
    Move {
        /// What it is.
        header: Header,
    },
    /// Closes what is open. Answers with `ns`.
    Close,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transfer { address, header } => {
                write!(f, "transfer {address} {} {}", header.up, header.down)
            }
            Self::Work {
                address,
                header,
                in_place,
            } => write!(f, "work {address} {} {} {in_place}", header.up, header.down),
            Self::Ping {
                address,
                size,
                count,
            } => write!(f, "ping {address} {size} {count}"),
            Self::Churn { address, count } => write!(f, "churn {address} {count}"),
            Self::Serve { port, count } => write!(f, "serve {port} {count}"),
            Self::Http { count } => write!(f, "http {count}"),
            Self::Exits { count } => write!(f, "exits {count}"),
            Self::Open { address, count } => write!(f, "open {address} {count}"),
            Self::Exchange { size, count } => write!(f, "exchange {size} {count}"),
            Self::Move { header } => write!(f, "move {} {}", header.up, header.down),
            Self::Close => f.write_str("close"),
        }
    }
}

impl FromStr for Command {
    type Err = Failure;

    fn from_str(line: &str) -> Result<Self, Failure> {
        let mut words = Words {
            line,
            words: line.split_whitespace(),
        };
        let name: &str = words.words.next().unwrap_or_default();
        let command = match name {
            "transfer" => Self::Transfer {
                address: words.next()?,
                header: words.header()?,
            },
            "work" => Self::Work {
                address: words.next()?,
                header: words.header()?,
                in_place: words.next()?,
            },
            "ping" => Self::Ping {
                address: words.next()?,
                size: words.next()?,
                count: words.next()?,
            },
            "churn" => Self::Churn {
                address: words.next()?,
                count: words.next()?,
            },
            "serve" => Self::Serve {
                port: words.next()?,
                count: words.next()?,
            },
            "http" => Self::Http {
                count: words.next()?,
            },
            "exits" => Self::Exits {
                count: words.next()?,
            },
            "open" => Self::Open {
                address: words.next()?,
                count: words.next()?,
            },
            "exchange" => Self::Exchange {
                size: words.next()?,
                count: words.next()?,
            },
            "move" => Self::Move {
                header: words.header()?,
            },
            "close" => Self::Close,
            _ => return Err(words.bad()),
        };
        match words.words.next() {
            None => Ok(command),
            Some(_) => Err(words.bad()),
        }
    }
}

/// The words of a line, parsed as they are wanted.
struct Words<'a> {
    line: &'a str,
    words: SplitWhitespace<'a>,
}

impl Words<'_> {
    fn bad(&self) -> Failure {
        Failure::new(format!("not a command: {:?}", self.line))
    }

    fn next<T: FromStr>(&mut self) -> Result<T, Failure> {
        let word = self.words.next().and_then(|word| word.parse().ok());
        word.ok_or_else(|| self.bad())
    }

    fn header(&mut self) -> Result<Header, Failure> {
        Ok(Header {
            up: self.next()?,
            down: self.next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn commands_come_back() {
        let address = SocketAddr::from(([127, 0, 0, 1], 4000));
        let header = Header {
            up: 3,
            down: 1 << 33,
        };
        let (size, count) = (64, 10_000);
        for command in [
            Command::Transfer { address, header },
            Command::Work {
                address,
                header,
                in_place: true,
            },
            Command::Ping {
                address,
                size,
                count,
            },
            Command::Churn { address, count },
            Command::Serve { port: 80, count },
            Command::Http { count },
            Command::Exits { count },
            Command::Open { address, count },
            Command::Exchange { size, count },
            Command::Move { header },
            Command::Close,
        ] {
            assert_eq!(command.to_string().parse(), Ok(command));
        }
    }

    #[test]
    fn others_are_refused() {
        for line in [
            "",
            "ping",
            "ping 127.0.0.1:1 1",
            "close now",
            "serve 0 -1",
            "serve 70000 1",
            "x",
        ] {
            assert!(line.parse::<Command>().is_err(), "{line:?}");
        }
    }
}
