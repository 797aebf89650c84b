//! Bulk data over one connection.

use crate::PIECE;
use crate::net::{Connection, Failure, Net, Stream, ended};
use crate::wire::{COUNT_SIZE, Header, check_count};
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;
use futures_util::future::try_join;

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
    stream.write_all(&header.to_bytes())?;
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
pub fn give<S: Stream>(stream: &mut S, len: u64, buffer: &[u8]) -> Result<(), Failure> {
    let mut left = len;
    while left > 0 {
        let piece = left.min(buffer.len() as u64);
        stream.write_all(&buffer[..piece as usize])?;
        left -= piece;
    }
    Ok(())
}

/// Reads `len` bytes, at most a buffer at a time.
///
/// # Errors
///
/// If the connection fails, or ends before that.
pub fn take<S: Stream>(stream: &mut S, len: u64, buffer: &mut [u8]) -> Result<(), Failure> {
    let mut left = len;
    while left > 0 {
        let piece = left.min(buffer.len() as u64) as usize;
        match stream.read(&mut buffer[..piece])? {
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
pub fn finish<S: Stream>(stream: &mut S, header: Header) -> Result<(), Failure> {
    let mut count = [0; COUNT_SIZE];
    stream.read_exact(&mut count)?;
    check_count(count, header.up)
}

/// Makes one transfer over an open connection, `piece` bytes at a time.
///
/// # Errors
///
/// If the connection fails, or bytes are missing at its end.
pub async fn exchange<C: Connection>(
    connection: &C,
    header: Header,
    piece: usize,
) -> Result<(), Failure> {
    connection.write_all(&header.to_bytes()).await?;
    let up = async {
        let buffer = payload(piece.min(header.up as usize));
        let mut left = header.up;
        while left > 0 {
            let len = left.min(piece as u64);
            connection.write_all(&buffer[..len as usize]).await?;
            left -= len;
        }
        Ok(())
    };
    let down = async {
        let mut buffer = vec![0; piece.min(header.down as usize)];
        let mut left = header.down;
        while left > 0 {
            let len = left.min(piece as u64) as usize;
            match connection.read(&mut buffer[..len]).await? {
                0 => return Err(ended()),
                count => left -= count as u64,
            }
        }
        let mut count = [0; COUNT_SIZE];
        connection.read_exact(&mut count).await?;
        check_count(count, header.up)
    };
    try_join(up, down).await.map(|_| ())
}

/// Bytes to send. Not zeros: an untouched page of zeros is one page of the
/// host's, however many there seem to be.
pub(crate) fn payload(len: usize) -> Vec<u8> {
    vec![0x5a; len]
}
