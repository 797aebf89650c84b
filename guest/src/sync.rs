//! Synchronisation between tasks, and between vCPUs.
//!
//! Most types that tasks wait on are embassy-sync's, over a lock of ours; a channel that
//! closes and `Notify` are in files of their own. The `Lock` at the end is for code that
//! is not a task.

use crate::{tasks, vcpu};
use alloc::vec::Vec;
use arca_shared::protocol::task_table::Wait;
use core::cell::UnsafeCell;
use core::fmt;
use core::hint;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::task::{Poll, Waker};

/// The lock under embassy-sync's types: each has one of its own, held for a few
/// instructions at a time, so waiting for it by spinning is short.
pub struct SpinRawMutex(AtomicBool);

// SAFETY: between the successful exchange and the store at the end no other
// vCPU gets past the exchange.
unsafe impl embassy_sync::blocking_mutex::raw::RawMutex for SpinRawMutex {
    const INIT: Self = SpinRawMutex(AtomicBool::new(false));

    fn lock<R>(&self, f: impl FnOnce() -> R) -> R {
        // Who finds that it has to wait does so while it has the lock, and says nothing
        // of it.
        tasks::waits_for(Wait::Lock(self.0.as_ptr().addr() as u64));
        // Acquire pairs with the release below: what the last holder wrote is
        // seen by the next one.
        while self
            .0
            .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            hint::spin_loop();
        }
        let result = f();
        // Release pairs with the acquire above.
        self.0.store(false, Ordering::Release);
        result
    }
}

/// A mutual exclusion that tasks wait for by `.await`, and may hold over one.
pub type Mutex<T> = embassy_sync::mutex::Mutex<SpinRawMutex, T>;
/// A bounded channel of `N` values, from any number of tasks to any number.
pub type Channel<T, const N: usize> = embassy_sync::channel::Channel<SpinRawMutex, T, N>;
pub use crate::channel::{Receiver, SendError, Sender, TryRecvError, TrySendError, channel};
pub use crate::notify::{Notified, Notify};

/// The latest value of something, for one task to wait on.
pub type Signal<T> = embassy_sync::signal::Signal<SpinRawMutex, T>;

/// A lock that the caller may hold while it waits for the host, such as that of
/// standard output.
///
/// Whoever waits for it sleeps. While it is held, no task is started on the
/// holder's vCPU, so none can ask for it there; taking it twice on one vCPU
/// would never end.
pub(crate) struct Lock<T> {
    /// The holder's vCPU index plus one; 0 when free.
    holder: AtomicUsize,
    /// Those who found it taken.
    waiting: spin::Mutex<Vec<Waker>>,
    value: UnsafeCell<T>,
}

// SAFETY: `value` is reached only through the guard, of which there is one at a
// time, so that sharing the lock only ever moves the use of `T` between vCPUs.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Lock<T> {
        Lock {
            holder: AtomicUsize::new(0),
            waiting: spin::Mutex::new(Vec::new()),
            value: UnsafeCell::new(value),
        }
    }

    /// Takes the lock if it is free.
    pub(crate) fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        // Acquire pairs with the release in the guard's drop: what the last
        // holder wrote is seen by this one.
        self.holder
            .compare_exchange(0, vcpu::current() + 1, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
            .then_some(LockGuard { lock: self })
    }

    /// Whether the current vCPU holds the lock.
    pub(crate) fn is_held_here(&self) -> bool {
        // Relaxed: only this vCPU stores or clears its own index.
        self.holder.load(Ordering::Relaxed) == vcpu::current() + 1
    }

    /// Takes the lock, calls `f`, and gives it back; no task runs on this vCPU
    /// meanwhile.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        vcpu::undisturbed(|| {
            let mut guard = match self.try_lock() {
                Some(guard) => guard,
                None => crate::block_on(core::future::poll_fn(|context| {
                    if let Some(guard) = self.try_lock() {
                        return Poll::Ready(guard);
                    }
                    self.waiting.lock().push(context.waker().clone());
                    // Looking again after leaving the waker: a holder that let
                    // go in between may not have seen it. Both go through the
                    // lock of `waiting`, which orders them.
                    match self.try_lock() {
                        Some(guard) => Poll::Ready(guard),
                        None => {
                            tasks::waits_for(Wait::Lock(self.holder.as_ptr().addr() as u64));
                            Poll::Pending
                        }
                    }
                })),
            };
            f(&mut guard)
        })
    }
}

/// A [`Lock`] that is held.
pub(crate) struct LockGuard<'a, T> {
    lock: &'a Lock<T>,
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one, so nothing else refers to the value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the only one, so nothing else refers to the value.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for LockGuard<'_, T> {
    fn drop(&mut self) {
        // Release pairs with the acquire in `try_lock`.
        self.lock.holder.store(0, Ordering::Release);
        let waiting = core::mem::take(&mut *self.lock.waiting.lock());
        for waker in waiting {
            waker.wake();
        }
    }
}

impl fmt::Debug for SpinRawMutex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpinRawMutex")
    }
}

/// Critical sections for crates that ask for them: one lock for the whole guest,
/// which a vCPU may take again while it holds it.
#[cfg(feature = "image")]
mod critical {
    use super::{AtomicUsize, Ordering, hint, vcpu};

    /// The holder's vCPU index plus one; 0 when free.
    static HOLDER: AtomicUsize = AtomicUsize::new(0);

    struct Critical;
    critical_section::set_impl!(Critical);

    // SAFETY: from the outermost `acquire` to the matching `release` no other
    // vCPU gets past its `acquire`, and there are no interrupts.
    unsafe impl critical_section::Impl for Critical {
        unsafe fn acquire() -> bool {
            let me = vcpu::current() + 1;
            // Relaxed: only this vCPU ever stores its own index.
            if HOLDER.load(Ordering::Relaxed) == me {
                return true;
            }
            // Acquire pairs with the release in `release`.
            while HOLDER
                .compare_exchange_weak(0, me, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
            {
                hint::spin_loop();
            }
            false
        }

        unsafe fn release(nested: bool) {
            if !nested {
                // Release pairs with the acquire in `acquire`.
                HOLDER.store(0, Ordering::Release);
            }
        }
    }
}
