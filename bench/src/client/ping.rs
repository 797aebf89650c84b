//! Round trips over one connection.

use crate::connection::fill;
use crate::failure::Failure;
use crate::net::Net;
use crate::reply::{Outcome, spread};
use crate::wire::payload;
use alloc::vec::Vec;
use core::net::SocketAddr;
use embedded_io::Write;

/// Makes `count` round trips of `size` bytes, after a tenth as many that are not
/// counted.
///
/// # Errors
///
/// If the connection fails.
pub fn run<N: Net>(
    net: &N,
    address: SocketAddr,
    size: usize,
    count: usize,
) -> Result<Outcome, Failure> {
    let mut stream = net.connect(address)?;
    let message = payload(size);
    let mut answer = payload(size);
    for _ in 0..count / 10 {
        stream.write_all(&message).map_err(Failure::of("write"))?;
        fill(&mut stream, &mut answer)?;
    }
    let mut times = Vec::with_capacity(count);
    let start = net.now();
    let mut last = start;
    for _ in 0..count {
        stream.write_all(&message).map_err(Failure::of("write"))?;
        fill(&mut stream, &mut answer)?;
        let now = net.now();
        times.push(now - last);
        last = now;
    }
    Ok(spread(times, Outcome::default().with("ns", last - start)))
}
