//! Signals to the process on the host that carries the guest, for programs that end in
//! order or read their configuration anew.
//!
//! A program that asks for none is stopped by them. One that has asked for SIGINT or
//! SIGTERM once sees to the first itself, and has 5 seconds to end by then: it is
//! stopped after that, and at once by a second one.

use crate::net::Error;
use crate::runtime;
use arca_shared::errno::Errno;

/// A signal that a program can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Signal {
    /// SIGHUP: the terminal is gone, or the configuration is another.
    HangUp = 1,
    /// SIGINT: somebody has interrupted the program.
    Interrupt = 2,
    /// SIGTERM: the program is to end.
    Terminate = 15,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::HangUp, Self::Interrupt, Self::Terminate];
}

/// Waits for one of these signals. From the first call on they are the program's to see
/// to; one that comes while it does not wait is what the next call gives. Dropping the
/// future loses none.
///
/// # Errors
///
/// EINVAL if there are none; ENOSYS from a host that cannot tell.
pub async fn wait(signals: &[Signal]) -> Result<Signal, Error> {
    let bits = signals.iter().fold(0, |bits, &one| bits | 1 << one as u8);
    let came = runtime::session().signal(bits).await?;
    let known = Signal::ALL.into_iter().find(|&one| one as u8 == came);
    known.ok_or(Errno::EINVAL.into())
}

/// Waits until the program is to end: for SIGTERM, SIGINT or SIGHUP.
///
/// ```ignore
/// // Serves until it is told to end, then lets the connections that it has go on.
/// match select(accept_all(&listener), signal::shutdown()).await {
///     Either::First(error) => return Err(error),
///     Either::Second(_) => drop(listener),
/// }
/// ```
///
/// # Errors
///
/// As [`wait`].
pub async fn shutdown() -> Result<Signal, Error> {
    wait(&Signal::ALL).await
}
