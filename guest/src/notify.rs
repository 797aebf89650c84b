//! A notification that tasks wait for.

use crate::tasks;
use alloc::collections::VecDeque;
use arca_shared::protocol::task_table::Wait;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use spin::Mutex;

/// Wakes tasks that wait for something to happen, which some other state tells. A
/// notification for one that comes while nobody waits is kept for the next who does.
#[derive(Default)]
pub struct Notify(Mutex<State>);

#[derive(Default)]
struct State {
    /// A notification is kept.
    kept: bool,
    waiting: VecDeque<(u64, Waiter)>,
    /// Number of the next who waits.
    next: u64,
}

enum Waiter {
    Waiting(Waker),
    /// Notified alone: if it is gone by then, another one is in its place.
    One,
    /// Notified with all others.
    All,
}

impl Notify {
    /// A notification that has not happened.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(State {
            kept: false,
            waiting: VecDeque::new(),
            next: 0,
        }))
    }

    /// Notifies the one that has waited longest, or the next that waits.
    pub fn notify_one(&self) {
        let mut state = self.0.lock();
        let mut waiters = state.waiting.iter_mut().map(|(_, waiter)| waiter);
        let oldest = waiters.find(|waiter| matches!(waiter, Waiter::Waiting(_)));
        let notified = oldest.map(|waiter| core::mem::replace(waiter, Waiter::One));
        match notified {
            Some(Waiter::Waiting(waker)) => {
                drop(state);
                waker.wake();
            }
            _ => state.kept = true,
        }
    }

    /// Notifies all that wait now.
    pub fn notify_waiters(&self) {
        let mut wakers = alloc::vec::Vec::new();
        for (_, waiter) in &mut self.0.lock().waiting {
            if let Waiter::Waiting(_) = waiter
                && let Waiter::Waiting(waker) = core::mem::replace(waiter, Waiter::All)
            {
                wakers.push(waker);
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits for a notification; one counts from the first poll on. Dropping the future
    /// loses none that was for one alone.
    pub fn notified(&self) -> Notified<'_> {
        Notified {
            notify: self,
            number: None,
        }
    }
}

/// A future that ends with a notification; see [`Notify::notified`].
#[derive(Debug)]
#[must_use = "a future does nothing unless awaited"]
pub struct Notified<'a> {
    notify: &'a Notify,
    /// Its number while it is in the line.
    number: Option<u64>,
}

impl Notified<'_> {
    /// Leaves the line, and says how it stood.
    fn leave(&mut self, state: &mut State) -> Option<Waiter> {
        let number = self.number.take()?;
        let mut places = state.waiting.iter();
        let place = places.position(|(other, _)| *other == number)?;
        state.waiting.remove(place).map(|(_, waiter)| waiter)
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let notify = self.notify;
        let mut state = notify.0.lock();
        match self.number {
            None => {
                if core::mem::take(&mut state.kept) {
                    return Poll::Ready(());
                }
                let number = state.next;
                state.next += 1;
                let waiter = Waiter::Waiting(context.waker().clone());
                state.waiting.push_back((number, waiter));
                self.number = Some(number);
            }
            Some(number) => {
                let mut waiting = state.waiting.iter_mut();
                match waiting.find(|(other, _)| *other == number) {
                    Some((_, Waiter::Waiting(waker))) => waker.clone_from(context.waker()),
                    _ => {
                        self.leave(&mut state);
                        return Poll::Ready(());
                    }
                }
            }
        }
        drop(state);
        tasks::waits_for(Wait::Lock(core::ptr::from_ref(notify).addr() as u64));
        Poll::Pending
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let notify = self.notify;
        let left = self.leave(&mut notify.0.lock());
        if let Some(Waiter::One) = left {
            notify.notify_one();
        }
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notify")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;

    fn is_ready(notified: &mut Pin<Box<Notified<'_>>>) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        notified.as_mut().poll(&mut context).is_ready()
    }

    #[test]
    fn one_is_notified_at_a_time_in_the_order_of_waiting() {
        let notify = Notify::new();
        let (mut first, mut second) = (Box::pin(notify.notified()), Box::pin(notify.notified()));
        assert!(!is_ready(&mut first) && !is_ready(&mut second));
        notify.notify_one();
        assert!(!is_ready(&mut second) && is_ready(&mut first));
        notify.notify_one();
        assert!(is_ready(&mut second));
        // Kept once, however often.
        notify.notify_one();
        notify.notify_one();
        assert!(is_ready(&mut Box::pin(notify.notified())));
        assert!(!is_ready(&mut Box::pin(notify.notified())));
    }

    #[test]
    fn one_that_is_gone_hands_its_notification_on() {
        let notify = Notify::new();
        let (mut first, mut second) = (Box::pin(notify.notified()), Box::pin(notify.notified()));
        assert!(!is_ready(&mut first) && !is_ready(&mut second));
        notify.notify_one();
        drop(first);
        assert!(is_ready(&mut second));
        let mut last = Box::pin(notify.notified());
        assert!(!is_ready(&mut last));
        notify.notify_one();
        drop(last);
        assert!(is_ready(&mut Box::pin(notify.notified())), "it is kept");
    }

    #[test]
    fn all_that_wait_are_notified_and_nothing_is_kept() {
        let notify = Notify::new();
        let mut all = [(); 3].map(|()| Box::pin(notify.notified()));
        assert!(all.iter_mut().all(|one| !is_ready(one)));
        notify.notify_waiters();
        let [mut first, second, mut third] = all;
        drop(second);
        assert!(is_ready(&mut first) && is_ready(&mut third));
        assert!(!is_ready(&mut Box::pin(notify.notified())));
    }
}
