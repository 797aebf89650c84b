//! A connection as picoserve wants it.

use crate::connection::Connection;
use crate::failure::Failure;
use alloc::vec::Vec;
use core::future;
use picoserve::Timeouts;
use picoserve::io::{BaseWrite, ErrorType, Read, Write};
use picoserve::mem::{BorrowedBuffer, BorrowedCursor};
use picoserve::time::Duration;

/// What is written in smaller pieces is put together, up to so many bytes: a head is one
/// write.
const TOGETHER: usize = 2 << 10;

/// What picoserve calls the runtime that its sockets and its clock are of.
pub struct Bench;

/// A clock that never comes to an end: a sample has a limit of its own, and timers are
/// not what is compared.
pub struct NoTimer;

impl picoserve::Timer<Bench> for NoTimer {
    async fn delay(&self, _: Duration) {
        future::pending().await
    }
}

/// The connection.
pub struct Socket<C>(pub C);

/// What is read from it.
pub struct ReadHalf<'a, C>(&'a C);

/// What is written to it.
pub struct WriteHalf<'a, C> {
    connection: &'a C,
    pieces: Vec<u8>,
}

impl<C: Connection> picoserve::io::Socket<Bench> for Socket<C> {
    type Error = Failure;
    type ReadHalf<'a> = ReadHalf<'a, C>;
    type WriteHalf<'a> = WriteHalf<'a, C>;

    fn split(&mut self) -> (ReadHalf<'_, C>, WriteHalf<'_, C>) {
        let connection = &self.0;
        let pieces = Vec::with_capacity(TOGETHER);
        (ReadHalf(connection), WriteHalf { connection, pieces })
    }

    /// By closing it.
    async fn abort<T: picoserve::Timer<Bench>>(
        self,
        _: &Timeouts,
        _: &T,
    ) -> Result<(), picoserve::Error<Failure>> {
        Ok(())
    }

    /// By closing it: the clients leave nothing unread.
    async fn shutdown<T: picoserve::Timer<Bench>>(
        self,
        _: &Timeouts,
        _: &T,
    ) -> Result<(), picoserve::Error<Failure>> {
        Ok(())
    }
}

impl<C> ErrorType for ReadHalf<'_, C> {
    type Error = Failure;
}

impl<C: Connection> Read for ReadHalf<'_, C> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        self.0.read(buffer).await
    }
}

impl<C> ErrorType for WriteHalf<'_, C> {
    type Error = Failure;
}

impl<C: Connection> BaseWrite for WriteHalf<'_, C> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        if self.pieces.len() + bytes.len() > TOGETHER {
            self.flush().await?;
        }
        if bytes.len() > TOGETHER {
            return self.connection.write(bytes).await;
        }
        self.pieces.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        self.connection.write_all(&self.pieces).await?;
        self.pieces.clear();
        Ok(())
    }
}

impl<C: Connection> Write for WriteHalf<'_, C> {
    async fn write_with<F: FnOnce(BorrowedCursor<'_>) -> R, R>(
        &mut self,
        generate: F,
    ) -> Result<R, Failure> {
        if self.pieces.len() == TOGETHER {
            self.flush().await?;
        }
        let len = self.pieces.len();
        self.pieces.resize(TOGETHER, 0);
        let mut room = BorrowedBuffer::new(&mut self.pieces[len..]);
        let generated = generate(room.unfilled());
        let added = room.len();
        self.pieces.truncate(len + added);
        Ok(generated)
    }
}
