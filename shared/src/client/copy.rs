//! Copying from one stream to another.
//!
//! The bytes go from one ring to the other: what lends them out needs no buffer in
//! between.

use super::halves::{ReadHalf, WriteHalf};
use super::handle::{BorrowedHandle, Handle};
use super::stream_core::{Shutdown, StreamCore};
use super::{ArcaTcpStream, AsyncTcpStream};
use crate::error::Error;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;

/// Copies what comes from `from` to `to`, up to its end, and flushes `to`. Gives the
/// number of bytes.
///
/// # Errors
///
/// That of either; what was written before it stays written.
pub fn copy<R, W>(from: &mut R, to: &mut W) -> Result<u64, R::Error>
where
    R: embedded_io::BufRead + ?Sized,
    W: embedded_io::Write<Error = R::Error> + ?Sized,
{
    let mut copied = 0;
    loop {
        let bytes = from.fill_buf()?;
        if bytes.is_empty() {
            to.flush()?;
            return Ok(copied);
        }
        let len = to.write(bytes)?;
        from.consume(len);
        copied += len as u64;
    }
}

/// [`copy`] for a task.
///
/// # Errors
///
/// As [`copy`].
pub async fn copy_async<R, W>(from: &mut R, to: &mut W) -> Result<u64, R::Error>
where
    R: embedded_io_async::BufRead + ?Sized,
    W: embedded_io_async::Write<Error = R::Error> + ?Sized,
{
    let mut copied = 0;
    loop {
        let bytes = from.fill_buf().await?;
        if bytes.is_empty() {
            to.flush().await?;
            return Ok(copied);
        }
        let len = to.write(bytes).await?;
        from.consume(len);
        copied += len as u64;
    }
}

/// Copies both ways between two connections until both have ended, and hands each end
/// on: where one stream ends, the other is shut down for sending. Gives the bytes from
/// `a` to `b`, and from `b` to `a`. The streams' time limits do not count.
///
/// # Errors
///
/// The first that either has; the streams are then as they are.
pub fn copy_bidirectional(
    a: &mut ArcaTcpStream,
    b: &mut ArcaTcpStream,
) -> Result<(u64, u64), Error> {
    let reactor = a.core.reactor().clone();
    reactor.block_on(both_ways(&mut a.core, &mut b.core))
}

/// [`copy_bidirectional`] for a task.
///
/// # Errors
///
/// As [`copy_bidirectional`].
pub async fn copy_bidirectional_async(
    a: &mut AsyncTcpStream,
    b: &mut AsyncTcpStream,
) -> Result<(u64, u64), Error> {
    both_ways(&mut a.core, &mut b.core).await
}

async fn one_way(from: BorrowedHandle<'_>, to: &StreamCore) -> Result<u64, Error> {
    let copied = copy_async(&mut ReadHalf::new(from), &mut WriteHalf::new(to)).await?;
    to.shutdown(Shutdown::Write)?;
    Ok(copied)
}

async fn both_ways(a: &mut Handle, b: &mut Handle) -> Result<(u64, u64), Error> {
    let ((from_a, to_a), (from_b, to_b)) = (a.split(), b.split());
    let (mut there, mut back) = (pin!(one_way(from_a, to_b)), pin!(one_way(from_b, to_a)));
    let (mut sent, mut received) = (None, None);
    poll_fn(|context| {
        if sent.is_none()
            && let Poll::Ready(result) = there.as_mut().poll(context)
        {
            sent = Some(result?);
        }
        if received.is_none()
            && let Poll::Ready(result) = back.as_mut().poll(context)
        {
            received = Some(result?);
        }
        match (sent, received) {
            (Some(sent), Some(received)) => Poll::Ready(Ok((sent, received))),
            _ => Poll::Pending,
        }
    })
    .await
}
