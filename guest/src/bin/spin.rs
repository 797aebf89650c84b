//! `spin ADDRESS COUNT ROUNDS`: COUNT connections to the echo service at ADDRESS, with a
//! task each, make ROUNDS round trips each. A task waits for its answer, but in one round
//! of 64 it looks for it again and again, without giving way to anybody.
//!
//! Prints how many answers were what had been sent; 1 is the exit code if one was not.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use arca_guest::futures::future::join_all;
use arca_guest::net::{AsyncTcpStream, Error, SocketAddr, connect_async};
use arca_guest::process::{ExitCode, exit};
use arca_guest::{args, block_on, eprintln, println, spawn};
use core::future::Future;
use core::hint;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

arca_guest::entry!(main);

/// Bytes of a message.
const LEN: usize = 64;
/// In one of so many rounds a task does not give way.
const SPINS: usize = 64;

fn main() -> Result<ExitCode, Error> {
    let mut args = args().skip(1);
    let address = args.next().and_then(|text| text.parse::<SocketAddr>().ok());
    let mut number = || args.next().and_then(|text| text.parse::<usize>().ok());
    let (Some(address), Some(count), Some(rounds)) = (address, number(), number()) else {
        eprintln!("usage: spin ADDRESS COUNT ROUNDS");
        exit(ExitCode(2));
    };
    let mut good = 0;
    block_on(async {
        let tasks = (0..count).map(|index| spawn(talk(address, index, rounds)));
        for result in join_all(tasks.collect::<Vec<_>>()).await {
            good += result?;
        }
        Ok::<_, Error>(())
    })?;
    println!("{good}");
    Ok(match good == count * rounds {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The round trips of one connection; how many were good.
async fn talk(address: SocketAddr, index: usize, rounds: usize) -> Result<usize, Error> {
    let stream = connect_async(address).await?;
    let mut good = 0;
    for round in 0..rounds {
        let message = [(index + round) as u8; LEN];
        stream.write_all(&message).await?;
        let mut answer = [0; LEN];
        match (index + round) % SPINS {
            0 => spin(&stream, &mut answer)?,
            _ => stream.read_exact(&mut answer).await?,
        }
        good += usize::from(answer == message);
    }
    Ok(good)
}

/// Reads until the buffer is full, looking whether there is something as long as there is
/// nothing.
fn spin(stream: &AsyncTcpStream, buffer: &mut [u8]) -> Result<(), Error> {
    let mut context = Context::from_waker(Waker::noop());
    let mut read = pin!(stream.read_exact(buffer));
    loop {
        match read.as_mut().poll(&mut context) {
            Poll::Ready(result) => return result,
            Poll::Pending => hint::spin_loop(),
        }
    }
}
