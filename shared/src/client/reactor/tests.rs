//! Tests of the event loop, on a machine whose clock is the test's.

use super::*;
use crate::testing::hal::{Event, TestHal, Wakes};
use crate::testing::peer::Peer;
use core::pin::Pin;
use core::sync::atomic::AtomicUsize;

#[derive(Default)]
struct Heard(AtomicUsize);

impl OnReady for Heard {
    fn ready(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Heard {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A peer whose sleepers may poll for that long.
fn polling(poll_limit: u64) -> Arc<Peer> {
    Peer::new(TestHal::polling_for(poll_limit), 1, 64)
}

fn set_clock(peer: &Peer, now: u64) {
    peer.hal.clock.store(now, Ordering::Relaxed);
}

fn clock_reads(peer: &Peer) -> u64 {
    peer.hal.reads.swap(0, Ordering::Relaxed)
}

#[test]
fn a_turn_calls_the_handlers_of_the_slots_that_are_ready() {
    let peer = Peer::simple();
    let (three, four) = (Arc::new(Heard::default()), Arc::new(Heard::default()));
    peer.reactor.register(Slot(3), three.clone());
    peer.reactor.register(Slot(4), four.clone());
    assert!(!peer.reactor.turn());
    peer.notify.to_guest().mark(Slot(3));
    peer.notify.to_guest().mark(Slot(5));
    assert!(peer.reactor.turn());
    assert_eq!((three.count(), four.count()), (1, 0));
    assert!(!peer.reactor.turn());
    peer.notify.to_guest().mark(Slot(5));
    assert!(!peer.reactor.turn(), "nobody has that slot");
    peer.reactor.deregister(Slot(3));
    peer.notify.to_guest().mark(Slot(3));
    assert!(!peer.reactor.turn());
    assert_eq!((three.count(), four.count()), (1, 0));
}

#[test]
fn a_timer_is_due_at_its_deadline() {
    let peer = Peer::simple();
    let wakes = Arc::new(Wakes::default());
    let mut timer = peer.reactor.sleep_until(50);
    set_clock(&peer, 49);
    assert!(wakes.poll(&mut timer).is_pending());
    assert!(!peer.reactor.turn());
    assert_eq!(wakes.count(), 0);
    set_clock(&peer, 50);
    assert!(peer.reactor.turn());
    assert_eq!(wakes.count(), 1);
    assert!(!peer.reactor.turn(), "a timer fires once");
    assert!(wakes.poll(&mut timer).is_ready());
}

#[test]
fn timers_fire_by_deadline_and_each_of_one_deadline() {
    let peer = Peer::simple();
    let all: Vec<_> = [30, 10, 20, 20]
        .map(|deadline| {
            let wakes = Arc::new(Wakes::default());
            let mut timer = peer.reactor.sleep_until(deadline);
            assert!(wakes.poll(&mut timer).is_pending());
            (wakes, timer)
        })
        .into();
    let counts = || {
        all.iter()
            .map(|(wakes, _)| wakes.count())
            .collect::<Vec<_>>()
    };
    set_clock(&peer, 10);
    assert!(peer.reactor.turn());
    assert_eq!(counts(), [0, 1, 0, 0]);
    set_clock(&peer, 29);
    assert!(peer.reactor.turn());
    assert_eq!(counts(), [0, 1, 1, 1]);
    set_clock(&peer, 99);
    assert!(peer.reactor.turn());
    assert_eq!(counts(), [1, 1, 1, 1]);
}

#[test]
fn a_turn_may_find_a_slot_and_a_timer() {
    let peer = Peer::simple();
    peer.reactor.register(Slot(3), Arc::new(Heard::default()));
    let wakes = Arc::new(Wakes::default());
    let mut timer = peer.reactor.sleep_until(50);
    assert!(wakes.poll(&mut timer).is_pending());
    set_clock(&peer, 50);
    peer.notify.to_guest().mark(Slot(3));
    assert!(peer.reactor.turn());
    assert_eq!(wakes.count(), 1);
}

#[test]
fn a_turn_reads_the_clock_only_for_a_timer() {
    let peer = Peer::simple();
    peer.reactor.turn();
    assert_eq!(clock_reads(&peer), 0);
    let mut timer = peer.reactor.sleep_until(50);
    assert!(Arc::new(Wakes::default()).poll(&mut timer).is_pending());
    clock_reads(&peer);
    peer.reactor.turn();
    assert_eq!(clock_reads(&peer), 1);
    drop(timer);
    peer.reactor.turn();
    assert_eq!(clock_reads(&peer), 0);
}

#[test]
fn a_sleeper_parks_until_the_nearest_timer() {
    let peer = Peer::simple();
    let wakes = Arc::new(Wakes::default());
    let mut late = peer.reactor.sleep_until(90);
    assert!(wakes.poll(&mut late).is_pending());
    let mut early = peer.reactor.sleep_until(40);
    assert!(wakes.poll(&mut early).is_pending());
    peer.reactor.wait(&|| false);
    assert_eq!(peer.hal.events(), [Event::Park(Some(40))]);
    // The clock is there: nothing to sleep for.
    peer.reactor.wait(&|| false);
    assert_eq!(peer.hal.events(), []);
    drop(early);
    peer.reactor.wait(&|| false);
    assert_eq!(peer.hal.events(), [Event::Park(Some(90))]);
    drop(late);
    peer.hal.while_parked(|| ());
    peer.reactor.wait(&|| false);
    assert_eq!(peer.hal.events(), [Event::Park(None)]);
    assert_eq!(peer.notify.counted(Counter::Parks), 3);
}

#[test]
fn a_sleeper_checks_all_it_sleeps_for_once_its_flag_is_set() {
    let peer = Peer::simple();
    let sleeps = || peer.notify.vcpu(0).is_asleep();
    peer.reactor.wait(&sleeps);
    assert!(!sleeps(), "awake again");
    peer.hal.queue(|| ());
    peer.reactor.wait(&|| false);
    peer.hal.work();
    peer.notify.to_guest().mark(Slot(5));
    peer.reactor.wait(&|| false);
    assert_eq!(peer.hal.events(), [], "never parked");
    peer.reactor.turn();
    let other = peer.clone();
    peer.hal.while_parked(move || {
        assert!(other.notify.vcpu(0).is_asleep());
    });
    peer.reactor.wait(&|| false);
    assert!(!sleeps());
    assert_eq!(peer.hal.events(), [Event::Park(None)]);
}

/// A wait with a park of that length.
fn park_for(peer: &Arc<Peer>, length: u64) {
    let hal = peer.hal.clone();
    peer.hal.while_parked(move || {
        hal.clock.fetch_add(length, Ordering::Relaxed);
    });
    peer.reactor.wait(&|| false);
    assert_eq!(peer.hal.events(), [Event::Park(None)]);
}

#[test]
fn a_sleeper_polls_after_a_short_sleep_and_not_after_a_long_one() {
    let peer = polling(100);
    park_for(&peer, 200);
    park_for(&peer, 199);
    // It polls now, and finds something the third time.
    let checks = AtomicUsize::new(0);
    peer.reactor
        .wait(&|| checks.fetch_add(1, Ordering::Relaxed) == 2);
    assert_eq!(checks.load(Ordering::Relaxed), 3);
    assert_eq!(peer.hal.events(), []);
    assert!(!peer.notify.vcpu(0).is_asleep(), "its flag was never up");
}

#[test]
fn a_poll_ends_at_its_limit_and_then_the_sleeper_parks() {
    let peer = polling(100);
    park_for(&peer, 5);
    peer.hal.tick.store(10, Ordering::Relaxed);
    set_clock(&peer, 0);
    clock_reads(&peer);
    let checks = AtomicUsize::new(0);
    peer.hal.while_parked(|| ());
    peer.reactor.wait(&|| {
        checks.fetch_add(1, Ordering::Relaxed);
        false
    });
    // The clock says 0 as the poll begins, and 10 to 100 at its ten checks; then
    // comes one more once the flag is set.
    assert_eq!(checks.load(Ordering::Relaxed), 11);
    assert_eq!(peer.hal.events(), [Event::Park(None)]);
    // In vain: the next time it parks at once.
    checks.store(0, Ordering::Relaxed);
    peer.hal.while_parked(|| ());
    peer.reactor.wait(&|| {
        checks.fetch_add(1, Ordering::Relaxed);
        false
    });
    assert_eq!(checks.load(Ordering::Relaxed), 1);
}

#[test]
fn a_poll_that_hits_earns_another() {
    let peer = polling(100);
    park_for(&peer, 5);
    for _ in 0..12 {
        peer.reactor.wait(&|| true);
    }
    peer.hal.tick.store(10, Ordering::Relaxed);
    // 4 lent and 12 earned: four misses are paid for.
    for round in 0..5 {
        let checks = AtomicUsize::new(0);
        peer.hal.while_parked(|| ());
        peer.reactor.wait(&|| {
            checks.fetch_add(1, Ordering::Relaxed);
            false
        });
        let expected = if round < 4 { 11 } else { 1 };
        assert_eq!(checks.load(Ordering::Relaxed), expected, "{round}");
    }
}

#[test]
fn a_poll_ends_at_the_nearest_timer() {
    let peer = polling(100);
    park_for(&peer, 5);
    let mut timer = peer.reactor.sleep_until(1030);
    set_clock(&peer, 1000);
    assert!(Arc::new(Wakes::default()).poll(&mut timer).is_pending());
    peer.hal.tick.store(10, Ordering::Relaxed);
    peer.hal.events();
    let checks = AtomicUsize::new(0);
    peer.reactor.wait(&|| {
        checks.fetch_add(1, Ordering::Relaxed);
        false
    });
    // Checks at 1010, 1020 and 1030, and one more with the flag set; it is due, so
    // that there is no park.
    assert_eq!(checks.load(Ordering::Relaxed), 4);
    assert_eq!(peer.hal.events(), []);
    // That was no miss: the next poll goes its whole length.
    drop(timer);
    checks.store(0, Ordering::Relaxed);
    peer.hal.while_parked(|| ());
    peer.reactor.wait(&|| {
        checks.fetch_add(1, Ordering::Relaxed);
        false
    });
    assert_eq!(checks.load(Ordering::Relaxed), 11);
}

#[test]
fn a_long_poll_lets_others_run_and_finds_what_they_bring() {
    let peer = polling(100_000);
    let yields = |checks: usize| {
        peer.hal.tick.store(1_000, Ordering::Relaxed);
        let checked = AtomicUsize::new(0);
        let found = || checked.fetch_add(1, Ordering::Relaxed) + 1 == checks;
        peer.hal.while_parked(|| ());
        peer.reactor.wait(&found);
        peer.hal.tick.store(0, Ordering::Relaxed);
        peer.hal.events()
    };
    park_for(&peer, 5);
    peer.hal.yield_takes.store(4_000, Ordering::Relaxed);
    assert_eq!(yields(25), [], "an answer that comes soon");
    assert_eq!(yields(26), [Event::Yield]);
    // Somebody has run: sooner from now on.
    peer.hal.yield_takes.store(40_000, Ordering::Relaxed);
    assert_eq!(yields(26), [Event::Yield]);
    peer.hal.yield_takes.store(4_000, Ordering::Relaxed);
    assert_eq!(yields(8), [Event::Yield]);
    // Where a yield is dear it is tried twice, even if the first has brought something,
    // and not in the next poll.
    for length in [40_000, 90_000] {
        let dear = polling(100_000);
        park_for(&dear, 5);
        dear.hal.yield_takes.store(17_000, Ordering::Relaxed);
        dear.hal.tick.store(1_000, Ordering::Relaxed);
        for expected in [&[Event::Yield, Event::Yield][..], &[]] {
            let until = dear.hal.clock.load(Ordering::Relaxed) + length;
            let found = || dear.hal.clock.load(Ordering::Relaxed) >= until;
            dear.reactor.wait(&found);
            assert_eq!(dear.hal.events(), expected, "{length}");
        }
    }
}

#[test]
fn who_is_patient_parks_at_once_the_next_time() {
    let peer = polling(100);
    park_for(&peer, 5);
    peer.reactor.skip_next_poll();
    park_for(&peer, 5);
    // And polls again the time after that.
    peer.reactor.wait(&|| true);
    assert_eq!(peer.hal.events(), []);
}

#[test]
fn a_sleep_that_was_chosen_says_nothing_about_looking() {
    let peer = polling(100);
    peer.reactor.skip_next_poll();
    park_for(&peer, 5);
    let checks = AtomicUsize::new(0);
    peer.hal.while_parked(|| ());
    peer.reactor.wait(&|| {
        checks.fetch_add(1, Ordering::Relaxed);
        false
    });
    assert_eq!(checks.load(Ordering::Relaxed), 1, "it does not poll yet");
}

#[test]
fn one_sleeper_that_sleeps_is_woken() {
    let peer = Peer::new(TestHal::default(), 3, 64);
    peer.reactor.wake_worker();
    assert_eq!(peer.hal.events(), []);
    peer.notify.vcpu(1).prepare_sleep();
    peer.notify.vcpu(2).prepare_sleep();
    peer.notify.vcpu(3).prepare_sleep();
    for expected in [1, 2] {
        peer.reactor.wake_worker();
        assert_eq!(peer.hal.events(), [Event::Kick(expected)]);
        assert!(!peer.notify.vcpu(expected).is_asleep());
    }
    peer.reactor.wake_worker();
    assert_eq!(peer.hal.events(), [], "the fourth is not ours");
}

#[test]
fn a_sleeper_past_the_last_is_taken_as_the_last() {
    let peer = Peer::new(TestHal::default(), 2, 64);
    peer.hal.sleeper.store(9, Ordering::Relaxed);
    peer.reactor.skip_next_poll();
    let other = peer.clone();
    peer.hal.while_parked(move || {
        assert!(other.notify.vcpu(1).is_asleep() && !other.notify.vcpu(0).is_asleep());
    });
    peer.reactor.wait(&|| false);
    assert_eq!(peer.hal.events(), [Event::Park(None)]);
    assert_eq!(peer.reactor.block_on(core::future::ready(7)), 7);
}

#[test]
fn a_nearer_timer_wakes_another_sleeper() {
    let peer = Peer::new(TestHal::default(), 2, 64);
    let wakes = Arc::new(Wakes::default());
    peer.notify.vcpu(1).prepare_sleep();
    let mut timer = peer.reactor.sleep_until(50);
    assert!(wakes.poll(&mut timer).is_pending());
    assert_eq!(peer.hal.events(), [Event::Kick(1)]);
    peer.notify.vcpu(1).prepare_sleep();
    let mut later = peer.reactor.sleep_until(60);
    assert!(wakes.poll(&mut later).is_pending());
    // Nor does one that is polled again.
    assert!(wakes.poll(&mut timer).is_pending());
    assert_eq!(peer.hal.events(), []);
}

#[test]
fn a_single_sleeper_need_not_wake_itself_for_a_timer() {
    let peer = Peer::simple();
    peer.notify.vcpu(0).prepare_sleep();
    let mut timer = peer.reactor.sleep_until(50);
    assert!(Arc::new(Wakes::default()).poll(&mut timer).is_pending());
    assert_eq!(peer.hal.events(), []);
}

/// A future that is ready once it was woken that often.
struct Countdown {
    left: usize,
    polls: usize,
}

impl Future for Countdown {
    type Output = usize;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<usize> {
        self.polls += 1;
        if self.left == 0 {
            return Poll::Ready(self.polls);
        }
        self.left -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[test]
fn a_future_is_polled_once_for_each_wake() {
    let peer = Peer::simple();
    let future = Countdown { left: 3, polls: 0 };
    assert_eq!(peer.reactor.block_on(future), 4);
    assert_eq!(peer.hal.events(), [], "never slept, never kicked");
}

#[test]
fn a_future_that_wakes_itself_leaves_others_their_turn() {
    let peer = Peer::simple();
    let (done, heard) = (Arc::new(AtomicUsize::new(0)), Arc::new(Heard::default()));
    peer.reactor.register(Slot(3), heard.clone());
    peer.notify.to_guest().mark(Slot(3));
    let polls = AtomicUsize::new(0);
    peer.reactor.block_on(core::future::poll_fn(|context| {
        let polls = polls.fetch_add(1, Ordering::Relaxed);
        assert_eq!(
            done.load(Ordering::Relaxed),
            polls,
            "a piece of work for each poll"
        );
        if polls == 3 {
            return Poll::Ready(());
        }
        let done = done.clone();
        peer.hal.queue(move || {
            done.fetch_add(1, Ordering::Relaxed);
        });
        context.waker().wake_by_ref();
        Poll::Pending
    }));
    assert_eq!(heard.count(), 1, "and the mark was taken");
    assert_eq!(peer.hal.events(), [], "never slept, never kicked");
}

#[test]
fn who_waits_does_other_work_before_sleeping() {
    let peer = Peer::simple();
    let waker: Arc<Mutex<Option<Waker>>> = Arc::default();
    let wake = |waker: &Arc<Mutex<Option<Waker>>>| {
        let waker = waker.lock().take().expect("polled before");
        waker.wake();
    };
    let polls = AtomicUsize::new(0);
    let (first, second) = (waker.clone(), waker.clone());
    let (queue, sleep) = (peer.hal.clone(), peer.hal.clone());
    let output = peer.reactor.block_on(core::future::poll_fn(|context| {
        *waker.lock() = Some(context.waker().clone());
        match polls.fetch_add(1, Ordering::Relaxed) {
            0 => {
                let first = first.clone();
                queue.queue(|| ());
                queue.queue(move || wake(&first));
                Poll::Pending
            }
            1 => {
                let second = second.clone();
                sleep.while_parked(move || wake(&second));
                Poll::Pending
            }
            polls => Poll::Ready(polls),
        }
    }));
    assert_eq!(output, 2);
    assert_eq!(
        peer.hal.events(),
        [Event::Park(None), Event::Kick(0)],
        "slept only when there was no work"
    );
}

#[test]
fn a_slot_that_becomes_ready_ends_a_sleep() {
    struct WakeOnReady(Mutex<Option<Waker>>);
    impl OnReady for WakeOnReady {
        fn ready(&self) {
            self.0.lock().take().expect("polled before").wake();
        }
    }
    let peer = Peer::simple();
    let handler = Arc::new(WakeOnReady(Mutex::new(None)));
    peer.reactor.register(Slot(3), handler.clone());
    let other = peer.clone();
    peer.hal
        .while_parked(move || other.notify.to_guest().mark(Slot(3)));
    let polls = AtomicUsize::new(0);
    peer.reactor.block_on(core::future::poll_fn(|context| {
        *handler.0.lock() = Some(context.waker().clone());
        match polls.fetch_add(1, Ordering::Relaxed) {
            0 => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }));
    assert_eq!(peer.hal.events(), [Event::Park(None)]);
}

#[test]
fn what_an_inner_wait_consumed_is_given_back_to_the_outer() {
    let peer = Peer::simple();
    let polls = AtomicUsize::new(0);
    peer.reactor.block_on(core::future::poll_fn(|context| {
        if polls.fetch_add(1, Ordering::Relaxed) == 1 {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        // Takes the wake, which was the outer future's.
        let inner = Countdown { left: 1, polls: 0 };
        peer.reactor.block_on(inner);
        Poll::Pending
    }));
    assert_eq!(peer.hal.events(), []);
}
