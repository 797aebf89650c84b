//! Connections that are opened, used for one byte and closed, one after the
//! other.

use crate::connection::fill;
use crate::failure::Failure;
use crate::net::Net;
use core::net::SocketAddr;
use embedded_io::Write;

/// Makes `count` of them and gives the nanoseconds it took.
///
/// # Errors
///
/// If one fails.
pub fn run<N: Net>(net: &N, address: SocketAddr, count: usize) -> Result<u64, Failure> {
    let start = net.now();
    let mut byte = [0x5a];
    for _ in 0..count {
        let mut stream = net.connect(address)?;
        stream.write_all(&byte).map_err(Failure::of("write"))?;
        fill(&mut stream, &mut byte)?;
    }
    Ok(net.now() - start)
}
