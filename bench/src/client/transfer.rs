//! Bulk data over one connection.

use crate::PIECE;
use crate::connection::fill;
use crate::failure::{Failure, ended};
use crate::net::Net;
use crate::wire::{COUNT_SIZE, Header, check_count, payload};
use core::net::SocketAddr;
use embedded_io::{Read, Write};

/// Makes one transfer over a new connection and gives the nanoseconds it took,
/// from the header to the server's count.
///
/// One direction alone is done with blocking calls, both at once as
/// [`Net::transfer_both_ways`] does it.
///
/// # Errors
///
/// If the connection fails, or bytes are missing at its end.
pub fn run<N: Net>(net: &N, address: SocketAddr, header: Header) -> Result<u64, Failure> {
    if header.up > 0 && header.down > 0 {
        return net.transfer_both_ways(address, header);
    }
    let mut stream = net.connect(address)?;
    let mut buffer = payload(PIECE);
    let start = net.now();
    let asked = stream.write_all(&header.to_bytes());
    asked.map_err(Failure::of("write"))?;
    give(&mut stream, header.up, &buffer)?;
    take(&mut stream, header.down, &mut buffer)?;
    finish(&mut stream, header)?;
    Ok(net.now() - start)
}

/// Writes `len` bytes, a buffer at a time.
///
/// # Errors
///
/// If the connection fails.
pub fn give<S: Write>(stream: &mut S, len: u64, buffer: &[u8]) -> Result<(), Failure> {
    let mut left = len;
    while left > 0 {
        let piece = left.min(buffer.len() as u64);
        let written = stream.write_all(&buffer[..piece as usize]);
        written.map_err(Failure::of("write"))?;
        left -= piece;
    }
    Ok(())
}

/// Reads `len` bytes, at most a buffer at a time.
///
/// # Errors
///
/// If the connection fails, or ends before that.
pub fn take<S: Read>(stream: &mut S, len: u64, buffer: &mut [u8]) -> Result<(), Failure> {
    let mut left = len;
    while left > 0 {
        let piece = left.min(buffer.len() as u64) as usize;
        match stream
            .read(&mut buffer[..piece])
            .map_err(Failure::of("read"))?
        {
            0 => return Err(ended()),
            count => left -= count as u64,
        }
    }
    Ok(())
}

/// Reads the server's count and checks it.
///
/// # Errors
///
/// If the connection fails, or the server did not get all.
pub fn finish<S: Read>(stream: &mut S, header: Header) -> Result<(), Failure> {
    let mut count = [0; COUNT_SIZE];
    fill(stream, &mut count)?;
    check_count(count, header.up)
}
