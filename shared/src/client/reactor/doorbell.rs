//! When the doorbell is rung: for each mark at once, or a moment later for several.
//!
//! A doorbell leaves the guest, and while the vCPU is out it puts nothing into a ring.
//! A monitor that has its core in that time is done with what was there and sleeps again,
//! so that the next piece takes a doorbell as well. Where several brief tasks can go on,
//! what they have for the monitor may go with one. So amid a [burst](crate::notify::DOORBELL_BURST)
//! a doorbell is deferred for as long as it takes itself, and never while something runs
//! that may take longer: it is rung before that. A task that turns out to take longer
//! than it ever did cannot be foreseen; the monitor looks by itself then.

use super::Reactor;
use super::parker::Shared;
use crate::notify::{Counter, DOORBELL_BURST, Slot};
use core::sync::atomic::{AtomicU64, Ordering};

/// No moment.
const NEVER: u64 = u64::MAX;

/// The doorbells of one sleeper, in nanoseconds of its clock. Relaxed throughout: only the
/// sleeper itself uses it.
pub(super) struct Doorbell {
    /// When the last one was rung.
    last: AtomicU64,
    /// When the one before it was.
    before_last: AtomicU64,
    /// Since when one is deferred.
    deferred: AtomicU64,
}

impl Doorbell {
    pub(super) fn new() -> Self {
        let never = || AtomicU64::new(NEVER);
        Self {
            last: never(),
            before_last: never(),
            deferred: never(),
        }
    }

    fn is_deferred(&self) -> bool {
        self.deferred.load(Ordering::Relaxed) != NEVER
    }

    /// Whether a doorbell, which takes `takes`, may wait at this moment, or go on waiting.
    fn may_wait(&self, now: u64, takes: u64) -> bool {
        let (since, longest) = match self.deferred.load(Ordering::Relaxed) {
            NEVER => (self.before_last.load(Ordering::Relaxed), DOORBELL_BURST),
            deferred => (deferred, takes),
        };
        takes > 0 && since.checked_add(longest).is_some_and(|end| now < end)
    }

    /// Says that one is deferred, from now on if none was.
    fn defer(&self, now: u64) {
        if !self.is_deferred() {
            self.deferred.store(now, Ordering::Relaxed);
        }
    }

    /// Takes note of one that is rung.
    fn rings(&self, now: u64) {
        let last = self.last.swap(now, Ordering::Relaxed);
        self.before_last.store(last, Ordering::Relaxed);
    }
}

impl Reactor {
    /// Marks `slot` for the monitor, and rings the doorbell if it sleeps, now or once
    /// other brief work has been done; to be called after the ring change is published.
    pub fn notify_monitor(&self, slot: Slot) {
        let notify = &self.shared.notify;
        notify.to_monitor().mark(slot);
        if notify.monitor().is_asleep() && !self.defers_doorbell() {
            self.ring_doorbell();
        } else {
            notify.count(self.current(), Counter::Suppressed);
        }
    }

    /// Does a piece of queued work, and says whether there was one. What was deferred is
    /// rung unless more of that kind waits.
    pub fn work(&self) -> bool {
        let hal = &self.shared.hal;
        let any = hal.work();
        let doorbell = &self.parkers[self.current()].doorbell;
        if doorbell.is_deferred()
            && !(any && doorbell.may_wait(hal.now(), hal.doorbell_time()) && hal.brief_work_waits())
        {
            self.ring_doorbell();
        }
        any
    }

    /// Rings the doorbell that is deferred, if one is: before the current sleeper does
    /// anything but brief work.
    pub(super) fn ring_deferred(&self) {
        if self.parkers[self.current()].doorbell.is_deferred() {
            self.ring_doorbell();
        }
    }

    /// Defers the doorbell if that may be.
    fn defers_doorbell(&self) -> bool {
        let hal = &self.shared.hal;
        let doorbell = &self.parkers[self.current()].doorbell;
        let now = hal.now();
        let defers = doorbell.may_wait(now, hal.doorbell_time())
            && hal.runs_brief_work()
            && hal.brief_work_waits();
        if defers {
            doorbell.defer(now);
        }
        defers
    }

    /// Rings the doorbell if the monitor sleeps, for all that was marked.
    fn ring_doorbell(&self) {
        let Shared { notify, hal, .. } = &*self.shared;
        let current = self.current();
        let doorbell = &self.parkers[current].doorbell;
        doorbell.deferred.store(NEVER, Ordering::Relaxed);
        let counter = if notify.monitor().claim_wake() {
            // Taken before it rings, so that the monitor has not heard it earlier.
            doorbell.rings(hal.now());
            hal.ring_doorbell();
            Counter::Doorbells
        } else {
            Counter::Suppressed
        };
        notify.count(current, counter);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
