//! Bulk data that is made and looked at: what a program that generates or parses does,
//! with a buffer of its own or where the bytes are.

use super::transfer::finish;
use crate::PIECE;
use crate::failure::{Failure, ended};
use crate::net::Net;
use crate::wire::{Header, payload};
use core::net::SocketAddr;
use embedded_io::{Read, Write};

/// Makes bytes.
pub fn generate(room: &mut [u8]) {
    room.fill(0x5a);
}

/// Looks at bytes: how many are of the kind that [`generate`] makes.
#[must_use]
pub fn parse(bytes: &[u8]) -> u64 {
    // In sums of a byte each, which a vector adds many of at a time.
    let sum = |piece: &[u8]| piece.iter().map(|&byte| u8::from(byte == 0x5a)).sum::<u8>();
    bytes.chunks(255).map(|piece| u64::from(sum(piece))).sum()
}

/// Makes one transfer over a new connection and gives the nanoseconds it took: what goes
/// up is generated, and what comes down is parsed.
///
/// # Errors
///
/// If the connection fails, bytes are missing at its end, or `in_place` is asked of a
/// system that lends no memory.
pub fn run<N: Net>(
    net: &N,
    address: SocketAddr,
    header: Header,
    in_place: bool,
) -> Result<u64, Failure> {
    let mut stream = net.connect(address)?;
    let start = net.now();
    let asked = stream.write_all(&header.to_bytes());
    asked.map_err(Failure::of("write"))?;
    let seen = match in_place {
        true => net.work_in_place(&mut stream, header)?,
        false => copied(&mut stream, header)?,
    };
    core::hint::black_box(seen);
    finish(&mut stream, header)?;
    Ok(net.now() - start)
}

/// Generates into a buffer and writes it, reads into it and parses it. Gives what the
/// parser has seen.
///
/// # Errors
///
/// If the connection fails, or ends too early.
pub fn copied<S: Read + Write>(stream: &mut S, header: Header) -> Result<u64, Failure> {
    let mut buffer = payload(PIECE);
    let mut left = header.up;
    while left > 0 {
        let piece = left.min(PIECE as u64) as usize;
        generate(&mut buffer[..piece]);
        let written = stream.write_all(&buffer[..piece]);
        written.map_err(Failure::of("write"))?;
        left -= piece as u64;
    }
    let (mut left, mut seen) = (header.down, 0);
    while left > 0 {
        let piece = left.min(PIECE as u64) as usize;
        let read = stream.read(&mut buffer[..piece]);
        match read.map_err(Failure::of("read"))? {
            0 => return Err(ended()),
            count => {
                seen += parse(&buffer[..count]);
                left -= count as u64;
            }
        }
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::{generate, parse};

    #[test]
    fn what_is_generated_is_found() {
        let mut bytes = vec![7; 1000];
        generate(&mut bytes[100..900]);
        assert_eq!(parse(&bytes), 800);
    }
}
