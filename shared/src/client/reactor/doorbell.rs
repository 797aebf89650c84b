//! When the doorbell is rung: for each mark at once, or a moment later for several.
//!
//! A doorbell leaves the guest, and while the vCPU is out it puts nothing into a ring.
//! A monitor that has its core in that time is done with what was there and sleeps again,
//! so that the next piece takes a doorbell as well. Where several brief tasks can go on,
//! what they have for the monitor may go with one. So amid a [burst](crate::notify::DOORBELL_BURST)
//! a doorbell is deferred while brief tasks are run, and none is begun once it has waited
//! for as long as it takes itself. It is rung before anything else. That a task is brief is
//! foreseen by its runs of late; where that is wrong, or the vCPU loses its core, the
//! monitor looks by itself after a while.

use super::Reactor;
use super::parker::Shared;
use crate::notify::{Counter, DOORBELL_BURST, Slot};
use core::sync::atomic::{AtomicU64, Ordering};

/// No moment.
const NEVER: u64 = u64::MAX;

/// Whether `now` is less than that long after `since`.
fn is_within(length: u64, since: u64, now: u64) -> bool {
    since.checked_add(length).is_some_and(|end| now < end)
}

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

    /// Whether this is amid a burst.
    fn is_burst(&self, now: u64) -> bool {
        is_within(
            DOORBELL_BURST,
            self.before_last.load(Ordering::Relaxed),
            now,
        )
    }

    /// Takes note of one that is about to be rung.
    fn rung(&self, now: u64) {
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
        let current = self.current();
        let was_deferred = self.parkers[current].doorbell.is_deferred();
        let asleep = notify.monitor().is_asleep();
        if !asleep || was_deferred {
            // What is rung now or later, if anything is, is rung for both.
            notify.count(current, Counter::Suppressed);
        }
        if asleep && !self.defers_doorbell() {
            self.ring_doorbell();
        }
    }

    /// Does a piece of queued work, and says whether there was one. A doorbell that is
    /// deferred is rung before it, unless that is brief.
    pub fn work(&self) -> bool {
        let hal = &self.shared.hal;
        let doorbell = &self.parkers[self.current()].doorbell;
        let since = doorbell.deferred.load(Ordering::Relaxed);
        if since != NEVER
            && !(is_within(hal.doorbell_time(), since, hal.now()) && hal.brief_work_waits())
        {
            self.ring_doorbell();
        }
        hal.work()
    }

    /// Rings the doorbell that is deferred, if one is: before the current sleeper does
    /// anything but brief work.
    pub(super) fn ring_deferred(&self) {
        if self.parkers[self.current()].doorbell.is_deferred() {
            self.ring_doorbell();
        }
    }

    /// Defers the doorbell for a mark, if that may be.
    fn defers_doorbell(&self) -> bool {
        let hal = &self.shared.hal;
        let doorbell = &self.parkers[self.current()].doorbell;
        let (now, takes) = (hal.now(), hal.doorbell_time());
        let since = match doorbell.deferred.load(Ordering::Relaxed) {
            NEVER => now,
            since => since,
        };
        // The burst counts for each mark: after its end the monitor need not look.
        let defers = doorbell.is_burst(now)
            && is_within(takes, since, now)
            && hal.runs_brief_work()
            && hal.brief_work_waits();
        if defers {
            doorbell.deferred.store(since, Ordering::Relaxed);
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
            // Before it is rung, so that the monitor has not heard it earlier.
            doorbell.rung(hal.now());
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
