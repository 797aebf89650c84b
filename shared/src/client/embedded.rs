//! The interfaces of embedded-io and embedded-io-async on streams and their halves.
//!
//! A flush does nothing, as that of `std::net::TcpStream`: what was written is on its
//! way.

use super::{ArcaTcpStream, AsyncTcpStream, OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use crate::errno::{Errno, ErrorKind};
use crate::error::Error;
use embedded_io::{ErrorKind as Kind, ErrorType, ReadReady, WriteReady};

impl From<ErrorKind> for Kind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::ConnectionRefused => Self::ConnectionRefused,
            ErrorKind::ConnectionReset => Self::ConnectionReset,
            ErrorKind::ConnectionAborted | ErrorKind::SessionEnded => Self::ConnectionAborted,
            ErrorKind::NotConnected => Self::NotConnected,
            ErrorKind::AddrInUse => Self::AddrInUse,
            ErrorKind::AddrNotAvailable => Self::AddrNotAvailable,
            ErrorKind::BrokenPipe => Self::BrokenPipe,
            ErrorKind::InvalidInput => Self::InvalidInput,
            ErrorKind::InvalidData => Self::InvalidData,
            // There is no kind for what would have to wait: here, no time was allowed.
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::TimedOut,
            ErrorKind::PermissionDenied => Self::PermissionDenied,
            ErrorKind::Unsupported => Self::Unsupported,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::OutOfMemory => Self::OutOfMemory,
            ErrorKind::Cancelled => Self::Interrupted,
            ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
            | ErrorKind::UnexpectedEof
            | ErrorKind::Other => Self::Other,
        }
    }
}

impl embedded_io::Error for Error {
    fn kind(&self) -> Kind {
        self.kind().into()
    }
}

impl embedded_io::Error for Errno {
    fn kind(&self) -> Kind {
        Errno::kind(self).into()
    }
}

macro_rules! ready_to_read {
    ($($type:ty),+) => {
        $(impl ReadReady for $type {
            fn read_ready(&mut self) -> Result<bool, Error> {
                Ok(self.core.end.is_readable())
            }
        })+
    };
}

macro_rules! ready_to_write {
    ($($type:ty),+) => {
        $(impl WriteReady for $type {
            fn write_ready(&mut self) -> Result<bool, Error> {
                Ok(self.core.end.is_writable())
            }
        })+
    };
}

macro_rules! errors {
    ($($type:ty),+) => {
        $(impl ErrorType for $type {
            type Error = Error;
        })+
    };
}

errors!(
    ArcaTcpStream,
    &ArcaTcpStream,
    AsyncTcpStream,
    &AsyncTcpStream
);
errors!(OwnedReadHalf, OwnedWriteHalf, ReadHalf<'_>, WriteHalf<'_>);
ready_to_read!(
    ArcaTcpStream,
    &ArcaTcpStream,
    AsyncTcpStream,
    &AsyncTcpStream
);
ready_to_read!(OwnedReadHalf, ReadHalf<'_>);
ready_to_write!(
    ArcaTcpStream,
    &ArcaTcpStream,
    AsyncTcpStream,
    &AsyncTcpStream
);
ready_to_write!(OwnedWriteHalf, WriteHalf<'_>);

macro_rules! blocking {
    ($($type:ty),+) => {
        $(impl embedded_io::Read for $type {
            fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
                ArcaTcpStream::read(self, buffer)
            }
        }

        impl embedded_io::Write for $type {
            fn write(&mut self, buffer: &[u8]) -> Result<usize, Error> {
                ArcaTcpStream::write(self, buffer)
            }

            fn flush(&mut self) -> Result<(), Error> {
                Ok(())
            }
        })+
    };
}

blocking!(ArcaTcpStream, &ArcaTcpStream);

impl embedded_io::BufRead for ArcaTcpStream {
    fn fill_buf(&mut self) -> Result<&[u8], Error> {
        ArcaTcpStream::fill_buf(self)
    }

    fn consume(&mut self, len: usize) {
        ArcaTcpStream::consume(self, len);
    }
}

macro_rules! reads {
    ($($type:ty: $name:ident),+) => {
        $(impl embedded_io_async::Read for $type {
            async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
                $name::read(self, buffer).await
            }
        })+
    };
}

macro_rules! writes {
    ($($type:ty: $name:ident),+) => {
        $(impl embedded_io_async::Write for $type {
            async fn write(&mut self, buffer: &[u8]) -> Result<usize, Error> {
                $name::write(self, buffer).await
            }

            async fn flush(&mut self) -> Result<(), Error> {
                Ok(())
            }
        })+
    };
}

macro_rules! lends {
    ($($type:ty: $name:ident),+) => {
        $(impl embedded_io_async::BufRead for $type {
            async fn fill_buf(&mut self) -> Result<&[u8], Error> {
                $name::fill_buf(self).await
            }

            fn consume(&mut self, len: usize) {
                $name::consume(self, len);
            }
        })+
    };
}

reads!(AsyncTcpStream: AsyncTcpStream, &AsyncTcpStream: AsyncTcpStream);
reads!(OwnedReadHalf: OwnedReadHalf, ReadHalf<'_>: ReadHalf);
writes!(AsyncTcpStream: AsyncTcpStream, &AsyncTcpStream: AsyncTcpStream);
writes!(OwnedWriteHalf: OwnedWriteHalf, WriteHalf<'_>: WriteHalf);
lends!(AsyncTcpStream: AsyncTcpStream, OwnedReadHalf: OwnedReadHalf, ReadHalf<'_>: ReadHalf);
