//! `proxy LISTEN TARGET`: passes every connection that it accepts on to TARGET, both ways,
//! until both have ended. LISTEN is a port of 127.0.0.1 or ADDRESS:PORT, TARGET is
//! HOST:PORT. Runs for ever.
//!
//! The bytes go from one connection's ring to the other's: the program has no buffer. A
//! half-close is passed on as one, a failure as a reset.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};
use arca_guest::net::{
    self, AsyncTcpStream, Error, Host, Ipv4Addr, SocketAddr, TcpListener, ToHost,
};
use arca_guest::process::{ExitCode, exit};
use arca_guest::time::Duration;
use arca_guest::{args, block_on, eprintln, log, sleep, spawn};
use core::convert::Infallible;

arca_guest::entry!(main);

/// How long to wait before accepting again when the host has no room.
const PAUSE: Duration = Duration::from_millis(10);

fn main() -> Result<Infallible, String> {
    let mut args = args().skip(1);
    let listen = args.next().and_then(listen_at);
    let target = args.next().and_then(|target| target.to_host().ok());
    let (Some(listen), Some(target), None) = (listen, target, args.next()) else {
        eprintln!("usage: proxy [ADDRESS:]PORT HOST:PORT");
        exit(ExitCode(2));
    };
    let listener = TcpListener::bind(listen);
    let listener = listener.map_err(|error| format!("listen on {listen}: {error}"))?;
    log::info!("listening on {}", listener.local_addr());
    block_on(async {
        loop {
            match listener.accept_async().await {
                Ok((client, peer)) => spawn(async move {
                    if let Err(error) = pass(client.into_async(), target).await {
                        log::debug!("{peer}: {error}");
                    }
                })
                .detach(),
                Err(error) => {
                    log::warn!("accept: {error}");
                    sleep(PAUSE).await;
                }
            }
        }
    })
}

/// Where to listen.
fn listen_at(text: &str) -> Option<SocketAddr> {
    match text.parse() {
        Ok(port) => Some((Ipv4Addr::LOCALHOST, port).into()),
        Err(_) => text.parse().ok(),
    }
}

/// Passes a client's connection on.
async fn pass(mut client: AsyncTcpStream, target: Host<'static>) -> Result<(), String> {
    let server = AsyncTcpStream::connect(target).await;
    let mut server = match server {
        Ok(server) => server,
        Err(error) => {
            client.abort();
            return Err(format!("connect to the target: {error}"));
        }
    };
    let passed: Result<_, Error> = net::copy_bidirectional_async(&mut client, &mut server).await;
    if passed.is_err() {
        // Neither end takes a part for the whole.
        client.abort();
        server.abort();
    }
    passed.map(drop).map_err(|error| error.to_string())
}
