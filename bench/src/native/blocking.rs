//! Streams and listeners for blocking calls.

use crate::connection;
use crate::failure::Failure;
use embedded_io::ErrorType;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// A connection.
#[derive(Debug)]
pub struct Stream(TcpStream);

impl Stream {
    /// Connects.
    ///
    /// # Errors
    ///
    /// What connect(2) says.
    pub fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).map_err(Failure::of("connect"))?;
        Ok(Self(stream))
    }

    /// Another handle to the same connection.
    ///
    /// # Errors
    ///
    /// What dup(2) says.
    pub fn try_clone(&self) -> Result<Self, Failure> {
        self.0.try_clone().map(Self).map_err(Failure::of("dup"))
    }
}

impl ErrorType for Stream {
    type Error = io::Error;
}

impl embedded_io::Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| self.0.read(buffer))
    }
}

impl embedded_io::Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        uninterrupted(|| self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a call until no signal interrupts it.
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Listens.
    ///
    /// # Errors
    ///
    /// What bind(2) and listen(2) say.
    pub fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let socket = TcpListener::bind(address).map_err(Failure::of("listen"))?;
        let address = socket.local_addr().map_err(Failure::of("listen"))?;
        Ok(Self { socket, address })
    }
}

impl connection::Listener for Listener {
    type Stream = Stream;

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> Result<Stream, Failure> {
        loop {
            match self.socket.accept() {
                Ok((stream, _)) => return Ok(Stream(stream)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::of("accept")(error)),
            }
        }
    }
}
