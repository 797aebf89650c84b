//! A transfer in both directions at once, as one task.

use crate::connection::Connection;
use crate::failure::{Failure, ended};
use crate::wire::{COUNT_SIZE, Header, check_count, payload};
use alloc::vec;
use futures_util::future::try_join;

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
