//! Waiting for time to pass.

use crate::net::{Errno, Error};
use crate::runtime;
use crate::time::{Duration, Instant};
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;

/// Waits until `duration` has passed.
pub async fn sleep(duration: Duration) {
    sleep_until(Instant::now() + duration).await;
}

/// Waits until the clock has reached `deadline`.
pub async fn sleep_until(deadline: Instant) {
    runtime::reactor().sleep_until(deadline.as_boot_ns()).await;
}

/// The time given to [`timeout`] ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct Elapsed;

impl From<Elapsed> for Error {
    fn from(_: Elapsed) -> Self {
        Errno::ETIMEDOUT.into()
    }
}

impl embedded_io::Error for Elapsed {
    fn kind(&self) -> embedded_io::ErrorKind {
        embedded_io::ErrorKind::TimedOut
    }
}

/// Runs `future` for at most `duration`, and drops it then. A future that is
/// ready at the same time wins.
///
/// # Errors
///
/// [`Elapsed`] if the time ran out first.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut timer = pin!(sleep(duration));
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        timer.as_mut().poll(context).map(|()| Err(Elapsed))
    })
    .await
}

/// Ticks of a clock; see [`interval`].
#[derive(Debug)]
pub struct Interval {
    next: Instant,
    period: Duration,
}

/// Ticks at once, and then each time that `period` has passed, at least a nanosecond.
#[must_use]
pub fn interval(period: Duration) -> Interval {
    interval_at(Instant::now(), period)
}

/// As [`interval`], with the first tick at `start`.
#[must_use]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    Interval {
        next: start,
        period: period.max(Duration::from_nanos(1)),
    }
}

impl Interval {
    /// Waits for the next tick, and gives the time that it was due. Ticks that nobody
    /// waited for in time come at once, one after the other. Dropping the future loses
    /// none.
    pub async fn tick(&mut self) -> Instant {
        let due = self.next;
        sleep_until(due).await;
        self.next = due + self.period;
        due
    }

    /// Forgets ticks that are due: the next one comes when the period has passed from
    /// now on.
    pub fn reset(&mut self) {
        self.next = Instant::now() + self.period;
    }

    /// Time between two ticks.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.period
    }
}
