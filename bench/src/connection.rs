//! What a workload needs of a connection, for blocking calls and for tasks.
//!
//! For blocking calls that is what embedded-io has. The futures of embedded-io-async do
//! not say whether they may go to another vCPU, as those of tasks do: for them there is
//! [`Connection`].

use crate::failure::{Failure, ended};
use core::future::Future;
use core::net::SocketAddr;
use embedded_io::{Read, ReadExactError, Write};

/// Fills the buffer.
///
/// # Errors
///
/// If the stream ends before that; what the system says.
pub fn fill<S: Read>(stream: &mut S, buffer: &mut [u8]) -> Result<(), Failure> {
    stream.read_exact(buffer).map_err(|error| match error {
        ReadExactError::UnexpectedEof => ended(),
        ReadExactError::Other(error) => Failure::of("read")(error),
    })
}

/// A listening socket for blocking calls.
pub trait Listener {
    /// What it accepts.
    type Stream: Read + Write;

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
    /// Reads what is there, waiting for at least a byte; 0 is the end.
    fn read(&self, buffer: &mut [u8]) -> impl Future<Output = Result<usize, Failure>> + Send;

    /// Writes what there is room for, waiting for room for at least a byte.
    fn write(&self, bytes: &[u8]) -> impl Future<Output = Result<usize, Failure>> + Send;

    /// Writes all of `bytes`.
    fn write_all(&self, mut bytes: &[u8]) -> impl Future<Output = Result<(), Failure>> + Send {
        async move {
            while !bytes.is_empty() {
                let count = self.write(bytes).await?;
                bytes = &bytes[count..];
            }
            Ok(())
        }
    }

    /// Fills the buffer.
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
