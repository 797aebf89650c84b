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
/// One direction alone is done with blocking calls, both at once with two
/// futures.
///
/// # Errors
///
/// If the connection fails, or bytes are missing at its end.
pub fn run<N: Net>(net: &N, address: SocketAddr, header: Header) -> Result<u64, Failure> {
    if header.up > 0 && header.down > 0 {
        return both_ways(net, address, header);
    }
    let mut stream = net.connect(address)?;
    let mut buffer = payload(PIECE);
    let start = net.now();
    stream.write_all(&header.to_bytes())?;
    let mut left = header.up;
    while left > 0 {
        let len = left.min(PIECE as u64);
        stream.write_all(&buffer[..len as usize])?;
        left -= len;
    }
    let mut left = header.down;
    while left > 0 {
        let len = left.min(PIECE as u64) as usize;
        match stream.read(&mut buffer[..len])? {
            0 => return Err(ended()),
            count => left -= count as u64,
        }
    }
    let mut count = [0; COUNT_SIZE];
    stream.read_exact(&mut count)?;
    let took = net.now() - start;
    check_count(count, header.up)?;
    Ok(took)
}

fn both_ways<N: Net>(net: &N, address: SocketAddr, header: Header) -> Result<u64, Failure> {
    let opened = net.run_all(vec![net.open(address)]).pop();
    let connection = opened.ok_or_else(ended)??;
    let start = net.now();
    let task = async move { exchange(&connection, header, PIECE).await };
    let done = net.run_all(vec![task]).pop();
    done.ok_or_else(ended)??;
    Ok(net.now() - start)
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
