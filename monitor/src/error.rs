//! Why a session could not begin.

use crate::policy::PolicyError;
use arca_shared::memory::ArenaError;
use arca_shared::pipe::PipeError;
use std::io;

/// Why the shared memory of a session could not be laid out.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The arena has no block of that size left.
    #[error("the arena has no room for {what} of {size} bytes; give the session a larger one")]
    NoRoom {
        /// What was to be allocated.
        what: &'static str,
        /// Its size, in bytes.
        size: u64,
    },
    /// A pipe of that size cannot be.
    #[error(transparent)]
    Pipe(#[from] PipeError),
    /// The arena gave an address that is not its own.
    #[error(transparent)]
    Arena(#[from] ArenaError),
    /// The host gave no eventfd.
    #[error("cannot make an eventfd")]
    Eventfd(#[source] io::Error),
}

/// Why a monitor could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The policy cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The host gave no epoll or eventfd.
    #[error("cannot set up the monitor's event loop")]
    Host(#[from] io::Error),
}
