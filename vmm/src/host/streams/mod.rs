//! Standard input, standard output and the log: the host's ends of these pipes.
//!
//! Each has a thread of its own that makes blocking calls: the other end may be
//! a regular file, which epoll refuses, or a terminal that others share and
//! that must not become non-blocking.

mod input;
mod output;

use nix::libc;
use std::io;
use std::time::Duration;

pub use input::Incoming;
pub use output::{Outgoing, STALL_LIMIT, StreamProgress, drain_all};

/// Capacity of each direction of the pipes for input and output, in bytes: with
/// it, a pipe takes exactly 128 KiB.
pub const PIPE_SIZE: u64 = 65_512;

/// How long a thread that is given up on has to notice.
pub const INTERRUPT_LIMIT: Duration = Duration::from_millis(200);
/// Bytes that are moved at once.
const CHUNK: usize = 64 << 10;

/// What the guest is told of an error.
fn errno_of(error: &io::Error) -> u32 {
    let errno = error.raw_os_error().unwrap_or(match error.kind() {
        io::ErrorKind::BrokenPipe => libc::EPIPE,
        io::ErrorKind::StorageFull => libc::ENOSPC,
        _ => libc::EIO,
    });
    errno.unsigned_abs()
}

#[cfg(test)]
mod tests;
