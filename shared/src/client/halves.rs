//! The two directions of a stream, for tasks, owned or borrowed.

use super::AsyncTcpStream;
use super::handle::{BorrowedHandle, Handle};
use super::stream_core::StreamCore;
use super::transfer::{read_methods, write_methods};
use crate::error::Error;
use alloc::sync::Arc;
use core::fmt;

/// The receiving direction of a stream.
pub struct OwnedReadHalf {
    pub(super) core: Handle,
}

/// The sending direction of a stream; dropping it shuts sending down.
pub struct OwnedWriteHalf {
    pub(super) core: Arc<StreamCore>,
}

/// The receiving direction of a stream, borrowed.
pub struct ReadHalf<'a> {
    pub(super) core: BorrowedHandle<'a>,
}

/// The sending direction of a stream, borrowed.
pub struct WriteHalf<'a> {
    pub(super) core: &'a StreamCore,
}

impl ReadHalf<'_> {
    read_methods!([&mut] self);
}

impl WriteHalf<'_> {
    write_methods!([&mut] self);
}

impl OwnedReadHalf {
    read_methods!([&mut] self);

    /// The connection again, if `write` is its other half; else both as they
    /// were.
    ///
    /// # Errors
    ///
    /// The halves, if they are not of one stream.
    pub fn reunite(self, write: OwnedWriteHalf) -> Result<AsyncTcpStream, (Self, OwnedWriteHalf)> {
        if !self.core.is_of(&write.core) {
            return Err((self, write));
        }
        // Forgotten, so that it does not shut sending down; the reference that it has
        // is given up.
        let write = core::mem::ManuallyDrop::new(write);
        // SAFETY: `write` is never used or dropped again, so that its reference
        // is given up exactly once.
        drop(unsafe { core::ptr::read(&write.core) });
        Ok(AsyncTcpStream { core: self.core })
    }
}

impl OwnedWriteHalf {
    write_methods!([&mut] self);
}

impl Drop for OwnedWriteHalf {
    fn drop(&mut self) {
        self.core.end.close_write();
    }
}

impl OwnedReadHalf {
    pub(super) fn new(core: Handle) -> Self {
        Self { core }
    }
}

impl OwnedWriteHalf {
    pub(super) fn new(core: Arc<StreamCore>) -> Self {
        Self { core }
    }
}

impl<'a> ReadHalf<'a> {
    pub(super) fn new(core: BorrowedHandle<'a>) -> Self {
        Self { core }
    }
}

impl<'a> WriteHalf<'a> {
    pub(super) fn new(core: &'a StreamCore) -> Self {
        Self { core }
    }
}

macro_rules! debug {
    ($($half:ident $(<$lifetime:lifetime>)?),+) => {
        $(impl fmt::Debug for $half $(<$lifetime>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.core.describe(stringify!($half), f)
            }
        })+
    };
}

debug!(OwnedReadHalf, OwnedWriteHalf, ReadHalf<'_>, WriteHalf<'_>);
