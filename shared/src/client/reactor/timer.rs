//! A future that waits for a deadline.

use super::Reactor;
use super::timers::Key;
use crate::protocol::task_table::Wait;
use alloc::sync::Arc;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

/// A future that is ready at its deadline.
#[must_use = "a timer does nothing unless awaited"]
pub struct Timer {
    reactor: Arc<Reactor>,
    deadline: u64,
    key: Option<Key>,
}

impl Reactor {
    /// A future that is ready at `deadline`, in nanoseconds of [`Hal::now`].
    ///
    /// [`Hal::now`]: crate::client::hal::Hal::now
    pub fn sleep_until(self: &Arc<Self>, deadline: u64) -> Timer {
        Timer {
            reactor: self.clone(),
            deadline,
            key: None,
        }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.reactor.shared.hal.now() >= self.deadline {
            return Poll::Ready(());
        }
        let timers = &self.reactor.timers;
        let key = self.key.unwrap_or_else(|| timers.key(self.deadline));
        let is_nearest = timers.set(key, context.waker().clone());
        self.key = Some(key);
        // A sleeper that went to sleep before has another deadline, or none; this
        // one may be busy when the time comes.
        if is_nearest && self.reactor.shared.sleepers > 1 {
            self.reactor.wake_one(|_| true);
        }
        self.reactor.hal().waits_for(Wait::Time(self.deadline));
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.reactor.timers.remove(key);
        }
    }
}
