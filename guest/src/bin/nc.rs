//! `nc HOST PORT` connects, `nc -l PORT` waits for a client: standard input goes to the
//! peer, and what the peer sends to standard output. The end of the input is passed on
//! as the end of what is sent; the program ends when both directions have.
//!
//! Both directions are served at once, by one vCPU as long as standard output is taken;
//! with `--vcpus 2` one never waits for the other.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use arca_guest::embedded_io::ReadReady;
use arca_guest::net::{Ipv4Addr, OwnedReadHalf, OwnedWriteHalf, TcpListener, TcpStream};
use arca_guest::process::{ExitCode, exit};
use arca_guest::stdio::{stdin, stdout};
use arca_guest::{args, block_on, eprintln, log, spawn};

arca_guest::entry!(main);

/// Bytes of the input that are read at once, at most.
const PIECE: usize = 64 << 10;

fn main() -> Result<(), String> {
    let args: alloc::vec::Vec<_> = args().skip(1).collect();
    let port = args.get(1).and_then(|port| port.parse::<u16>().ok());
    let (&[first, _], Some(port)) = (&args[..], port) else {
        eprintln!("usage: nc HOST PORT, or nc -l PORT");
        exit(ExitCode(2));
    };
    let stream = match first {
        "-l" => wait(port)?,
        host => {
            let stream = TcpStream::connect((host, port));
            stream.map_err(|error| format!("connect to {host}:{port}: {error}"))?
        }
    };
    let (from, to) = stream.into_split();
    let receiving = spawn(async {
        if let Err(error) = receive(from).await {
            // There is no use in the rest of the input, which may never end.
            eprintln!("error: {error}");
            exit(ExitCode::FAILURE);
        }
    });
    send(to)?;
    block_on(receiving);
    Ok(())
}

/// Waits for a client, the only one.
fn wait(port: u16) -> Result<TcpStream, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = listener.map_err(|error| format!("listen on port {port}: {error}"))?;
    log::info!("listening on {}", listener.local_addr());
    let (stream, peer) = listener
        .accept()
        .map_err(|error| format!("accept: {error}"))?;
    log::info!("connected to {peer}");
    Ok(stream)
}

/// Sends the standard input, and its end. Tasks run while it waits.
fn send(mut to: OwnedWriteHalf) -> Result<(), String> {
    let mut piece = alloc::vec![0; PIECE];
    loop {
        let read = stdin().read(&mut piece);
        let len = read.map_err(|error| format!("standard input: {error}"))?;
        if len == 0 {
            // Dropping the half ends what is sent.
            return Ok(());
        }
        let sent = block_on(to.write_all(&piece[..len]));
        sent.map_err(|error| format!("send: {error}"))?;
    }
}

/// Writes what comes to standard output, from where it lies in the ring.
async fn receive(mut from: OwnedReadHalf) -> Result<(), String> {
    loop {
        let bytes = from.fill_buf().await;
        let bytes = bytes.map_err(|error| format!("receive: {error}"))?;
        if bytes.is_empty() {
            return Ok(());
        }
        let written = stdout().write_all(bytes);
        written.map_err(|error| format!("standard output: {error}"))?;
        let len = bytes.len();
        from.consume(len);
        // Before a wait, what is kept back of an unfinished line is to be seen.
        if let Ok(false) = from.read_ready() {
            let written = stdout().flush();
            written.map_err(|error| format!("standard output: {error}"))?;
        }
    }
}
