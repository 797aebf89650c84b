//! What wakes one sleeper.

use super::doorbell::Doorbell;
use crate::client::hal::Hal;
use crate::notify::NotifyArea;
use alloc::sync::Arc;
use alloc::task::Wake;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// What reactor and wakers share: where sleep flags are, and how to wake.
pub(super) struct Shared {
    pub(super) notify: NotifyArea,
    pub(super) hal: Arc<dyn Hal>,
    pub(super) sleepers: usize,
}

/// Wakes a sleeper that is blocked in [`Reactor::block_on`](super::Reactor::block_on).
pub(super) struct Parker {
    shared: Arc<Shared>,
    sleeper: usize,
    /// The future that the sleeper waits for should be polled.
    pub(super) woken: AtomicBool,
    /// While it sleeps: when it wakes by itself, or `u64::MAX`.
    pub(super) until: AtomicU64,
    /// It takes marks now, and does next what that queues.
    pub(super) turning: AtomicBool,
    /// Turns that it has taken, around 0.
    pub(super) turns: AtomicU32,
    pub(super) doorbell: Doorbell,
}

impl Parker {
    pub(super) fn new(shared: &Arc<Shared>, sleeper: usize) -> Self {
        Self {
            shared: shared.clone(),
            sleeper,
            woken: AtomicBool::new(false),
            until: AtomicU64::new(u64::MAX),
            turning: AtomicBool::new(false),
            turns: AtomicU32::new(0),
            doorbell: Doorbell::new(),
        }
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Release: pairs with the Acquire in `block_on`; what the waker did
        // before is seen by the poll. The fence in `claim_wake` orders the store
        // before the load of the sleeper's flag.
        self.woken.store(true, Ordering::Release);
        if self.shared.notify.vcpu(self.sleeper).claim_wake() {
            self.shared.hal.kick(self.sleeper);
        }
    }
}
