//! `echo-server PORT [ADDRESS]`: gives every client back what it sends, until the
//! client has sent its last byte, then ends the connection. Runs for ever.
//!
//! Each connection is a task; with more than one vCPU they are spread over them.
//! A client that sends all before it reads anything is served too: what it does
//! not take yet is kept, within a share of the heap that all connections have in
//! common. ADDRESS is 127.0.0.1 unless given.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use arca_guest::net::{
    self, AsyncStream, Error, ErrorKind, IpAddr, Ipv4Addr, Shutdown, SocketAddr,
};
use arca_guest::process::{ExitCode, exit};
use arca_guest::time::Duration;
use arca_guest::{args, block_on, boot, eprintln, log, sleep, spawn};
use core::convert::Infallible;
use core::future::poll_fn;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Context, Poll};

arca_guest::entry!(main);

/// Bytes moved at a time.
const PIECE: usize = 64 << 10;
/// Pieces that a connection moves before the others have their turn.
const PIECES_PER_TURN: usize = 16;
/// How long to wait before accepting again when the host has no room.
const PAUSE: Duration = Duration::from_millis(10);

/// Bytes kept for clients that do not read yet, over all connections.
static KEPT: AtomicUsize = AtomicUsize::new(0);

fn main() -> Result<Infallible, String> {
    let mut args = args().skip(1);
    let port = args.next().and_then(|port| port.parse::<u16>().ok());
    let address = match args.next() {
        Some(address) => address.parse::<IpAddr>().ok(),
        None => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    };
    let (Some(port), Some(address), None) = (port, address, args.next()) else {
        eprintln!("usage: echo-server PORT [ADDRESS]");
        exit(ExitCode(2));
    };
    let place = SocketAddr::new(address, port);
    let listener = net::bind(place).map_err(|error| format!("listen on {place}: {error}"))?;
    // Where port 0 was asked for, the port that was given.
    log::info!("listening on {}", listener.local_addr());
    block_on(async {
        loop {
            match listener.accept_async().await {
                Ok((stream, peer)) => spawn(serve(stream.into_async(), peer)).detach(),
                Err(error) => match error.kind() {
                    // The client is gone already, or others have to go first.
                    ErrorKind::ConnectionAborted | ErrorKind::OutOfMemory => {
                        log::warn!("accept: {error}");
                        sleep(PAUSE).await;
                    }
                    _ => return Err(format!("accept: {error}")),
                },
            }
        }
    })
}

async fn serve(stream: AsyncStream, peer: SocketAddr) {
    log::debug!("{peer} connected");
    let mut echo = Echo::new(&stream);
    match poll_fn(|context| echo.poll(context)).await {
        Ok(count) => log::debug!("{peer} is done after {count} bytes"),
        Err(error) => log::warn!("{peer}: {error}"),
    }
}

/// One connection's echo.
struct Echo<'a> {
    stream: &'a AsyncStream,
    buffer: Box<[u8]>,
    /// What was received and not yet sent, in order.
    kept: VecDeque<Box<[u8]>>,
    /// Bytes of the first of `kept` that were sent.
    sent: usize,
    /// Bytes echoed.
    total: u64,
    /// Whether the client has sent its last byte.
    at_end: bool,
}

impl<'a> Echo<'a> {
    fn new(stream: &'a AsyncStream) -> Echo<'a> {
        Echo {
            stream,
            buffer: alloc::vec![0; PIECE].into(),
            kept: VecDeque::new(),
            sent: 0,
            total: 0,
            at_end: false,
        }
    }

    /// Moves what can be moved; ready when all was, with the number of bytes.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<u64, Error>> {
        for _ in 0..PIECES_PER_TURN {
            let sent = self.send_kept(context)?;
            if self.at_end && self.kept.is_empty() {
                self.stream.shutdown(Shutdown::Write)?;
                return Poll::Ready(Ok(self.total));
            }
            let received = self.receive(context)?;
            if !sent && !received {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends of what is kept; says whether anything went.
    fn send_kept(&mut self, context: &mut Context<'_>) -> Result<bool, Error> {
        let mut any = false;
        while let Some(piece) = self.kept.front() {
            let Poll::Ready(count) = self.stream.end().poll_write(context, &piece[self.sent..])
            else {
                break;
            };
            any = true;
            self.sent += count?;
            if self.sent == piece.len() {
                // Relaxed: a sum that orders nothing.
                KEPT.fetch_sub(piece.len(), Ordering::Relaxed);
                self.kept.pop_front();
                self.sent = 0;
            }
        }
        Ok(any)
    }

    /// Receives a piece and sends of it what goes at once; says whether there
    /// was one.
    fn receive(&mut self, context: &mut Context<'_>) -> Result<bool, Error> {
        let full = KEPT.load(Ordering::Relaxed) > boot::info().heap_len as usize / 4 * 3;
        // With something kept, there is room to wait for; without, the piece may
        // go right through.
        if self.at_end || full && !self.kept.is_empty() {
            return Ok(false);
        }
        let end = self.stream.end();
        let Poll::Ready(count) = end.poll_read(context, &mut self.buffer) else {
            return Ok(false);
        };
        let count = count?;
        self.at_end = count == 0;
        self.total += count as u64;
        let mut rest = &self.buffer[..count];
        while self.kept.is_empty() && !rest.is_empty() {
            match end.poll_write(context, rest) {
                Poll::Ready(sent) => rest = &rest[sent?..],
                Poll::Pending => break,
            }
        }
        if !rest.is_empty() {
            KEPT.fetch_add(rest.len(), Ordering::Relaxed);
            self.kept.push_back(rest.into());
        }
        Ok(true)
    }
}

impl Drop for Echo<'_> {
    fn drop(&mut self) {
        let kept = self.kept.iter().map(|piece| piece.len()).sum();
        KEPT.fetch_sub(kept, Ordering::Relaxed);
    }
}
