//! Standard streams: pipes to the VMM's own threads, not to a socket.

use super::PipeEnd;
use crate::boot::PipePlace;
use crate::error::Error;
use crate::pipe::PipeError;
use crate::reactor::Reactor;
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
    /// EPIPE if the host takes no more.
    pub fn write_all(&self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let written = self.0.write(bytes, None)?;
            bytes = &bytes[written..];
        }
        Ok(())
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

/// The guest's end of standard input.
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

    /// Takes what is there, waiting for at least one byte; 0 is the end.
    ///
    /// # Errors
    ///
    /// [`Error::Protocol`] if the ring is broken.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.0.read(buffer, None)
    }

    /// The pipe's end, for polling.
    #[must_use]
    pub fn end(&self) -> &PipeEnd {
        &self.0
    }
}
