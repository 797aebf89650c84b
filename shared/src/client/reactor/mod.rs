//! The Arca side's event loop: from ready slots to wakers, timers, and sleep.
//!
//! There is no task of its own: whoever waits runs a [`Reactor::turn`] first,
//! and sleeps only when that finds nothing. Blocking calls and an executor share
//! it, on any number of sleepers.

mod doorbell;
mod parker;
mod timer;
mod timers;
mod waking;

pub use timer::Timer;

use crate::client::adaptive_poll::AdaptivePoll;
use crate::client::hal::Hal;
use crate::client::poll_yield::{Next, PollYield};
use crate::client::run_length::{RunLength, WORTH_A_WAKE};
use crate::memory::{Arena, ArenaError, ShmOffset};
use crate::notify::{Counter, NotifyArea, Slot};
use crate::protocol::layout::MAX_VCPUS;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::pin;
use core::sync::atomic::Ordering;
use core::task::{Context, Poll, Waker};
use parker::{Parker, Shared};
use spin::Mutex;
use timers::Timers;

/// A handler of a slot's readiness.
pub trait OnReady: Send + Sync {
    /// The monitor did something in this slot. Called by whatever sleeper took
    /// the mark; must not wait.
    fn ready(&self);
}

/// The event loop of an Arca side.
pub struct Reactor {
    shared: Arc<Shared>,
    handlers: Mutex<BTreeMap<Slot, Arc<dyn OnReady>>>,
    timers: Timers,
    /// One for each sleeper, made once, so that waiting allocates nothing.
    parkers: Vec<Arc<Parker>>,
    /// One for each sleeper, which alone takes its lock.
    poll_states: Vec<Mutex<PollState>>,
}

/// Whether and how long a sleeper polls before it parks.
struct PollState {
    adaptive: AdaptivePoll,
    yields: PollYield,
    /// The next time not at all: what is waited for takes its time.
    skip: bool,
}

/// See [`Reactor::moment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    sleeper: usize,
    turn: u32,
}

impl Reactor {
    /// A reactor for `sleepers` sleepers (at most [`MAX_VCPUS`]) over the
    /// notification area at `notify_offset`.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] if the area does not lie in the arena.
    pub fn new(
        arena: &Arena,
        notify_offset: u64,
        hal: Arc<dyn Hal>,
        sleepers: usize,
    ) -> Result<Arc<Self>, ArenaError> {
        let shared = Arc::new(Shared {
            notify: NotifyArea::join(arena, ShmOffset(notify_offset))?,
            hal,
            sleepers: sleepers.clamp(1, MAX_VCPUS),
        });
        let parkers = (0..shared.sleepers).map(|sleeper| Arc::new(Parker::new(&shared, sleeper)));
        Ok(Arc::new(Self {
            parkers: parkers.collect(),
            poll_states: (0..shared.sleepers)
                .map(|_| {
                    Mutex::new(PollState {
                        adaptive: AdaptivePoll::new(),
                        yields: PollYield::new(),
                        skip: false,
                    })
                })
                .collect(),
            shared,
            handlers: Mutex::new(BTreeMap::new()),
            timers: Timers::default(),
        }))
    }

    /// The sleeper that this code runs on; one past the last is taken as the last.
    fn current(&self) -> usize {
        self.shared.hal.current().min(self.shared.sleepers - 1)
    }

    /// The arena that the session lives in.
    #[must_use]
    pub fn arena(&self) -> &Arena {
        self.shared.notify.arena()
    }

    /// The machine underneath.
    #[must_use]
    pub fn hal(&self) -> &Arc<dyn Hal> {
        &self.shared.hal
    }

    /// Calls `handler` whenever `slot` becomes ready, until
    /// [`Reactor::deregister`].
    pub fn register(&self, slot: Slot, handler: Arc<dyn OnReady>) {
        self.handlers.lock().insert(slot, handler);
    }

    /// Stops calling the handler of a slot. To be done before the last flag of
    /// the slot's pipe is set: after that, the slot may be another pipe's.
    pub fn deregister(&self, slot: Slot) {
        let handler = self.handlers.lock().remove(&slot);
        drop(handler);
    }

    /// Whether the monitor is awake, as of now: it has something to do.
    pub fn is_monitor_awake(&self) -> bool {
        !self.shared.notify.monitor().is_asleep()
    }

    /// The moment that it is for the current sleeper: the same until its next
    /// [`Reactor::turn`], which it takes before anything that it waits for.
    pub fn moment(&self) -> Moment {
        let sleeper = self.current();
        // Relaxed: as in `turn`.
        let turn = self.parkers[sleeper].turns.load(Ordering::Relaxed);
        Moment { sleeper, turn }
    }

