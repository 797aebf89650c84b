//! What a workload needs of a connection, for blocking calls and for tasks.

use crate::failure::{Failure, ended};
use core::future::Future;
use core::net::SocketAddr;

/// A connection for blocking calls.
pub trait Stream {
    /// Reads what is there, waiting for at least a byte; 0 is the end.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure>;

    /// Writes all of `bytes`.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Failure>;

    /// Fills the buffer.
    ///
    /// # Errors
    ///
    /// If the stream ends before that; what the system says.
    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), Failure> {
        let mut len = 0;
        while len < buffer.len() {
            match self.read(&mut buffer[len..])? {
                0 => return Err(ended()),
                count => len += count,
            }
        }
        Ok(())
    }
}

/// A listening socket for blocking calls.
pub trait Listener {
    /// What it accepts.
    type Stream: Stream;

    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// Waits for a connection.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn accept(&self) -> Result<Self::Stream, Failure>;
}

/// A connection for tasks. One task may read while another writes.
pub trait Connection: Send + Sync + 'static {
    /// As [`Stream::read`].
    fn read(&self, buffer: &mut [u8]) -> impl Future<Output = Result<usize, Failure>> + Send;

    /// Writes what there is room for, waiting for room for at least a byte.
    fn write(&self, bytes: &[u8]) -> impl Future<Output = Result<usize, Failure>> + Send;

    /// As [`Stream::write_all`].
    fn write_all(&self, mut bytes: &[u8]) -> impl Future<Output = Result<(), Failure>> + Send {
        async move {
            while !bytes.is_empty() {
                let count = self.write(bytes).await?;
                bytes = &bytes[count..];
            }
            Ok(())
        }
    }

    /// As [`Stream::read_exact`].
    fn read_exact(&self, buffer: &mut [u8]) -> impl Future<Output = Result<(), Failure>> + Send {
        async move {
            let mut len = 0;
            while len < buffer.len() {
                match self.read(&mut buffer[len..]).await? {
                    0 => return Err(ended()),
                    count => len += count,
                }
            }
            Ok(())
        }
    }
}
