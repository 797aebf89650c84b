//! The operations, and how a line says them: the name of the operation, and then
//! its operands. Sockets, listeners and jobs have names, which are words.
//!
//! A *job* is an operation that goes on while others are done.

use crate::data::Data;
use alloc::boxed::Box;
use alloc::string::String;
use arca_shared::protocol::message::SocketOption;
use core::net::SocketAddr;
use core::str::{FromStr, SplitWhitespace};

/// Which directions to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Receiving.
    Read,
    /// Sending.
    Write,
    /// Both.
    Both,
}

/// What a stream can be waited for to have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// So many bytes can be read.
    Bytes(usize),
    /// The peer has ended its sending, in whatever way.
    End,
    /// The connection has failed.
    Failure,
    /// The peer's kernel has all that was sent, the end of sending included.
    Acknowledged,
}

/// An operation. Each says what its line looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the line is the documentation")]
pub enum Op {
    /// `connect NAME ADDRESS`
    Connect { name: String, to: SocketAddr },
    /// `connect-timeout NAME ADDRESS MILLISECONDS`
    ConnectTimeout {
        name: String,
        to: SocketAddr,
        millis: u64,
    },
    /// `connect-name NAME HOST PORT`
    ConnectName {
        name: String,
        host: String,
        port: u16,
    },
    /// `bind NAME ADDRESS`
    Bind { name: String, at: SocketAddr },
    /// `accept NAME LISTENER`
    Accept { name: String, listener: String },
    /// `incoming NAME LISTENER`: the next of the iterator.
    Incoming { name: String, listener: String },
    /// `read NAME LENGTH`: one read.
    Read { name: String, len: usize },
    /// `peek NAME LENGTH`
    Peek { name: String, len: usize },
    /// `read-exact NAME LENGTH`
    ReadExact { name: String, len: usize },
    /// `read-end NAME`: all there is to come, and how it ends.
    ReadEnd { name: String },
    /// `drain NAME DATA`: the same, where only part of the data may come.
    Drain { name: String, data: Data },
    /// `write NAME DATA`: one write.
    Write { name: String, data: Data },
    /// `write-all NAME DATA`
    WriteAll { name: String, data: Data },
    /// `send NAME DATA`: the draft's; what cannot be sent ends this side's sending.
    Send { name: String, data: Data },
    /// `recv NAME LENGTH`: the draft's; less is the end, or comes before an error.
    Recv { name: String, len: usize },
    /// `shutdown NAME read|write|both`
    Shutdown { name: String, how: How },
    /// `close NAME`: drops a stream, a half, or a listener.
    Close { name: String },
    /// `abort NAME`: closes a stream with a reset.
    Abort { name: String },
    /// `clone NEW OLD`
    Clone { new: String, old: String },
    /// `split NAME`: into the halves `NAME.r` and `NAME.w`.
    Split { name: String },
    /// `half-read NAME LENGTH`: fills a buffer from a read half.
    HalfRead { name: String, len: usize },
    /// `half-write NAME DATA`: writes all to a write half.
    HalfWrite { name: String, data: Data },
    /// `nonblocking NAME on|off`
    Nonblocking { name: String, on: bool },
    /// `nodelay NAME`, `set-nodelay NAME on|off`
    NoDelay { name: String, set: Option<bool> },
    /// `ttl NAME`, `set-ttl NAME HOPS`
    Ttl { name: String, set: Option<u32> },
    /// `keepalive NAME`: the seconds, or none.
    KeepAlive { name: String },
    /// `set-keepalive NAME SECONDS|none`
    SetKeepAlive { name: String, seconds: Option<u64> },
    /// `read-timeout NAME`: milliseconds or none.
    ReadTimeout { name: String },
    /// `set-read-timeout NAME MILLISECONDS|none`
    SetReadTimeout { name: String, millis: Option<u64> },
    /// `write-timeout NAME`
    WriteTimeout { name: String },
    /// `set-write-timeout NAME MILLISECONDS|none`
    SetWriteTimeout { name: String, millis: Option<u64> },
    /// `take-error NAME`
    TakeError { name: String },
    /// `option NAME NUMBER`, as PROTOCOL.md counts them.
    GetOption { name: String, option: SocketOption },
    /// `set-option NAME NUMBER VALUE`
    SetOption {
        name: String,
        option: SocketOption,
        value: u64,
    },
    /// `local NAME`
    Local { name: String },
    /// `peer NAME`
    Peer { name: String },
    /// `settle NAME bytes LENGTH|end|failure|acknowledged`: waits until that was
    /// seen, without taking it.
    Settle { name: String, seen: Seen },
    /// `start JOB OPERATION...`
    Start { job: String, op: Box<Op> },
    /// `waits JOB`: waits until it can do nothing but wait.
    Waits { job: String },
    /// `done JOB`: whether it is.
    Done { job: String },
    /// `finish JOB`: waits for its end; the answer is that of its operation.
    Finish { job: String },
    /// `cancel JOB`: gives it up.
    Cancel { job: String },
    /// `clear`: drops everything.
    Clear,
}

impl FromStr for Op {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let mut words = Words(line.split_whitespace());
        let op = words.op()?;
        match words.0.next() {
            None => Ok(op),
            Some(_) => Err(()),
        }
    }
}

/// The words of a line, parsed as they are wanted.
struct Words<'a>(SplitWhitespace<'a>);

