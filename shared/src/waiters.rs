//! Wakers that wait for the same thing.

use alloc::vec::Vec;
use core::task::Waker;
use spin::Mutex;

/// A set of wakers. Its memory is kept between uses, so that waiting does not
/// allocate once it has waited before.
#[derive(Default)]
pub struct Waiters {
    wakers: Mutex<Vec<Waker>>,
}

impl Waiters {
    /// Adds a waker, unless one for the same task is there.
    pub fn add(&self, waker: &Waker) {
        let mut wakers = self.wakers.lock();
        if !wakers.iter().any(|other| other.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    /// Wakes all and forgets them.
    pub fn wake(&self) {
        loop {
            // Popped one by one and woken outside the lock: a waker may run
            // code that comes back here.
            let Some(waker) = self.wakers.lock().pop() else {
                return;
            };
            waker.wake();
        }
    }
}
