//! A connection that is relayed: two sockets, and what is between them.

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use socket2::{Domain, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::ControlFlow;

/// One of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client.
    Near,
    /// Where it is forwarded to.
    Far,
}

/// Both ends.
pub struct Connection {
    near: Half,
    far: Half,
    /// The far end's connect has yet to succeed.
    connecting: bool,
}

/// A socket, and the way of the bytes that are read from it.
struct Half {
    socket: TcpStream,
    token: u64,
    watched: EpollFlags,
    /// What was read here and the other end had no room for.
    left: Vec<u8>,
    reading: Reading,
}

/// How far reading from a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// There may be more.
    Open,
    /// The peer has sent its last; the other end has yet to be told.
    Ended,
    /// The other end was told.
    Told,
}

/// What the two are watched for until the far end is connected.
const CONNECTING: [EpollFlags; 2] = [EpollFlags::empty(), EpollFlags::EPOLLOUT];
/// What a socket says that has no bytes, or no room.
const BLOCKED: ErrorKind = ErrorKind::WouldBlock;

impl Connection {
    /// Begins to connect to `to` for a client.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn start(
        epoll: &Epoll,
        near: TcpStream,
        to: SocketAddr,
        tokens: [u64; 2],
    ) -> io::Result<Self> {
        let far = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), None)?;
        near.set_nonblocking(true)?;
        near.set_nodelay(true)?;
        far.set_tcp_nodelay(true)?;
        let connecting = match far.connect(&to.into()) {
            Ok(()) => false,
            Err(error) if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => true,
            Err(error) => return Err(error),
        };
        let [near_watched, far_watched] = match connecting {
            true => CONNECTING,
            false => [EpollFlags::EPOLLIN; 2],
        };
        let half = |socket, token, watched| Half {
            socket,
            token,
            watched,
            left: Vec::new(),
            reading: Reading::Open,
        };
        let connection = Self {
            near: half(near, tokens[0], near_watched),
            far: half(far.into(), tokens[1], far_watched),
            connecting,
        };
        for end in [&connection.near, &connection.far] {
            epoll.add(&end.socket, EpollEvent::new(end.watched, end.token))?;
        }
        Ok(connection)
    }

    /// Does what one end is ready for. A break is its end: all was said, or nothing
    /// more can be.
    pub fn turn(
        &mut self,
        epoll: &Epoll,
        end: End,
        ready: EpollFlags,
        buffer: &mut [u8],
    ) -> ControlFlow<()> {
        match self.try_turn(epoll, end, ready, buffer) {
            Ok(()) if self.is_over() => ControlFlow::Break(()),
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn is_over(&self) -> bool {
        self.near.reading == Reading::Told && self.far.reading == Reading::Told
    }

    fn try_turn(
        &mut self,
        epoll: &Epoll,
        end: End,
        ready: EpollFlags,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        if self.connecting {
            if let Some(error) = self.far.socket.take_error()? {
                return Err(error);
            }
            self.connecting = end != End::Far || !ready.contains(EpollFlags::EPOLLOUT);
        }
        if ready.contains(EpollFlags::EPOLLERR) {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if !self.connecting {
            let (this, other) = match end {
                End::Near => (&mut self.near, &mut self.far),
                End::Far => (&mut self.far, &mut self.near),
            };
            if ready.contains(EpollFlags::EPOLLOUT) {
                other.deliver(this)?;
            }
            if ready.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP) {
                this.carry(other, buffer)?;
            }
        }
        self.watch(epoll)
    }

    /// Tells epoll what is waited for now, where that has changed.
    fn watch(&mut self, epoll: &Epoll) -> io::Result<()> {
        let wanted = |this: &Half, other: &Half| {
            let mut wanted = EpollFlags::empty();
            let reads = this.reading == Reading::Open && this.left.is_empty();
            wanted.set(EpollFlags::EPOLLIN, reads);
            wanted.set(EpollFlags::EPOLLOUT, !other.left.is_empty());
            wanted
        };
        let [near, far] = match self.connecting {
            true => CONNECTING,
            false => [wanted(&self.near, &self.far), wanted(&self.far, &self.near)],
        };
        for (end, wanted) in [(&mut self.near, near), (&mut self.far, far)] {
            if end.watched != wanted {
                end.watched = wanted;
                epoll.modify(&end.socket, &mut EpollEvent::new(wanted, end.token))?;
            }
        }
        Ok(())
    }
}

impl Half {
    /// Reads once and writes that to the other end; what that has no room for stays
    /// in `left`.
    fn carry(&mut self, other: &mut Self, buffer: &mut [u8]) -> io::Result<()> {
        if self.reading != Reading::Open || !self.left.is_empty() {
            return Ok(());
        }
        match self.socket.read(buffer) {
            Ok(0) => self.reading = Reading::Ended,
            Ok(len) => {
                let written = other.put(&buffer[..len])?;
                self.left.extend_from_slice(&buffer[written..len]);
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        self.tell(other)
    }

    /// Writes what is left to the other end.
    fn deliver(&mut self, other: &mut Self) -> io::Result<()> {
        let written = other.put(&self.left)?;
        self.left.drain(..written);
        self.tell(other)
    }

    /// Ends the other end's stream when this one's has, and all of it was written.
    fn tell(&mut self, other: &mut Self) -> io::Result<()> {
        if self.reading == Reading::Ended && self.left.is_empty() {
            other.socket.shutdown(Shutdown::Write)?;
            self.reading = Reading::Told;
        }
        Ok(())
    }

    /// Writes what there is room for.
    fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.socket.write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == BLOCKED => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }
}

/// Whether the call may simply be made again later.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), BLOCKED | ErrorKind::Interrupted)
}