impl<'a> Words<'a> {
    fn word(&mut self) -> Result<&'a str, ()> {
        self.0.next().ok_or(())
    }

    fn next<T: FromStr>(&mut self) -> Result<T, ()> {
        self.word()?.parse().map_err(|_| ())
    }

    fn flag(&mut self) -> Result<bool, ()> {
        match self.word()? {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(()),
        }
    }

    fn maybe(&mut self) -> Result<Option<u64>, ()> {
        match self.word()? {
            "none" => Ok(None),
            number => number.parse().map(Some).map_err(|_| ()),
        }
    }

    fn how(&mut self) -> Result<How, ()> {
        match self.word()? {
            "read" => Ok(How::Read),
            "write" => Ok(How::Write),
            "both" => Ok(How::Both),
            _ => Err(()),
        }
    }

    fn seen(&mut self) -> Result<Seen, ()> {
        Ok(match self.word()? {
            "bytes" => Seen::Bytes(self.next()?),
            "end" => Seen::End,
            "failure" => Seen::Failure,
            "acknowledged" => Seen::Acknowledged,
            _ => return Err(()),
        })
    }

    fn option(&mut self) -> Result<SocketOption, ()> {
        SocketOption::from_number(self.next()?).ok_or(())
    }

    fn op(&mut self) -> Result<Op, ()> {
        let verb = self.word()?;
        if verb == "clear" {
            return Ok(Op::Clear);
        }
        // All others begin with a name.
        let name: String = self.next()?;
        Ok(match verb {
            "connect" => Op::Connect {
                name,
                to: self.next()?,
            },
            "connect-timeout" => Op::ConnectTimeout {
                name,
                to: self.next()?,
                millis: self.next()?,
            },
            "connect-name" => Op::ConnectName {
                name,
                host: self.next()?,
                port: self.next()?,
            },
            "bind" => Op::Bind {
                name,
                at: self.next()?,
            },
            "accept" => Op::Accept {
                name,
                listener: self.next()?,
            },
            "incoming" => Op::Incoming {
                name,
                listener: self.next()?,
            },
            "shutdown" => Op::Shutdown {
                name,
                how: self.how()?,
            },
            "close" => Op::Close { name },
            "abort" => Op::Abort { name },
            "clone" => Op::Clone {
                new: name,
                old: self.next()?,
            },
            "split" => Op::Split { name },
            "local" => Op::Local { name },
            "peer" => Op::Peer { name },
            "settle" => Op::Settle {
                name,
                seen: self.seen()?,
            },
            "start" => Op::Start {
                job: name,
                op: Box::new(self.op()?),
            },
            "waits" => Op::Waits { job: name },
            "done" => Op::Done { job: name },
            "finish" => Op::Finish { job: name },
            "cancel" => Op::Cancel { job: name },
            _ => return self.transfer(verb, name),
        })
    }

    /// An operation that moves bytes.
    fn transfer(&mut self, verb: &str, name: String) -> Result<Op, ()> {
        Ok(match verb {
            "read" => Op::Read {
                name,
                len: self.next()?,
            },
            "peek" => Op::Peek {
                name,
                len: self.next()?,
            },
            "read-exact" => Op::ReadExact {
                name,
                len: self.next()?,
            },
            "read-end" => Op::ReadEnd { name },
            "drain" => Op::Drain {
                name,
                data: self.next()?,
            },
            "write" => Op::Write {
                name,
                data: self.next()?,
            },
            "write-all" => Op::WriteAll {
                name,
                data: self.next()?,
            },
            "send" => Op::Send {
                name,
                data: self.next()?,
            },
            "recv" => Op::Recv {
                name,
                len: self.next()?,
            },
            "half-read" => Op::HalfRead {
                name,
                len: self.next()?,
            },
            "half-write" => Op::HalfWrite {
                name,
                data: self.next()?,
            },
            _ => return self.setting(verb, name),
        })
    }

    /// An operation on a stream's settings.
    fn setting(&mut self, verb: &str, name: String) -> Result<Op, ()> {
        Ok(match verb {
            "nonblocking" => Op::Nonblocking {
                name,
                on: self.flag()?,
            },
            "nodelay" => Op::NoDelay { name, set: None },
            "set-nodelay" => Op::NoDelay {
                name,
                set: Some(self.flag()?),
            },
            "ttl" => Op::Ttl { name, set: None },
            "set-ttl" => Op::Ttl {
                name,
                set: Some(self.next()?),
            },
            "keepalive" => Op::KeepAlive { name },
            "set-keepalive" => Op::SetKeepAlive {
                name,
                seconds: self.maybe()?,
            },
            "read-timeout" => Op::ReadTimeout { name },
            "set-read-timeout" => Op::SetReadTimeout {
                name,
                millis: self.maybe()?,
            },
            "write-timeout" => Op::WriteTimeout { name },
            "set-write-timeout" => Op::SetWriteTimeout {
                name,
                millis: self.maybe()?,
            },
            "take-error" => Op::TakeError { name },
            "option" => Op::GetOption {
                name,
                option: self.option()?,
            },
            "set-option" => Op::SetOption {
                name,
                option: self.option()?,
                value: self.next()?,
            },
            _ => return Err(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed() {
        let read = Op::Read {
            name: "s".into(),
            len: 5,
        };
        assert_eq!("read s 5".parse(), Ok(read.clone()));
        let op = Box::new(read);
        let job = "j".into();
        assert_eq!("start j read s 5".parse(), Ok(Op::Start { job, op }));
    }

    #[test]
    fn others_are_refused() {
        for line in ["", "read", "read s", "read s x", "read s 5 6", "hop s"] {
            assert_eq!(line.parse::<Op>(), Err(()), "{line:?}");
        }
    }
}
