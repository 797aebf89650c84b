//! Tests of how a wake is handed on, on a machine of one thread, which is one sleeper
//! after the other.

use crate::client::hal::Hal;
use crate::client::reactor::{OnReady, Reactor, Timer};
use crate::client::run_length::WORTH_A_WAKE;
use crate::notify::Slot;
use crate::testing::test_arena;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use core::task::{Context, Poll, Waker};
use spin::Mutex;

const SLEEPERS: usize = 3;

/// What a sleeper's park does.
type Hook = Box<dyn Fn(&Arc<TestHal>, Option<u64>) + Send + Sync>;

/// What a kick of that sleeper does besides.
type KickHook = Box<dyn Fn(usize) + Send + Sync>;

/// A machine of one thread, which is one sleeper after the other.
struct TestHal {
    current: AtomicUsize,
    queued: AtomicBool,
    may_work: [AtomicBool; SLEEPERS],
    kicked: Mutex<Vec<usize>>,
    parks: Mutex<Vec<Hook>>,
    /// What a kick does besides.
    on_kick: Mutex<Option<KickHook>>,
    now: AtomicU64,
    itself: Mutex<Option<Arc<TestHal>>>,
}

impl Hal for TestHal {
    fn ring_doorbell(&self) {}

    fn current(&self) -> usize {
        self.current.load(Ordering::SeqCst)
    }

    fn park(&self, deadline: Option<u64>) {
        let hook = self.parks.lock().pop().expect("a park was expected");
        let itself = self.itself.lock().clone().expect("set when it was made");
        hook(&itself, deadline);
    }

    fn yield_core(&self) {}

    fn kick(&self, sleeper: usize) {
        self.kicked.lock().push(sleeper);
        if let Some(hook) = &*self.on_kick.lock() {
            hook(sleeper);
        }
    }

    fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    fn has_work(&self) -> bool {
        self.work_waits() && self.may_work(self.current())
    }

    fn work_waits(&self) -> bool {
        self.queued.load(Ordering::SeqCst)
    }

    fn may_work(&self, sleeper: usize) -> bool {
        self.may_work[sleeper].load(Ordering::SeqCst)
    }
}

impl TestHal {
    fn new() -> (Arc<Self>, Arc<Reactor>) {
        let hal = Arc::new(Self {
            current: AtomicUsize::new(0),
            queued: AtomicBool::new(false),
            may_work: [const { AtomicBool::new(true) }; SLEEPERS],
            kicked: Mutex::new(Vec::new()),
            parks: Mutex::new(Vec::new()),
            on_kick: Mutex::new(None),
            now: AtomicU64::new(0),
            itself: Mutex::new(None),
        });
        *hal.itself.lock() = Some(hal.clone());
        let arena = test_arena(256);
        let reactor = Reactor::new(&arena, 0, hal.clone(), SLEEPERS).expect("fits");
        (hal, reactor)
    }

    /// What the next park does.
    fn on_park(&self, hook: impl Fn(&Arc<TestHal>, Option<u64>) + Send + Sync + 'static) {
        self.parks.lock().push(Box::new(hook));
    }

    fn kicked(&self) -> Vec<usize> {
        core::mem::take(&mut self.kicked.lock())
    }
}

/// A future that is ready once it is signalled, and its waker by then.
#[derive(Clone, Default)]
struct Signalled(Arc<(AtomicBool, Mutex<Option<Waker>>)>);

impl Signalled {
    fn signal(&self) {
        self.0.0.store(true, Ordering::SeqCst);
        self.0.1.lock().take().expect("it was polled").wake();
    }
}

impl Future for Signalled {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0.0.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        *self.0.1.lock() = Some(context.waker().clone());
        Poll::Pending
    }
}

#[test]
fn a_wake_for_work_goes_to_one_that_may_do_it() {
    let (hal, reactor) = TestHal::new();
    for sleeper in [1, 2] {
        reactor.shared.notify.vcpu(sleeper).prepare_sleep();
    }
    hal.may_work[1].store(false, Ordering::SeqCst);
    reactor.wake_worker();
    assert_eq!(hal.kicked(), [2]);
    reactor.wake_worker();
    assert_eq!(hal.kicked(), [], "nobody is left who may");
}

#[test]
fn one_that_goes_to_sleep_beside_work_that_it_may_not_do_hands_it_on() {
    let (hal, reactor) = TestHal::new();
    reactor.shared.notify.vcpu(2).prepare_sleep();
    hal.may_work[0].store(false, Ordering::SeqCst);
    hal.queued.store(true, Ordering::SeqCst);
    hal.on_park(|hal, _| assert_eq!(hal.kicked(), [2], "before it sleeps"));
    reactor.wait(&|| false);
}

