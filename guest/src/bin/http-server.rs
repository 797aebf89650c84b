//! `http-server PORT [ADDRESS]`: an HTTP server on picoserve, at 127.0.0.1 unless an
//! ADDRESS is given. Runs until it is told to end.
//!
//! | request | what it is answered with |
//! |---|---|
//! | `GET /` | a greeting |
//! | `GET /bytes/N` | N bytes, which never are in memory at once |
//! | `POST /echo` | what was posted, up to 1 MiB |
//!
//! Connections are kept for further requests. A request whose head is larger than 8 KiB
//! is refused.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use arca_guest::net::{
    AsyncTcpStream, Error, IpAddr, Ipv4Addr, ReadHalf, Shutdown, SocketAddr, TcpListener, WriteHalf,
};
use arca_guest::process::{ExitCode, exit};
use arca_guest::select::{Either, select};
use arca_guest::{args, block_on, eprintln, log, signal, sleep, spawn_local, time};
use core::convert::Infallible;
use picoserve::extract::FromRequest;
use picoserve::io::{BaseWrite, ErrorType, Read, Write};
use picoserve::mem::{BorrowedBuffer, BorrowedCursor};
use picoserve::request::Request;
use picoserve::response::{Content, IntoResponse, ResponseWriter, StatusCode};
use picoserve::routing::{
    PathRouter, RequestHandlerService, get, parse_path_segment, post_service,
};
use picoserve::time::Duration;
use picoserve::{Config, ResponseSent, Router, Server, Timeouts};

arca_guest::entry!(main);

/// Largest head of a request, in bytes.
const HEAD: usize = 8 << 10;
/// Largest body that is echoed, in bytes.
const ECHO: usize = 1 << 20;
/// What is written in smaller pieces is put together, up to so many bytes.
const TOGETHER: usize = 2 << 10;
/// How long to wait before accepting again when the host has no room.
const PAUSE: time::Duration = time::Duration::from_millis(10);

const CONFIG: Config = Config::new(Timeouts {
    start_read_request: Duration::from_secs(60),
    persistent_start_read_request: Duration::from_secs(60),
    read_request: Duration::from_secs(60),
    write: Duration::from_secs(60),
})
.keep_connection_alive();

fn main() -> Result<(), String> {
    let mut args = args().skip(1);
    let port = args.next().and_then(|port| port.parse().ok());
    let address = match args.next() {
        Some(address) => address.parse::<IpAddr>().ok(),
        None => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    };
    let (Some(port), Some(address), None) = (port, address, args.next()) else {
        eprintln!("usage: http-server PORT [ADDRESS]");
        exit(ExitCode(2));
    };
    let place = SocketAddr::new(address, port);
    let listener = TcpListener::bind(place);
    let listener = listener.map_err(|error| format!("listen on {place}: {error}"))?;
    // An answer is written as head and body; the second is not to wait until the peer
    // acknowledges the first. Connections have it from their listener.
    let set = listener.set_nodelay(true);
    set.map_err(|error| format!("TCP_NODELAY: {error}"))?;
    log::info!("listening on {}", listener.local_addr());
    let served = block_on(select(serve(&listener), signal::shutdown()));
    let Either::Second(told) = served;
    told.map(|_| ())
        .map_err(|error| format!("signals: {error}"))
}

