//! Connections and listeners for tasks.

use super::event_loop::{Place, Way};
use crate::connection;
use crate::failure::Failure;
use mio::Interest;
use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Socket, Type};
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::task::{Context, Poll};

/// A connection.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    place: Place,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// What connect(2) says.
    pub async fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let socket = TcpStream::connect(address).map_err(Failure::of("connect"))?;
        let connection = Self::adopt(socket)?;
        // Writable means connected, or failed.
        poll_fn(
            |context| match connection.place.is_ready(Way::Out, context) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            },
        )
        .await;
        match connection.socket.take_error() {
            Ok(None) => Ok(connection),
            Ok(Some(error)) | Err(error) => Err(Failure::of("connect")(error)),
        }
    }

    fn adopt(mut socket: TcpStream) -> Result<Self, Failure> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let place = Place::register(&mut socket, interest)?;
        Ok(Self { socket, place })
    }

    /// Makes a call when it can do something. `wanted` is what it would move at
    /// most: one that moves less has come to the end of what there is.
    fn poll(
        &self,
        way: Way,
        wanted: usize,
        context: &Context<'_>,
        mut call: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        while self.place.is_ready(way, context) {
            match call(&self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.place.exhausted(way);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(count) => {
                    if count < wanted {
                        self.place.exhausted(way);
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Pending
    }
}

impl connection::Connection for Connection {
    async fn read(&self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let wanted = buffer.len();
        let read = poll_fn(|context| {
            self.poll(Way::In, wanted, context, |mut socket| socket.read(buffer))
        });
        read.await.map_err(Failure::of("read"))
    }

    async fn write(&self, bytes: &[u8]) -> Result<usize, Failure> {
        let wanted = bytes.len();
        let write = poll_fn(|context| {
            self.poll(Way::Out, wanted, context, |mut socket| socket.write(bytes))
        });
        write.await.map_err(Failure::of("write"))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.place.deregister(&mut self.socket);
    }
}

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// A listener at which many clients may arrive at once: std's queue is short, and who
/// does not fit in is a second late. Gives its address, too.
///
/// # Errors
///
/// What bind(2) and listen(2) say.
pub fn bind(address: SocketAddr) -> Result<(std::net::TcpListener, SocketAddr), Failure> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = std::net::TcpListener::from(socket);
        let address = socket.local_addr()?;
        Ok((socket, address))
    };
    let bound: io::Result<_> = bind();
    bound.map_err(Failure::of("listen"))
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    place: Place,
}

impl Listener {
    /// Takes a socket that listens already.
    ///
    /// # Errors
    ///
    /// What epoll_ctl(2) says.
    pub fn adopt(socket: std::net::TcpListener) -> Result<Self, Failure> {
        socket
            .set_nonblocking(true)
            .map_err(Failure::of("listen"))?;
        let mut socket = TcpListener::from_std(socket);
        let place = Place::register(&mut socket, Interest::READABLE)?;
        Ok(Self { socket, place })
    }

    /// The next connection, when there is one.
    pub fn poll_accept(&self, context: &Context<'_>) -> Poll<Result<Connection, Failure>> {
        while self.place.is_ready(Way::In, context) {
            match self.socket.accept() {
                Ok((socket, _)) => return Poll::Ready(Connection::adopt(socket)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.place.exhausted(Way::In);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(Failure::of("accept")(error))),
            }
        }
        Poll::Pending
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.place.deregister(&mut self.socket);
    }
}
