//! `echo-server PORT [ADDRESS]`: gives every client back what it sends, until the
//! client has sent its last byte, then ends the connection. Runs for ever.
//!
//! Each connection is a task; with more than one vCPU they are spread over them.
//! A client that sends all before it reads anything is served too: what it does
//! not take yet is kept, within a share of the heap that all connections have in
//! common. Connections that the heap has no room for wait until others have gone:
//! the host's kernel queues them. ADDRESS is 127.0.0.1 unless given.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use arca_guest::net::{
    self, AsyncTcpStream, Errno, Error, ErrorKind, IpAddr, Ipv4Addr, Shutdown, SocketAddr,
};
use arca_guest::process::{ExitCode, exit};
use arca_guest::sync::Signal;
use arca_guest::time::Duration;
use arca_guest::{args, block_on, boot, eprintln, log, sleep, spawn};
use core::convert::Infallible;
use core::future::poll_fn;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Context, Poll};

arca_guest::entry!(main);

/// Bytes moved at a time.
const PIECE: usize = 64 << 10;
/// Bytes moved at a time where what is kept may not grow further: as much as every
/// connection may keep.
const SMALL_PIECE: usize = 1 << 10;
/// Pieces that a connection moves before the others have their turn.
const PIECES_PER_TURN: usize = 16;
/// How long to wait before accepting again when the host has no room.
const PAUSE: Duration = Duration::from_millis(10);

/// Bytes of the heap for each connection: its task and stream, and a small piece.
const CONNECTION: usize = 8 << 10;
/// Bytes of the heap that a kept piece takes besides its own, at most.
const OVERHEAD: usize = 128;

/// Bytes of the heap that all connections may take, kept pieces not counted.
fn heap_for_connections() -> usize {
    boot::info().heap_len as usize / 4
}

/// Bytes of the heap for pieces that are kept.
fn heap_for_pieces() -> usize {
    boot::info().heap_len as usize / 2
}

/// Connections that are open.
static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
/// Signalled when one has gone.
static GONE: Signal<()> = Signal::new();
/// Bytes that kept pieces take, over all connections.
static KEPT: AtomicUsize = AtomicUsize::new(0);
/// Buffers of [`PIECE`] bytes that no vCPU uses at the moment: as many as vCPUs
/// have used one at once, not one for each connection.
static BUFFERS: spin::Mutex<Vec<Box<[u8]>>> = spin::Mutex::new(Vec::new());

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
            let place = Place::take().await;
            match listener.accept_async().await {
                Ok((stream, peer)) => spawn(serve(stream.into_async(), peer, place)).detach(),
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

/// Room in the heap for a connection.
struct Place;

impl Place {
    /// Waits until there is room.
    async fn take() -> Place {
        let most = (heap_for_connections() / CONNECTION).max(1);
        // Relaxed: a count that orders nothing. Only this task adds to it.
        while CONNECTIONS.load(Ordering::Relaxed) >= most {
            GONE.wait().await;
        }
        CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        Place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Before the signal, whose lock makes it seen by who waits for that.
        CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
        GONE.signal(());
    }
}

async fn serve(stream: AsyncTcpStream, peer: SocketAddr, _place: Place) {
    log::debug!("{peer} connected");
    let mut echo = Echo::new(&stream);
    let served = poll_fn(|context| {
        let buffer = BUFFERS.lock().pop();
        let mut buffer = buffer.unwrap_or_else(|| vec![0; PIECE].into());
        let result = echo.poll(context, &mut buffer);
        BUFFERS.lock().push(buffer);
        result
    });
    match served.await {
        Ok(count) => log::debug!("{peer} is done after {count} bytes"),
        Err(error) => log::warn!("{peer}: {error}"),
    }
}

/// One connection's echo.
struct Echo<'a> {
    stream: &'a AsyncTcpStream,
    /// What was received and not yet sent, in order.
    kept: VecDeque<Vec<u8>>,
    /// Bytes of the first of `kept` that were sent.
    sent: usize,
    /// Bytes echoed.
    total: u64,
    /// Whether the client has sent its last byte.
    at_end: bool,
}

impl<'a> Echo<'a> {
    fn new(stream: &'a AsyncTcpStream) -> Echo<'a> {
        Echo {
            stream,
            kept: VecDeque::new(),
            sent: 0,
            total: 0,
            at_end: false,
        }
    }

    /// Moves what can be moved, through the buffer; ready when all was, with the
    /// number of bytes.
    fn poll(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Result<u64, Error>> {
        for _ in 0..PIECES_PER_TURN {
            let sent = self.send_kept(context)?;
            if self.at_end && self.kept.is_empty() {
                self.stream.shutdown(Shutdown::Write)?;
                return Poll::Ready(Ok(self.total));
            }
            let received = self.receive(context, buffer)?;
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
                KEPT.fetch_sub(piece.len() + OVERHEAD, Ordering::Relaxed);
                self.kept.pop_front();
                self.sent = 0;
            }
        }
        Ok(any)
    }

    /// Receives a piece and sends of it what goes at once; says whether there
    /// was one.
    fn receive(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Result<bool, Error> {
        if self.at_end {
            return Ok(false);
        }
        // Relaxed: a sum that orders nothing. It goes over what all may keep by a
        // piece for each vCPU at most, and by a small one for each connection.
        let full = KEPT.load(Ordering::Relaxed) >= heap_for_pieces();
        // With something kept, there is room to wait for; without, the piece may
        // go right through.
        let most = match full {
            false => PIECE,
            true if self.kept.is_empty() => SMALL_PIECE,
            true => return Ok(false),
        };
        let end = self.stream.end();
        let Poll::Ready(count) = end.poll_read(context, &mut buffer[..most]) else {
            return Ok(false);
        };
        let count = count?;
        self.at_end = count == 0;
        self.total += count as u64;
        let mut rest = &buffer[..count];
        while self.kept.is_empty() && !rest.is_empty() {
            match end.poll_write(context, rest) {
                Poll::Ready(sent) => rest = &rest[sent?..],
                Poll::Pending => break,
            }
        }
        if !rest.is_empty() {
            self.keep(rest)?;
        }
        Ok(true)
    }

    /// Keeps a piece. Without the memory for it this connection fails, and no
    /// other.
    fn keep(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut piece = Vec::new();
        let reserved = piece.try_reserve_exact(bytes.len());
        let reserved = reserved.and_then(|()| self.kept.try_reserve(1));
        reserved.map_err(|_| Errno::ENOMEM)?;
        piece.extend_from_slice(bytes);
        KEPT.fetch_add(bytes.len() + OVERHEAD, Ordering::Relaxed);
        self.kept.push_back(piece);
        Ok(())
    }
}

impl Drop for Echo<'_> {
    fn drop(&mut self) {
        let kept = self.kept.iter().map(|piece| piece.len() + OVERHEAD).sum();
        KEPT.fetch_sub(kept, Ordering::Relaxed);
    }
}
