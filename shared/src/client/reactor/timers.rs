//! The timers that wait: wakers by deadline.

use crate::client::hal::Hal;
use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::Waker;
use spin::Mutex;

/// A deadline, in nanoseconds of [`Hal::now`], and a number that tells apart the
/// timers that have the same.
pub(super) type Key = (u64, u64);

/// The timers that wait, by deadline.
pub(super) struct Timers {
    wakers: Mutex<BTreeMap<Key, Waker>>,
    /// The earliest deadline, or `u64::MAX`. Written under the lock; read without
    /// it, where a stale value costs one check for nothing.
    nearest: AtomicU64,
    next: AtomicU64,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            wakers: Mutex::default(),
            nearest: AtomicU64::new(u64::MAX),
            next: AtomicU64::new(0),
        }
    }
}

impl Timers {
    /// The earliest deadline, or `u64::MAX`.
    pub(super) fn nearest(&self) -> u64 {
        // Relaxed: see the field.
        self.nearest.load(Ordering::Relaxed)
    }

    /// Wakes whose deadline has come; whether there was anyone.
    pub(super) fn fire(&self, hal: &dyn Hal) -> bool {
        let nearest = self.nearest();
        if nearest == u64::MAX || nearest > hal.now() {
            return false;
        }
        let mut any = false;
        loop {
            let now = hal.now();
            let mut wakers = self.wakers.lock();
            let due = wakers.first_entry().filter(|first| first.key().0 <= now);
            let waker = due.map(|first| first.remove());
            self.set_nearest(&wakers);
            drop(wakers);
            let Some(waker) = waker else {
                return any;
            };
            any = true;
            waker.wake();
        }
    }

    /// The key of a new timer.
    pub(super) fn key(&self, deadline: u64) -> Key {
        // Relaxed: the number only has to be another one each time.
        (deadline, self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Sets the waker of a timer; whether it had none and its deadline is now the
    /// earliest.
    pub(super) fn set(&self, key: Key, waker: Waker) -> bool {
        let mut wakers = self.wakers.lock();
        let previous = wakers.insert(key, waker);
        let is_nearest = wakers.keys().next() == Some(&key);
        self.set_nearest(&wakers);
        drop(wakers);
        is_nearest && previous.is_none()
    }

    pub(super) fn remove(&self, key: Key) {
        let mut wakers = self.wakers.lock();
        let waker = wakers.remove(&key);
        self.set_nearest(&wakers);
        drop(wakers);
        drop(waker);
    }

    fn set_nearest(&self, wakers: &BTreeMap<Key, Waker>) {
        let nearest = wakers.keys().next().map_or(u64::MAX, |key| key.0);
        self.nearest.store(nearest, Ordering::Relaxed);
    }
}
