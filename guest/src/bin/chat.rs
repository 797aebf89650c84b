//! `chat PORT`: a room for any number of clients: each line that one says goes to all
//! the others. Runs for ever.
//!
//! Each client has a queue of lines. One that does not keep up, so that its queue is
//! full, has to go: the others never wait for it.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arca_guest::net::{
    AsyncTcpStream, Error, Ipv4Addr, OwnedReadHalf, OwnedWriteHalf, SocketAddr, TcpListener,
};
use arca_guest::process::{ExitCode, exit};
use arca_guest::select::{Either3, select3};
use arca_guest::sync::{Channel, Mutex, Signal};
use arca_guest::time::Duration;
use arca_guest::{args, block_on, eprintln, log, sleep, spawn};
use core::convert::Infallible;

arca_guest::entry!(main);

/// Lines that wait for a client, at most.
const QUEUE: usize = 256;
/// Longest line, in bytes.
const LONGEST: usize = 4 << 10;
/// How long to wait before accepting again when the host has no room.
const PAUSE: Duration = Duration::from_millis(10);

/// Everybody who is in the room.
static CLIENTS: Mutex<Vec<Arc<Client>>> = Mutex::new(Vec::new());

/// Somebody in the room.
struct Client {
    peer: SocketAddr,
    /// What is to be told to it.
    lines: Channel<Arc<str>, QUEUE>,
    /// It does not keep up.
    slow: Signal<()>,
}

fn main() -> Result<Infallible, String> {
    let mut args = args().skip(1);
    let port = args.next().and_then(|port| port.parse::<u16>().ok());
    let (Some(port), None) = (port, args.next()) else {
        eprintln!("usage: chat PORT");
        exit(ExitCode(2));
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = listener.map_err(|error| format!("listen on port {port}: {error}"))?;
    log::info!("listening on {}", listener.local_addr());
    block_on(async {
        loop {
            match listener.accept_async().await {
                Ok((stream, peer)) => {
                    let client = enter(peer).await;
                    spawn(serve(stream.into_async(), client)).detach();
                }
                Err(error) => {
                    log::warn!("accept: {error}");
                    sleep(PAUSE).await;
                }
            }
        }
    })
}

/// Puts somebody into the room, and tells those who are there: in the order in which they
/// come, which tasks of their own on several vCPUs would not keep.
async fn enter(peer: SocketAddr) -> Arc<Client> {
    let client = Arc::new(Client {
        peer,
        lines: Channel::new(),
        slow: Signal::new(),
    });
    CLIENTS.lock().await.push(client.clone());
    tell_others(&client, "has come").await;
    client
}

/// Has somebody in the room for as long as the connection lasts.
async fn serve(stream: AsyncTcpStream, client: Arc<Client>) {
    let (from, to) = stream.into_split();
    let (hear, tell) = (hear(from, &client), tell(to, &client));
    let why = match select3(hear, tell, client.slow.wait()).await {
        Either3::First(Ok(())) => "has left",
        Either3::First(Err(error)) | Either3::Second(Err(error)) => {
            log::debug!("{}: {error}", client.peer);
            "is lost"
        }
        Either3::Third(()) => "does not keep up",
    };
    CLIENTS
        .lock()
        .await
        .retain(|other| !Arc::ptr_eq(other, &client));
    tell_others(&client, why).await;
}

/// Passes on what a client says, to the end.
async fn hear(mut from: OwnedReadHalf, client: &Arc<Client>) -> Result<(), Error> {
    let mut said = Vec::new();
    loop {
        // As much as there is of a line, from where it lies in the ring.
        let len = from.read_with(|bytes| {
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let len = end.map_or(bytes.len(), |end| end + 1);
            said.extend_from_slice(&bytes[..len]);
            len
        });
        if len.await? == 0 {
            return Ok(());
        }
        if said.ends_with(b"\n") || said.len() > LONGEST {
            tell_others(client, String::from_utf8_lossy(&said).trim_end()).await;
            said.clear();
        }
    }
}

/// Tells a client what is in its queue.
async fn tell(mut to: OwnedWriteHalf, client: &Client) -> Result<Infallible, Error> {
    loop {
        let line = client.lines.receive().await;
        to.write_all(line.as_bytes()).await?;
    }
}

/// Puts a line into everybody's queue but the client's own.
async fn tell_others(client: &Arc<Client>, text: &str) {
    let line: Arc<str> = format!("{}: {text}\n", client.peer).into();
    for other in CLIENTS.lock().await.iter() {
        if !Arc::ptr_eq(other, client) && other.lines.try_send(line.clone()).is_err() {
            other.slow.signal(());
        }
    }
}
