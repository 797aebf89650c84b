//! Wakers that wait for the same thing.

use alloc::collections::VecDeque;
use core::task::Waker;
use spin::Mutex;

/// A set of wakers. Its memory is kept between uses, so that waiting does not
/// allocate once it has waited before.
#[derive(Default)]
pub struct Waiters {
    wakers: Mutex<VecDeque<Waker>>,
}

impl Waiters {
    /// Adds a waker, unless one for the same task is there.
    pub fn add(&self, waker: &Waker) {
        let mut wakers = self.wakers.lock();
        if !wakers.iter().any(|other| other.will_wake(waker)) {
            wakers.push_back(waker.clone());
        }
    }

    /// Wakes those that are there now, and forgets them.
    pub fn wake(&self) {
        let count = self.wakers.lock().len();
        for _ in 0..count {
            // Taken one by one and woken outside the lock: a waker may run code
            // that comes back here.
            let Some(waker) = self.wakers.lock().pop_front() else {
                return;
            };
            waker.wake();
        }
    }
}