/// Answers everybody.
async fn serve(listener: &TcpListener) -> Infallible {
    // For as long as there are tasks, which nobody waits for.
    let router: &'static _ = Box::leak(Box::new(
        Router::new()
            .route("/", get(async || "hello from Arca\n"))
            .route(
                ("/bytes", parse_path_segment::<usize>()),
                get(async |len: usize| Bytes(len)),
            )
            .route("/echo", post_service(Echo)),
    ));
    loop {
        match listener.accept_async().await {
            // picoserve's futures are not to be sent between vCPUs.
            Ok((stream, peer)) => spawn_local(async move {
                if let Err(error) = answer(stream.into_async(), router).await {
                    log::debug!("{peer}: {error:?}");
                }
            })
            .detach(),
            Err(error) => {
                log::warn!("accept: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Answers the requests of a connection.
async fn answer(
    stream: AsyncTcpStream,
    router: &Router<impl PathRouter>,
) -> Result<(), picoserve::Error<Error>> {
    let mut head = alloc::vec![0; HEAD];
    let server = Server::custom(router, Clock, &CONFIG, &mut head);
    server.serve(Socket(stream)).await.map(drop)
}

/// So many bytes, which count from 0 to 250 over and over.
struct Bytes(usize);

impl Content for Bytes {
    fn content_type(&self) -> &'static str {
        "application/octet-stream"
    }

    fn content_length(&self) -> usize {
        self.0
    }

    async fn write_content<W: Write>(self, mut writer: W) -> Result<(), W::Error> {
        /// A whole number of rounds.
        static PIECE: [u8; 251 << 8] = {
            let mut piece = [0; 251 << 8];
            let mut at = 0;
            while at < piece.len() {
                piece[at] = (at % 251) as u8;
                at += 1;
            }
            piece
        };
        let mut left = self.0;
        while left > 0 {
            let len = left.min(PIECE.len());
            writer.write_all(&PIECE[..len]).await?;
            left -= len;
        }
        Ok(())
    }
}

/// Answers with what was posted.
struct Echo;

impl RequestHandlerService for Echo {
    async fn call_request_handler_service<R: Read, W: ResponseWriter<Error = R::Error>>(
        &self,
        (): &(),
        (): (),
        mut request: Request<'_, R>,
        response: W,
    ) -> Result<ResponseSent, W::Error> {
        let body = request.body_connection.body();
        let posted = match body.content_length() {
            ..=ECHO => Vec::from_request(&(), request.parts, body).await.ok(),
            _ => None,
        };
        let connection = request.body_connection.finalize().await?;
        match posted {
            Some(posted) => posted.as_slice().write_to(connection, response).await,
            None => {
                let refused = (StatusCode::PAYLOAD_TOO_LARGE, "no more than 1 MiB\n");
                refused.write_to(connection, response).await
            }
        }
    }
}

/// What picoserve calls the runtime that its sockets and its clock are of.
struct Arca;

/// The clock of its time-outs.
struct Clock;

impl picoserve::Timer<Arca> for Clock {
    async fn delay(&self, duration: Duration) {
        sleep(time::Duration::from_millis(duration.as_millis())).await;
    }
}

/// A connection as picoserve wants it.
struct Socket(AsyncTcpStream);

impl picoserve::io::Socket<Arca> for Socket {
    type Error = Error;
    type ReadHalf<'a> = ReadHalf<'a>;
    type WriteHalf<'a> = Together<'a>;

    fn split(&mut self) -> (ReadHalf<'_>, Together<'_>) {
        let (read, to) = self.0.split();
        let pieces = Vec::with_capacity(TOGETHER);
        (read, Together { to, pieces })
    }

    async fn abort<T: picoserve::Timer<Arca>>(
        self,
        _: &Timeouts,
        _: &T,
    ) -> Result<(), picoserve::Error<Error>> {
        self.0.abort();
        Ok(())
    }

    async fn shutdown<T: picoserve::Timer<Arca>>(
        self,
        _: &Timeouts,
        _: &T,
    ) -> Result<(), picoserve::Error<Error>> {
        // What the peer still says, it says to nobody; closing with that unread would
        // be a reset.
        let ended = self.0.shutdown(Shutdown::Both);
        ended.map_err(picoserve::Error::Write)
    }
}

/// Puts small pieces together, so that a head is one write.
struct Together<'a> {
    to: WriteHalf<'a>,
    pieces: Vec<u8>,
}

impl ErrorType for Together<'_> {
    type Error = Error;
}

impl BaseWrite for Together<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        if self.pieces.len() + bytes.len() > TOGETHER {
            self.flush().await?;
        }
        if bytes.len() > TOGETHER {
            return self.to.write(bytes).await;
        }
        self.pieces.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.to.write_all(&self.pieces).await?;
        self.pieces.clear();
        Ok(())
    }
}

impl Write for Together<'_> {
    async fn write_with<F: FnOnce(BorrowedCursor<'_>) -> R, R>(
        &mut self,
        generate: F,
    ) -> Result<R, Error> {
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
