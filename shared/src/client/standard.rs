//! Standard streams: pipes to the VMM's own threads, not to a socket.

use super::PipeEnd;
use crate::client::reactor::Reactor;
use crate::error::Error;
use crate::pipe::{PipeError, PipePlace};
use crate::protocol::input_request::ReadRequest;
use alloc::sync::Arc;
use core::future::poll_fn;
use core::task::{Context, Poll};

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

    /// [`StandardWriter::try_write`], or waits for room.
    pub fn poll_write(
        &self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, Error>> {
        self.0.poll_write(context, bytes)
    }

    /// As [`StandardWriter::flush`], for a task.
    pub fn poll_flush(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_flush(context)
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
pub struct StandardReader {
    end: PipeEnd,
    /// The host was asked, and has not answered yet.
    asked: bool,
}

impl StandardReader {
    /// Joins the pipe that the boot information names.
    ///
    /// # Errors
    ///
    /// [`PipeError`] if the place cannot be one of a pipe.
    pub fn join(reactor: &Arc<Reactor>, place: PipePlace) -> Result<Self, PipeError> {
        let end = PipeEnd::join(reactor, place)?;
        Ok(Self { end, asked: false })
    }

    /// Reads up to `buffer.len()` bytes of the host's standard input, waiting for
    /// at least one; 0 is the end.
    ///
    /// # Errors
    ///
    /// The errno that reading had on the host, once; [`Error::Protocol`] if the
    /// ring is broken.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let reactor = self.end.reactor().clone();
        reactor.block_on(self.read_async(buffer))
    }

    /// As [`StandardReader::read`], for a task. What the host has read for a future that
    /// was dropped is what the next read gives.
    ///
    /// # Errors
    ///
    /// As [`StandardReader::read`].
    pub async fn read_async(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        match self.end.try_read(buffer) {
            Err(error) if error.is_would_block() => {}
            // An earlier answer, or the end. Nothing else is outstanding beside it.
            result => {
                self.asked &= !matches!(result, Ok(1..));
                return result;
            }
        }
        if !self.asked && !buffer.is_empty() {
            // No answer is outstanding, and there is room for the request. A host that
            // takes none has ended the input, which the read finds.
            let wanted = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
            let _ = self.end.try_write(&ReadRequest(wanted).encode());
            self.asked = true;
        }
        let result = poll_fn(|context| self.end.poll_read(context, buffer)).await;
        // An answer is put into the ring as a whole: with its first byte it is there.
        self.asked = false;
        result
    }
}
