//! How readers and writers of the Arca end of a pipe wait.

use super::{PipeEnd, Take};
use crate::errno::Errno;
use crate::error::Error;
use crate::memory::ShmOffset;
use crate::protocol::task_table::Wait;
use crate::ring::{ArenaRing, Arm, InvalidCursor, Producer};
use core::future::poll_fn;
use core::pin::pin;
use core::task::{Context, Poll};

/// A reader that has taken this many bytes without waiting parks at once while the
/// next as many arrive: polling for them would take a core from whoever brings them.
pub(super) const BULK: usize = 64 << 10;

impl PipeEnd {
    /// Asks the monitor for a notification of data; [`Arm::Ready`] if
    /// [`PipeEnd::try_read`] has something to say already, be it an error.
    pub(super) fn arm_data(&self) -> Arm {
        let input = &mut *self.input.lock();
        match &mut input.ring {
            // Whoever gives it back wakes those that wait.
            _ if input.lending.refuses() => Arm::Armed,
            Some(ring) => {
                let arm = ring.arm_data(0).unwrap_or(Arm::Ready);
                if arm == Arm::Armed && core::mem::take(&mut input.since_wait) >= BULK {
                    self.reactor.skip_next_poll();
                }
                arm
            }
            None => Arm::Ready,
        }
    }

    /// Asks the monitor for a notification of room; [`Arm::Ready`] if
    /// [`PipeEnd::try_write`] has something to say already, be it an error.
    pub(super) fn arm_room(&self) -> Arm {
        self.arm_output(|ring| ring.arm_room(1))
    }

    /// Asks the monitor for a notification of room; [`Arm::Ready`] if
    /// [`PipeEnd::try_flush`] has something to say already, be it an error.
    pub(super) fn arm_flush(&self) -> Arm {
        self.arm_output(|ring| ring.arm_room(ring.capacity()))
    }

    fn arm_output(
        &self,
        arm: impl FnOnce(&mut Producer<ArenaRing>) -> Result<Arm, InvalidCursor>,
    ) -> Arm {
        let output = &mut *self.output.lock();
        match &mut output.ring {
            // Whoever gives it back wakes those that wait.
            Some(_) if output.lending.refuses() => Arm::Armed,
            Some(ring) => arm(ring).unwrap_or(Arm::Ready),
            None => Arm::Ready,
        }
    }

    /// What `attempt` gives, or waits for something to read.
    pub(in crate::client) fn poll_data<T>(
        &self,
        context: &mut Context<'_>,
        mut attempt: impl FnMut() -> Result<T, Error>,
    ) -> Poll<Result<T, Error>> {
        loop {
            match attempt() {
                Err(error) if error.is_would_block() => {}
                result => return Poll::Ready(result),
            }
            self.events.readers.add(context.waker());
            if self.arm_data() == Arm::Armed {
                self.waits_for(Wait::Read);
                return Poll::Pending;
            }
        }
    }

    /// What `attempt` gives, or waits for room to write.
    pub(in crate::client) fn poll_room<T>(
        &self,
        context: &mut Context<'_>,
        mut attempt: impl FnMut() -> Result<T, Error>,
    ) -> Poll<Result<T, Error>> {
        loop {
            match attempt() {
                Err(error) if error.is_would_block() => {}
                result => return Poll::Ready(result),
            }
            self.events.writers.add(context.waker());
            if self.arm_room() == Arm::Armed {
                self.waits_for(Wait::Write);
                return Poll::Pending;
            }
        }
    }

    fn waits_for(&self, wait: fn(ShmOffset) -> Wait) {
        self.reactor.hal().waits_for(wait(self.shm_offset()));
    }

    /// Waits until the other side has taken everything that was written.
    ///
    /// # Errors
    ///
    /// Once the other side takes no more: the pipe's errno, once, and then EPIPE.
    pub fn flush(&self) -> Result<(), Error> {
        self.block(None, |context| self.poll_flush(context))
    }

    /// As [`PipeEnd::flush`], for a task.
    pub fn poll_flush(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            match self.try_flush() {
                Err(error) if error.is_would_block() => {}
                result => return Poll::Ready(result),
            }
            self.events.writers.add(context.waker());
            if self.arm_flush() == Arm::Armed {
                self.waits_for(Wait::Flush);
                return Poll::Pending;
            }
        }
    }

    /// [`PipeEnd::try_read`], or waits.
    pub fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, Error>> {
        self.poll_take(context, buffer, Take::All)
    }

    /// [`PipeEnd::try_peek`], or waits.
    pub fn poll_peek(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, Error>> {
        self.poll_take(context, buffer, Take::Errno)
    }

    pub(in crate::client) fn poll_take(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
        take: Take,
    ) -> Poll<Result<usize, Error>> {
        self.poll_data(context, || self.take(buffer, take))
    }

    /// Waits until [`PipeEnd::is_readable`].
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        let ready = || self.is_readable().then_some(()).ok_or(Errno::EAGAIN.into());
        self.poll_data(context, ready).map(|_| ())
    }

    /// Waits until [`PipeEnd::is_writable`].
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        let ready = || self.is_writable().then_some(()).ok_or(Errno::EAGAIN.into());
        self.poll_room(context, ready).map(|_| ())
    }

    /// [`PipeEnd::try_write`], or waits.
    pub fn poll_write(
        &self,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<Result<usize, Error>> {
        self.poll_room(context, || self.try_write(buffer))
    }

    /// Waits on the current sleeper until `poll` is ready; EAGAIN when `timeout`
    /// nanoseconds have passed before that.
    pub(in crate::client) fn block<T>(
        &self,
        timeout: Option<u64>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<Result<T, Error>>,
    ) -> Result<T, Error> {
        let Some(timeout) = timeout else {
            return self.reactor.block_on(poll_fn(poll));
        };
        let deadline = self.reactor.hal().now().saturating_add(timeout);
        let mut timer = pin!(self.reactor.sleep_until(deadline));
        self.reactor.block_on(poll_fn(|context| {
            if let Poll::Ready(result) = poll(context) {
                return Poll::Ready(result);
            }
            let expired = timer.as_mut().poll(context);
            expired.map(|()| Err(Errno::EAGAIN.into()))
        }))
    }

    /// [`PipeEnd::try_read`], waiting for at most `timeout` nanoseconds.
    ///
    /// # Errors
    ///
    /// As [`PipeEnd::try_read`].
    pub fn read(&self, buffer: &mut [u8], timeout: Option<u64>) -> Result<usize, Error> {
        self.read_take(buffer, timeout, Take::All)
    }

    pub(in crate::client) fn read_take(
        &self,
        buffer: &mut [u8],
        timeout: Option<u64>,
        take: Take,
    ) -> Result<usize, Error> {
        match self.take(buffer, take) {
            Err(error) if error.is_would_block() => {}
            result => return result,
        }
        self.block(timeout, |context| self.poll_take(context, buffer, take))
    }

    /// [`PipeEnd::try_write`], waiting for at most `timeout` nanoseconds.
    ///
    /// # Errors
    ///
    /// As [`PipeEnd::try_write`].
    pub fn write(&self, buffer: &[u8], timeout: Option<u64>) -> Result<usize, Error> {
        match self.try_write(buffer) {
            Err(error) if error.is_would_block() => {}
            result => return result,
        }
        self.block(timeout, |context| self.poll_write(context, buffer))
    }
}
