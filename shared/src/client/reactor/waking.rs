//! Which sleeper is woken for what another one has, and leaves to it.

use super::Reactor;
use super::parker::Shared;
use core::sync::atomic::Ordering;

impl Reactor {
    /// Wakes one sleeper that sleeps and may run work, if there is one, and none polls
    /// for it: for whoever has queued some. In a [`Reactor::turn`] it does nothing.
    pub fn wake_worker(&self) {
        let Shared { notify, hal, .. } = &*self.shared;
        if self.parkers[self.current()].turning.load(Ordering::Relaxed) {
            return;
        }
        let finds_it = |sleeper| notify.vcpu(sleeper).is_polling() && hal.may_work(sleeper);
        if !(0..self.shared.sleepers).any(finds_it) {
            self.wake_one(|sleeper| hal.may_work(sleeper));
        }
    }

    /// Wakes that sleeper, if it sleeps: for whoever has queued something for it.
    pub fn wake(&self, sleeper: usize) {
        // The current one is awake, and looks once more before it sleeps.
        if sleeper != self.current() && sleeper < self.shared.sleepers {
            self.wake_if_asleep(sleeper);
        }
    }

    /// Wakes the first sleeper that sleeps and is `fit`, if there is one.
    pub(super) fn wake_one(&self, fit: impl Fn(usize) -> bool) {
        let notify = &self.shared.notify;
        // In this order: what is asked about a sleeper is true while it sleeps.
        let woken = |sleeper| {
            notify.vcpu(sleeper).is_asleep() && fit(sleeper) && self.wake_if_asleep(sleeper)
        };
        let _ = (0..self.shared.sleepers).any(woken);
    }

    /// Wakes that sleeper if it sleeps; whether it did.
    fn wake_if_asleep(&self, sleeper: usize) -> bool {
        let sleeps = self.shared.notify.vcpu(sleeper).claim_wake();
        if sleeps {
            self.shared.hal.kick(sleeper);
        }
        sleeps
    }

    /// Hands on what the current sleeper was woken for and will not do soon: it goes
    /// on with what it waited for, which may take long. A wake goes to one sleeper,
    /// and stands for all that was there by then.
    pub(super) fn hand_on(&self) {
        let Shared {
            notify,
            hal,
            sleepers,
        } = &*self.shared;
        if notify.to_guest().any() {
            self.turn();
        }
        if hal.work_waits() {
            self.wake_worker();
        }
        let nearest = self.timers.nearest();
        if nearest == u64::MAX {
            return;
        }
        let current = self.current();
        let attends = |other: usize| {
            notify.vcpu(other).is_asleep()
                && self.parkers[other].until.load(Ordering::Relaxed) <= nearest
        };
        if !(0..*sleepers).any(|other| other != current && attends(other)) {
            self.wake_one(|_| true);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
