//! Waiting for time to pass.

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
