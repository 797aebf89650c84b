//! A machine whose clock and sleeps are the test's.

use crate::client::hal::Hal;
use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use core::task::{Context, Poll, Waker};
use core::{future::Future, pin::Pin};
use std::sync::Mutex;

/// What a machine was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Doorbell,
    Kick(usize),
    /// Until the deadline.
    Park(Option<u64>),
    Yield,
}

/// What happens elsewhere.
type Step = Box<dyn FnOnce() + Send>;

/// A machine for one thread. Its clock stands still but for what the test does,
/// and while it is parked the test's next step happens.
#[derive(Default)]
pub(crate) struct TestHal {
    pub(crate) clock: AtomicU64,
    /// How far the clock goes on when it is read.
    pub(crate) tick: AtomicU64,
    /// How far it goes on in a yield.
    pub(crate) yield_takes: AtomicU64,
    /// How often the clock was read.
    pub(crate) reads: AtomicU64,
    pub(crate) sleeper: AtomicUsize,
    /// How long a doorbell takes.
    pub(crate) doorbell_time: AtomicU64,
    /// What runs is a brief piece of work.
    pub(crate) runs_brief_work: AtomicBool,
    /// What is queued is not.
    pub(crate) queued_is_long: AtomicBool,
    poll_limit: u64,
    tokens: Mutex<BTreeSet<usize>>,
    steps: Mutex<VecDeque<Step>>,
    work: Mutex<VecDeque<Step>>,
    events: Mutex<Vec<Event>>,
}

/// So often no test reads a clock, or parks.
const ENDLESS: u64 = 100_000;

impl TestHal {
    /// A machine whose sleepers may poll for that long before they park.
    pub(crate) fn polling_for(poll_limit: u64) -> Self {
        Self {
            poll_limit,
            ..Self::default()
        }
    }

    /// Puts up what happens during the next park that has no other step.
    pub(crate) fn while_parked(&self, step: impl FnOnce() + Send + 'static) {
        let mut steps = self.steps.lock().expect("not poisoned");
        steps.push_back(Box::new(step));
    }

    /// Queues a piece of work.
    pub(crate) fn queue(&self, work: impl FnOnce() + Send + 'static) {
        let mut queue = self.work.lock().expect("not poisoned");
        queue.push_back(Box::new(work));
    }

    /// What the hal was asked to do since the last time.
    pub(crate) fn events(&self) -> Vec<Event> {
        core::mem::take(&mut *self.events.lock().expect("not poisoned"))
    }

    fn note(&self, event: Event) {
        let mut events = self.events.lock().expect("not poisoned");
        events.push(event);
        assert!(events.len() < ENDLESS as usize, "this goes on for ever");
    }
}

impl Hal for TestHal {
    fn ring_doorbell(&self) {
        self.note(Event::Doorbell);
    }

    fn doorbell_time(&self) -> u64 {
        self.doorbell_time.load(Ordering::Relaxed)
    }

    fn runs_brief_work(&self) -> bool {
        self.runs_brief_work.load(Ordering::Relaxed)
    }

    fn brief_work_waits(&self) -> bool {
        self.has_work() && !self.queued_is_long.load(Ordering::Relaxed)
    }

    fn current(&self) -> usize {
        self.sleeper.load(Ordering::Relaxed)
    }

    fn park(&self, deadline: Option<u64>) {
        self.note(Event::Park(deadline));
        let current = self.current();
        let has_token = || self.tokens.lock().expect("not poisoned").remove(&current);
        if has_token() {
            return;
        }
        let step = self.steps.lock().expect("not poisoned").pop_front();
        match (step, deadline) {
            (Some(step), _) => step(),
            (None, Some(deadline)) => {
                self.clock.fetch_max(deadline, Ordering::Relaxed);
            }
            (None, None) => panic!("parked, and nothing is to come"),
        }
        has_token();
    }

    fn yield_core(&self) {
        self.note(Event::Yield);
        let takes = self.yield_takes.load(Ordering::Relaxed);
        self.clock.fetch_add(takes, Ordering::Relaxed);
    }

    fn kick(&self, sleeper: usize) {
        self.note(Event::Kick(sleeper));
        self.tokens.lock().expect("not poisoned").insert(sleeper);
    }

    fn now(&self) -> u64 {
        let reads = self.reads.fetch_add(1, Ordering::Relaxed);
        assert!(reads < ENDLESS, "this goes on for ever");
        let tick = self.tick.load(Ordering::Relaxed);
        self.clock.fetch_add(tick, Ordering::Relaxed)
    }

    fn poll_limit(&self) -> u64 {
        self.poll_limit
    }

    fn work(&self) -> bool {
        let work = self.work.lock().expect("not poisoned").pop_front();
        work.map(|work| work()).is_some()
    }

    fn has_work(&self) -> bool {
        !self.work.lock().expect("not poisoned").is_empty()
    }
}

/// Counts how often it is woken.
#[derive(Default)]
pub(crate) struct Wakes(AtomicUsize);

impl alloc::task::Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wakes {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Polls a future once with this waker.
    pub(crate) fn poll<F: Future + Unpin>(self: &Arc<Self>, future: &mut F) -> Poll<F::Output> {
        let waker = Waker::from(self.clone());
        Pin::new(future).poll(&mut Context::from_waker(&waker))
    }
}
