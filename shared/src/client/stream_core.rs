//! What the handles and halves of one connected socket share.

use super::control_client::ControlClient;
use super::pipe_end::{Lent, PipeEnd, Room, Take};
use crate::client::reactor::Reactor;
use crate::errno::Errno;
use crate::error::Error;
use crate::protocol::message::{SocketOption, Target};
use alloc::sync::Arc;
use core::fmt;
use core::future::Future;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

/// Which directions to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Receiving.
    Read,
    /// Sending.
    Write,
    /// Both.
    Both,
}

/// What the handles of one stream share.
pub(super) struct StreamCore {
    control: Arc<ControlClient>,
    pub(super) end: PipeEnd,
    id: u32,
    local: SocketAddr,
    peer: SocketAddr,
    nonblocking: AtomicBool,
    pub(super) read_timeout: Timeout,
    pub(super) write_timeout: Timeout,
}

/// How long a call may wait, in nanoseconds; 0 is without end.
#[derive(Default)]
pub(super) struct Timeout(AtomicU64);

impl Timeout {
    // Relaxed, here and below: an option of one stream, which orders nothing.
    fn nanos(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&nanos| nanos != 0)
    }

    pub(super) fn get(&self) -> Option<Duration> {
        self.nanos().map(Duration::from_nanos)
    }

    /// EINVAL for a zero duration.
    pub(super) fn set(&self, timeout: Option<Duration>) -> Result<(), Error> {
        let nanos = match timeout {
            None => 0,
            Some(timeout) if timeout.is_zero() => return Err(Errno::EINVAL.into()),
            Some(timeout) => u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX),
        };
        self.0.store(nanos, Ordering::Relaxed);
        Ok(())
    }
}

impl StreamCore {
    pub(super) fn new(
        control: Arc<ControlClient>,
        end: PipeEnd,
        id: u32,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Self {
        Self {
            control,
            end,
            id,
            local,
            peer,
            nonblocking: AtomicBool::new(false),
            read_timeout: Timeout::default(),
            write_timeout: Timeout::default(),
        }
    }

    pub(super) fn addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.local, self.peer)
    }

    pub(super) fn read(&self, buffer: &mut [u8], take: Take) -> Result<usize, Error> {
        if self.is_nonblocking() {
            return self.end.take(buffer, take);
        }
        self.end.read_take(buffer, self.read_timeout.nanos(), take)
    }

    pub(super) fn peek(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        if self.is_nonblocking() {
            return self.end.try_peek(buffer);
        }
        self.end.block(self.read_timeout.nanos(), |context| {
            self.end.poll_peek(context, buffer)
        })
    }

    pub(super) fn read_vectored(&self, buffers: &mut [&mut [u8]]) -> Result<usize, Error> {
        if self.is_nonblocking() {
            return self.end.try_read_vectored(buffers);
        }
        self.end.block(self.read_timeout.nanos(), |context| {
            self.end
                .poll_data(context, || self.end.try_read_vectored(buffers))
        })
    }

    /// The bytes that are there, lent where they are.
    pub(super) fn read_in_place(&self) -> Result<Lent<'_>, Error> {
        match self.end.try_lend() {
            Err(error) if error.is_would_block() && !self.is_nonblocking() => {}
            result => return result,
        }
        let timeout = self.read_timeout.nanos();
        self.end
            .block(timeout, |context| self.end.poll_lend(context))
    }

    pub(super) fn write(&self, buffer: &[u8]) -> Result<usize, Error> {
        if self.is_nonblocking() {
            return self.end.try_write(buffer);
        }
        self.end.write(buffer, self.write_timeout.nanos())
    }

    pub(super) fn write_vectored(&self, buffers: &[&[u8]]) -> Result<usize, Error> {
        match self.end.try_write_vectored(buffers) {
            Err(error) if error.is_would_block() && !self.is_nonblocking() => {}
            result => return result,
        }
        self.end.block(self.write_timeout.nanos(), |context| {
            self.end
                .poll_room(context, || self.end.try_write_vectored(buffers))
        })
    }

    /// The room that is there, lent where it is.
    pub(super) fn write_in_place(&self) -> Result<Room<'_>, Error> {
        match self.end.try_room() {
            Err(error) if error.is_would_block() && !self.is_nonblocking() => {}
            result => return result,
        }
        let timeout = self.write_timeout.nanos();
        self.end
            .block(timeout, |context| self.end.poll_lend_room(context))
    }

    pub(super) fn reactor(&self) -> &Arc<Reactor> {
        self.control.reactor()
    }

    /// Runs a future of this stream to its end on the current sleeper.
    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.reactor().block_on(future)
    }

    // Relaxed, here and below: an option of this stream, which orders nothing.
    fn is_nonblocking(&self) -> bool {
        self.nonblocking.load(Ordering::Relaxed)
    }

    pub(super) fn set_nonblocking(&self, nonblocking: bool) {
        self.nonblocking.store(nonblocking, Ordering::Relaxed);
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> Result<(), Error> {
        if self.end.has_failed() {
            return Err(Errno::ENOTCONN.into());
        }
        match how {
            Shutdown::Read => self.end.close_read(),
            Shutdown::Write => self.end.close_write(),
            Shutdown::Both => self.end.close_both(),
        }
        Ok(())
    }

    pub(super) async fn get(&self, option: SocketOption) -> Result<u64, Error> {
        let target = Target::Connection(self.id);
        self.control.get_option(target, option).await
    }

    pub(super) async fn set(&self, option: SocketOption, value: u64) -> Result<(), Error> {
        let target = Target::Connection(self.id);
        self.control.set_option(target, option, value).await
    }

    /// What `Debug` says of a handle to the stream, which is of the type `name`.
    pub(super) fn describe(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("local", &self.local)
            .field("peer", &self.peer)
            .field("connection", &self.id)
            .finish()
    }
}