#[test]
fn one_that_goes_on_with_its_own_hands_work_and_marks_on() {
    for (queued, marked) in [(true, false), (false, true), (false, false)] {
        let (hal, reactor) = TestHal::new();
        reactor.shared.notify.vcpu(2).prepare_sleep();
        let (signalled, heard) = (Signalled::default(), Arc::new(Heard::default()));
        reactor.register(Slot(7), heard.clone());
        let (signaller, waking) = (signalled.clone(), reactor.clone());
        hal.on_park(move |hal, _| {
            // Its wake is spent on both.
            assert!(waking.shared.notify.vcpu(0).claim_wake(), "it sleeps");
            hal.queued.store(queued, Ordering::SeqCst);
            if marked {
                waking.shared.notify.to_guest().mark(Slot(7));
            }
            signaller.signal();
        });
        reactor.block_on(signalled);
        assert_eq!(hal.kicked(), if queued { [2].as_slice() } else { &[] });
        assert_eq!(heard.0.load(Ordering::SeqCst), marked);
    }
}

/// A future that is woken `wakes` times, by parks, before it is ready, and runs for
/// `run` each time.
fn woken_again_and_again(hal: &Arc<TestHal>, wakes: usize, run: u64) -> impl Future<Output = ()> {
    let waker = Arc::new(Mutex::new(None::<Waker>));
    for _ in 0..wakes {
        let waker = waker.clone();
        hal.on_park(move |hal, _| {
            hal.queued.store(true, Ordering::SeqCst);
            waker.lock().take().expect("it was polled").wake();
        });
    }
    let (hal, mut left) = (hal.clone(), wakes);
    core::future::poll_fn(move |context| {
        hal.now.fetch_add(run, Ordering::SeqCst);
        // Another one has done what was queued.
        hal.queued.store(false, Ordering::SeqCst);
        if left == 0 {
            hal.queued.store(true, Ordering::SeqCst);
            return Poll::Ready(());
        }
        left -= 1;
        *waker.lock() = Some(context.waker().clone());
        Poll::Pending
    })
}

/// How often others are woken for what is queued when a future, whose runs take so long, is
/// woken four times.
fn kicks_of(run: u64) -> usize {
    let (hal, reactor) = TestHal::new();
    let kicked = reactor.clone();
    // It finds nothing to do, and sleeps again.
    *hal.on_kick.lock() = Some(Box::new(move |sleeper| {
        if sleeper == 2 {
            kicked.shared.notify.vcpu(2).prepare_sleep();
        }
    }));
    reactor.shared.notify.vcpu(2).prepare_sleep();
    reactor.block_on(woken_again_and_again(&hal, 4, run));
    hal.kicked().iter().filter(|&&sleeper| sleeper == 2).count()
}

#[test]
fn one_that_soon_waits_again_hands_nothing_on() {
    // As nobody knows how long it takes, the first time; and once it goes on with what it
    // has waited for.
    assert_eq!(kicks_of(0), 2);
    assert_eq!(kicks_of(WORTH_A_WAKE), 2);
    assert_eq!(kicks_of(WORTH_A_WAKE + 1), 4);
}

#[derive(Default)]
struct Heard(AtomicBool);

impl OnReady for Heard {
    fn ready(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn one_that_goes_on_with_its_own_leaves_no_timer_alone() {
    for attended in [false, true] {
        let (hal, reactor) = TestHal::new();
        let mut timer = pin!(reactor.sleep_until(1000));
        let poll = |timer: Pin<&mut Timer>| {
            let pending = timer.poll(&mut Context::from_waker(Waker::noop()));
            assert!(pending.is_pending());
        };
        if attended {
            poll(timer.as_mut());
        }
        // Another one sleeps, with the timer or before it is set.
        let (signalled, within) = (Signalled::default(), reactor.clone());
        let signaller = signalled.clone();
        hal.on_park(move |hal, _| {
            signaller.signal();
            assert_eq!(hal.kicked(), [0]);
        });
        hal.on_park(move |hal, deadline| {
            assert_eq!(deadline, attended.then_some(1000));
            hal.current.store(0, Ordering::SeqCst);
            let mut timer = pin!(within.sleep_until(1000));
            if !attended {
                poll(timer.as_mut());
                // Woken for it, and for no more.
                assert_eq!(hal.kicked(), [2]);
                within.shared.notify.vcpu(2).prepare_sleep();
            }
            within.block_on(signalled.clone());
            let handed = if attended { [].as_slice() } else { &[2] };
            assert_eq!(hal.kicked(), handed);
        });
        hal.current.store(2, Ordering::SeqCst);
        reactor.wait(&|| false);
    }
}