    /// Takes the slots that are ready and calls their handlers, then wakes the
    /// timers that are due. Says whether there was anything.
    ///
    /// Work that this queues wakes nobody: whoever calls this does it next, or hands it
    /// on.
    pub fn turn(&self) -> bool {
        let mut any = false;
        let ready = self.shared.notify.to_guest();
        let Parker { turning, turns, .. } = &*self.parkers[self.current()];
        // Relaxed, here and below: only the sleeper itself uses them.
        turning.store(true, Ordering::Relaxed);
        turns.store(
            turns.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
        if ready.any() {
            ready.take(|slot| {
                let handler = self.handlers.lock().get(&slot).cloned();
                if let Some(handler) = handler {
                    any = true;
                    handler.ready();
                }
            });
        }
        any |= self.timers.fire(&*self.shared.hal);
        turning.store(false, Ordering::Relaxed);
        any
    }

    /// Puts the current sleeper to sleep until something may have happened: a
    /// slot is ready, a timer is due, work was queued, or `ready` says so.
    pub fn wait(&self, ready: &dyn Fn() -> bool) {
        self.ring_deferred();
        let Shared { notify, hal, .. } = &*self.shared;
        let current = self.current();
        if hal.work_waits() && !hal.has_work() {
            // Not this sleeper's to do, whether it polls or sleeps.
            self.wake_worker();
        }
        let found = || notify.to_guest().any() || ready() || hal.has_work();
        let state = &self.poll_states[current];
        let limit = {
            let mut state = state.lock();
            match core::mem::take(&mut state.skip) {
                true => None,
                false => Some(state.adaptive.poll_budget(hal.poll_limit())),
            }
        };
        let sleeper = notify.vcpu(current);
        if let Some(limit) = limit.filter(|&limit| limit > 0 && !self.another_polls(current)) {
            if self.shared.sleepers > 1 {
                sleeper.prepare_poll();
            }
            if self.poll_until(limit, state, &found) {
                if self.shared.sleepers > 1 {
                    sleeper.finish_sleep();
                }
                return;
            }
        }
        let until = &self.parkers[current].until;
        // Relaxed, here and below: `prepare_sleep` publishes it, and whoever misses
        // what is stored after that causes a spurious wake-up.
        until.store(u64::MAX, Ordering::Relaxed);
        sleeper.prepare_sleep();
        if !found() {
            if hal.work_waits() {
                // It came meanwhile, and is not this sleeper's to do either.
                self.wake_worker();
            }
            // Whoever sets a nearer timer after this finds the sleep flag set, and
            // wakes us.
            let nearest = self.timers.nearest();
            until.store(nearest, Ordering::Relaxed);
            let deadline = (nearest != u64::MAX).then_some(nearest);
            let since = hal.now();
            if deadline.is_none_or(|deadline| deadline > since) {
                notify.count(current, Counter::Parks);
                hal.park(deadline);
                if limit == Some(0) {
                    let slept = hal.now().saturating_sub(since);
                    state.lock().adaptive.record_sleep(slept, hal.poll_limit());
                }
            }
        }
        sleeper.finish_sleep();
    }

    /// Has the current sleeper park at once the next time, because polling for what it is
    /// about to wait for would take a core from whoever brings it.
    pub fn skip_next_poll(&self) {
        self.poll_states[self.current()].lock().skip = true;
    }

    /// Whether another sleeper polls: one is enough.
    fn another_polls(&self, current: usize) -> bool {
        let polls = |sleeper| sleeper != current && self.shared.notify.vcpu(sleeper).is_polling();
        self.shared.sleepers > 1 && (0..self.shared.sleepers).any(polls)
    }

    /// Polls for at most `limit` nanoseconds, and not past the nearest timer; whether
    /// there was something to do.
    fn poll_until(&self, limit: u64, state: &Mutex<PollState>, found: &dyn Fn() -> bool) -> bool {
        let hal = &self.shared.hal;
        let nearest = self.timers.nearest();
        let began = hal.now();
        let end = began.saturating_add(limit);
        let mut yields_at = state.lock().yields.first(began);
        loop {
            let now = hal.now();
            if found() {
                state.lock().adaptive.record_hit();
                return true;
            }
            if now >= nearest {
                return false;
            }
            if now >= end {
                state.lock().adaptive.record_miss();
                return false;
            }
            if yields_at.is_some_and(|at| now >= at) {
                yields_at = self.yield_core(state);
                continue;
            }
            core::hint::spin_loop();
        }
    }

    /// Lets others run on the current sleeper's core; when the poll is to do so again, if
    /// at all.
    fn yield_core(&self, state: &Mutex<PollState>) -> Option<u64> {
        let hal = &self.shared.hal;
        loop {
            let began = hal.now();
            hal.yield_core();
            match state.lock().yields.record(began, hal.now()) {
                Next::AtOnce => {}
                Next::At(at) => return Some(at),
                Next::Never => return None,
            }
        }
    }

    /// Runs a future to its end on the current sleeper; while it waits, the
    /// sleeper does other work ([`Hal::work`]), and sleeps when there is
    /// none.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let hal = &self.shared.hal;
        let parker = &self.parkers[self.current()];
        let waker = Waker::from(parker.clone());
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(future);
        // Of several sleepers, it was woken for what others may have left to it.
        let several = self.shared.sleepers > 1;
        let mut hands_on = false;
        // How long the future runs once it is woken: it goes back to waiting soon, or not.
        let runs = RunLength::new();
        loop {
            hal.polls();
            let was_woken = hands_on;
            if hands_on && runs.expected() > WORTH_A_WAKE {
                self.hand_on();
                hands_on = false;
            }
            let began = was_woken.then(|| hal.now());
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                hal.polls();
                // A call further out on this stack may wait with the same
                // parker: what this one consumed may have been for it.
                parker.woken.store(true, Ordering::Release);
                if hands_on {
                    self.hand_on();
                }
                return output;
            }
            if let Some(began) = began {
                runs.note(hal.now().saturating_sub(began));
            }
            let mut waits = false;
            // Acquire: pairs with the Release in `wake_by_ref`.
            while !parker.woken.swap(false, Ordering::Acquire) {
                waits = true;
                if self.turn() {
                    hands_on = several;
                } else if !self.work() {
                    self.wait(&|| parker.woken.load(Ordering::Acquire));
                    hands_on = several;
                }
            }
            if !waits {
                // It was woken before it waited, by itself perhaps, again and again: others
                // have their turn all the same.
                hands_on |= self.turn() && several;
                self.work();
            }
            // The future may run for long.
            self.ring_deferred();
        }
    }
}

#[cfg(test)]
mod tests;
