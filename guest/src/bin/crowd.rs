//! `crowd ADDRESS COUNT LEN`: COUNT connections to ADDRESS and COUNT that come in,
//! all at once. When all are there, each sends LEN bytes and their SHA-256, and
//! receives as much, at the same time; both directions end in order.
//!
//! Prints where it listens, then how many connections were as they should be; 1
//! is the exit code if one was not. Ends when its input does.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;
use arca_guest::futures::future::{join, join_all, try_join, try_join_all};
use arca_guest::net::{AsyncTcpStream, Error, Ipv4Addr, Shutdown, SocketAddr, bind_async};
use arca_guest::net::{TcpListener, connect_async};
use arca_guest::process::{ExitCode, exit};
use arca_guest::stdio::stdin;
use arca_guest::{args, block_on, eprintln, println, spawn};
use arca_script::noise;
use sha2::{Digest, Sha256};

arca_guest::entry!(main);

/// Bytes moved at a time.
const PIECE: usize = 16 << 10;
/// Size of a digest.
const DIGEST: usize = 32;

fn main() -> Result<ExitCode, Error> {
    let mut args = args().skip(1);
    let address = args.next().and_then(|text| text.parse::<SocketAddr>().ok());
    let mut number = || args.next().and_then(|text| text.parse::<usize>().ok());
    let (Some(address), Some(count), Some(len)) = (address, number(), number()) else {
        eprintln!("usage: crowd ADDRESS COUNT LEN");
        exit(ExitCode(2));
    };
    let good = block_on(async {
        let listener = bind_async((Ipv4Addr::LOCALHOST, 0).into()).await?;
        println!("{}", listener.local_addr());
        let connects = (0..count).map(|_| connect_async(address));
        let (made, accepted) = try_join(try_join_all(connects), accept(&listener, count)).await?;
        let tasks = made.into_iter().chain(accepted).enumerate();
        let tasks: Vec<_> = tasks
            .map(|(index, stream)| spawn(exchange(stream, index as u64, len)))
            .collect();
        let results = join_all(tasks).await;
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            eprintln!("{error}");
        }
        let good = results.iter().filter(|result| **result == Ok(true));
        Ok::<_, Error>(good.count())
    })?;
    println!("{good}");
    while let Some(Ok(_)) = stdin().lines().next() {}
    Ok(match good == 2 * count {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

async fn accept(listener: &TcpListener, count: usize) -> Result<Vec<AsyncTcpStream>, Error> {
    let mut streams = Vec::with_capacity(count);
    while streams.len() < count {
        let (stream, _) = listener.accept_async().await?;
        streams.push(stream.into_async());
    }
    Ok(streams)
}

/// Both directions of one connection; whether what came has its digest.
async fn exchange(stream: AsyncTcpStream, seed: u64, len: usize) -> Result<bool, Error> {
    let (sent, received) = join(send(&stream, seed, len), receive(&stream, len)).await;
    sent?;
    received
}

async fn send(stream: &AsyncTcpStream, seed: u64, len: usize) -> Result<(), Error> {
    let mut digest = Sha256::new();
    let mut sent = 0;
    while sent < len {
        let piece = noise(seed << 32 | sent as u64, PIECE.min(len - sent));
        digest.update(&piece);
        stream.write_all(&piece).await?;
        sent += piece.len();
    }
    stream.write_all(&digest.finalize()).await?;
    stream.shutdown(Shutdown::Write)
}

async fn receive(stream: &AsyncTcpStream, len: usize) -> Result<bool, Error> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; PIECE];
    let mut left = len;
    while left > 0 {
        let room = PIECE.min(left);
        let count = stream.read(&mut buffer[..room]).await?;
        if count == 0 {
            return Err(Error::UnexpectedEof);
        }
        digest.update(&buffer[..count]);
        left -= count;
    }
    let mut told = [0; DIGEST];
    stream.read_exact(&mut told).await?;
    let at_end = stream.read(&mut buffer).await? == 0;
    Ok(at_end && digest.finalize()[..] == told)
}
