//! Standard streams: pipes to the VMM's own threads, not to a socket.

use super::PipeEnd;
use crate::client::reactor::Reactor;
use crate::error::Error;
use crate::pipe::{PipeError, PipePlace};
use crate::protocol::input_request::ReadRequest;
use alloc::sync::Arc;

/// The guest's end of standard output, or of the log.
pub struct StandardWriter(PipeEnd);

impl StandardWriter {
    /// Joins the pipe that the boot information names.
    ///
    /// # Errors
    ///
    /// [`PipeError`] if the place cannot be one of a pipe.
    pub fn join(reactor: &Arc<Reactor>, place: PipePlace) -> Result<Self, PipeError> {
        PipeEnd::join(reactor, place).map(Self)
    }

    /// Writes all of `bytes`, waiting for room.
    ///
    /// # Errors
    ///
    /// Once the host takes no more: the errno that writing had there, once, and
    /// then EPIPE.
    pub fn write_all(&self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let written = self.0.write(bytes, None)?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Waits until the host has taken everything that was written.
    ///
    /// # Errors
    ///
    /// As [`StandardWriter::write_all`].
    pub fn flush(&self) -> Result<(), Error> {
        self.0.flush()
    }

    /// Writes what there is room for now.
    ///
    /// # Errors
    ///
    /// EAGAIN if there is none, EPIPE if the host takes no more.
    pub fn try_write(&self, bytes: &[u8]) -> Result<usize, Error> {
        self.0.try_write(bytes)
    }

    /// Says that nothing more will be written.
    pub fn close(&self) {
        self.0.close_write();
    }
}

/// The guest's end of standard input. The host reads when it is asked to, and no
/// more than it is asked for.
pub struct StandardReader(PipeEnd);

impl StandardReader {
    /// Joins the pipe that the boot information names.
    ///
    /// # Errors
    ///
    /// [`PipeError`] if the place cannot be one of a pipe.
    pub fn join(reactor: &Arc<Reactor>, place: PipePlace) -> Result<Self, PipeError> {
        PipeEnd::join(reactor, place).map(Self)
    }

    /// Reads up to `buffer.len()` bytes of the host's standard input, waiting for
    /// at least one; 0 is the end.
    ///
    /// # Errors
    ///
    /// The errno that reading had on the host, once; [`Error::Protocol`] if the
    /// ring is broken.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        match self.0.try_read(buffer) {
            Err(error) if error.is_would_block() => {}
            // An earlier answer, or the end.
            result => return result,
        }
        // No answer is outstanding: whoever asked before waited for it, and an answer
        // is put into the ring as a whole. So there is room for the request, too. A
        // host that takes none has ended the input, which the read finds.
        let wanted = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        let _ = self.0.try_write(&ReadRequest(wanted).encode());
        self.0.read(buffer, None)
    }
}
