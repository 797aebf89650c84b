//! Connections that are opened, used for one byte and closed, one after the
//! other.

use crate::connection::Stream;
use crate::failure::Failure;
use crate::net::Net;
use core::net::SocketAddr;

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
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
    }
    Ok(net.now() - start)
}
