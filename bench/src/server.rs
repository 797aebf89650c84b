//! The server ends of the workloads.

use crate::connection::{Connection, Listener, fill};
use crate::failure::{Failure, ended};
use crate::wire::{COUNT_SIZE, Header, payload};
use alloc::vec;
use embedded_io::{Read, Write};
use futures_util::future::try_join;

/// Bytes that an echo carries back at a time.
const ECHO_PIECE: usize = 4096;
/// Bytes that one of many transfers moves at a time.
const SHARED_PIECE: usize = 64 << 10;

/// Accepts `count` connections, one after the other, and serves each to its end.
///
/// # Errors
///
/// If no connection can be accepted, or one fails.
pub fn churn<L: Listener>(listener: &L, count: usize) -> Result<(), Failure> {
    for _ in 0..count {
        echo(&mut listener.accept()?)?;
    }
    Ok(())
}

/// Carries bytes back until the client has sent its last.
///
/// # Errors
///
/// If the connection fails.
pub fn echo<S: Read + Write>(stream: &mut S) -> Result<(), Failure> {
    let mut buffer = [0; ECHO_PIECE];
    loop {
        match stream.read(&mut buffer).map_err(Failure::of("read"))? {
            0 => return Ok(()),
            len => stream
                .write_all(&buffer[..len])
                .map_err(Failure::of("write"))?,
        }
    }
}

/// [`echo`] for a task.
///
/// # Errors
///
/// If the connection fails.
pub async fn echo_shared<C: Connection>(connection: C) -> Result<(), Failure> {
    let mut buffer = vec![0; ECHO_PIECE];
    loop {
        match connection.read(&mut buffer).await? {
            0 => return Ok(()),
            len => connection.write_all(&buffer[..len]).await?,
        }
    }
}

/// The header of the next transfer; none if the client has closed.
///
/// # Errors
///
/// If the connection fails.
pub fn header<S: Read>(stream: &mut S) -> Result<Option<Header>, Failure> {
    let mut bytes = [0; Header::SIZE];
    match stream.read(&mut bytes).map_err(Failure::of("read"))? {
        0 => return Ok(None),
        len => fill(stream, &mut bytes[len..])?,
    }
    Ok(Some(Header::from_bytes(bytes)))
}

/// Serves transfers until the client closes, for a task.
///
/// # Errors
///
/// If the connection fails.
pub async fn transfer_shared<C: Connection>(connection: C) -> Result<(), Failure> {
    let connection = &connection;
    let mut incoming = vec![0; SHARED_PIECE];
    let outgoing = payload(SHARED_PIECE);
    loop {
        let mut bytes = [0; Header::SIZE];
        match connection.read(&mut bytes).await? {
            0 => return Ok(()),
            len => connection.read_exact(&mut bytes[len..]).await?,
        }
        let header = Header::from_bytes(bytes);
        let up = async {
            let mut left = header.up;
            while left > 0 {
                let piece = left.min(SHARED_PIECE as u64) as usize;
                match connection.read(&mut incoming[..piece]).await? {
                    0 => return Err(ended()),
                    count => left -= count as u64,
                }
            }
            Ok(())
        };
        let down = async {
            let mut left = header.down;
            while left > 0 {
                let piece = left.min(SHARED_PIECE as u64);
                connection.write_all(&outgoing[..piece as usize]).await?;
                left -= piece;
            }
            Ok(())
        };
        try_join(up, down).await?;
        let count: [u8; COUNT_SIZE] = header.up.to_le_bytes();
        connection.write_all(&count).await?;
    }
}
