//! `nc HOST PORT` connects, `nc -l PORT` waits for a client: standard input goes to the
//! peer, and what the peer sends to standard output. The end of the input is passed on
//! as the end of what is sent; the program ends when both directions have.
//!
//! Both directions are served at once, and neither waits for the other.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use arca_guest::futures::future::try_join;
use arca_guest::net::{self, AsyncTcpStream, Ipv4Addr, OwnedReadHalf, OwnedWriteHalf, TcpListener};
use arca_guest::process::{ExitCode, exit};
use arca_guest::stdio::{stdin, stdout};
use arca_guest::{args, block_on, eprintln, log};

arca_guest::entry!(main);

/// Bytes of the input that are read at once, at most.
const PIECE: usize = 64 << 10;

fn main() -> Result<(), String> {
    let args: Vec<_> = args().skip(1).collect();
    let port = args.get(1).and_then(|port| port.parse::<u16>().ok());
    let (&[first, _], Some(port)) = (&args[..], port) else {
        eprintln!("usage: nc HOST PORT, or nc -l PORT");
        exit(ExitCode(2));
    };
    block_on(async {
        let stream = match first {
            "-l" => wait(port).await?,
            host => {
                let stream = AsyncTcpStream::connect((host, port)).await;
                stream.map_err(|error| format!("connect to {host}:{port}: {error}"))?
            }
        };
        let (from, to) = stream.into_split();
        // The first that fails ends both: the rest of the input may never come.
        try_join(send(to), receive(from)).await.map(drop)
    })
}

/// Waits for a client, the only one.
async fn wait(port: u16) -> Result<AsyncTcpStream, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = listener.map_err(|error| format!("listen on port {port}: {error}"))?;
    log::info!("listening on {}", listener.local_addr());
    let accepted = listener.accept_async().await;
    let (stream, peer) = accepted.map_err(|error| format!("accept: {error}"))?;
    log::info!("connected to {peer}");
    Ok(stream.into_async())
}

/// Sends the standard input to its end. Dropping the half then ends what is sent.
async fn send(mut to: OwnedWriteHalf) -> Result<(), String> {
    let mut piece = alloc::vec![0; PIECE];
    loop {
        let read = stdin().read_async(&mut piece).await;
        let len = read.map_err(|error| format!("standard input: {error}"))?;
        if len == 0 {
            return Ok(());
        }
        let sent = to.write_all(&piece[..len]).await;
        sent.map_err(|error| format!("send: {error}"))?;
    }
}

/// Writes what comes to standard output, from where it lies in the ring.
async fn receive(mut from: OwnedReadHalf) -> Result<(), String> {
    let copied = net::copy_async(&mut from, &mut stdout()).await;
    copied
        .map(drop)
        .map_err(|error| format!("receive: {error}"))
}
