//! Tests of when the doorbell is rung, on a machine whose clock is the test's.

use crate::client::hal::Hal;
use crate::notify::{Counter, DOORBELL_BURST, Slot};
use crate::testing::hal::{Event, TestHal};
use crate::testing::peer::Peer;
use alloc::sync::Arc;
use core::future::poll_fn;
use core::sync::atomic::Ordering;
use core::task::Poll;

/// How long a doorbell takes.
const TAKES: u64 = 30;

#[test]
fn a_monitor_that_sleeps_is_rung_for_and_one_awake_is_not() {
    let peer = Peer::simple();
    assert!(peer.reactor.is_monitor_awake());
    peer.notify.monitor().prepare_sleep();
    assert!(!peer.reactor.is_monitor_awake());
    peer.reactor.notify_monitor(Slot(3));
    assert!(peer.reactor.is_monitor_awake(), "it was rung for");
    assert_eq!(peer.hal.events(), [Event::Doorbell]);
    assert_eq!(peer.take_marks(), [Slot(3)]);
    peer.reactor.notify_monitor(Slot(4));
    assert_eq!(peer.hal.events(), []);
    assert_eq!(peer.take_marks(), [Slot(4)]);
    assert_eq!(peer.notify.counted(Counter::Doorbells), 1);
    assert_eq!(peer.notify.counted(Counter::Suppressed), 1);
}

/// A peer that has rung twice at that time, in a piece of brief work behind which another
/// waits, and whose monitor sleeps again.
fn amid_a_burst(at: u64) -> Arc<Peer> {
    let peer = Peer::simple();
    let TestHal {
        clock,
        doorbell_time,
        runs_brief_work,
        ..
    } = &*peer.hal;
    clock.store(at, Ordering::Relaxed);
    doorbell_time.store(TAKES, Ordering::Relaxed);
    runs_brief_work.store(true, Ordering::Relaxed);
    peer.hal.queue(|| {});
    for _ in 0..2 {
        peer.notify.monitor().prepare_sleep();
        peer.reactor.notify_monitor(Slot(1));
        assert_eq!(peer.hal.events(), [Event::Doorbell], "no burst yet");
    }
    peer.notify.monitor().prepare_sleep();
    peer
}

fn wait_for(peer: &Peer, nanos: u64) {
    peer.hal.clock.fetch_add(nanos, Ordering::Relaxed);
}

#[test]
fn amid_a_burst_one_rings_for_several_pieces_of_brief_work() {
    let peer = amid_a_burst(0);
    peer.reactor.notify_monitor(Slot(3));
    peer.hal.queue(|| {});
    assert!(peer.reactor.work());
    wait_for(&peer, TAKES - 1);
    peer.reactor.notify_monitor(Slot(4));
    assert_eq!(peer.hal.events(), [], "more of that kind waits");
    assert!(peer.notify.monitor().is_asleep());
    assert!(peer.reactor.work());
    assert_eq!(peer.hal.events(), [], "the last one");
    assert!(!peer.reactor.work());
    assert_eq!(peer.hal.events(), [Event::Doorbell], "nothing else waits");
    assert_eq!(peer.take_marks(), [Slot(1), Slot(3), Slot(4)]);
    assert_eq!(peer.notify.counted(Counter::Doorbells), 3);
    assert_eq!(peer.notify.counted(Counter::Suppressed), 1);
    assert!(!peer.reactor.work());
    assert_eq!(peer.hal.events(), [], "none is deferred any more");
}

#[test]
fn it_is_deferred_for_as_long_as_it_takes() {
    for (waited, rung) in [(TAKES - 1, false), (TAKES, true)] {
        let peer = amid_a_burst(0);
        peer.reactor.notify_monitor(Slot(3));
        // A mark that comes later does not put it off.
        wait_for(&peer, TAKES / 2);
        peer.reactor.notify_monitor(Slot(4));
        wait_for(&peer, waited - TAKES / 2);
        assert!(peer.reactor.work());
        assert_eq!(!peer.hal.events().is_empty(), rung, "{waited}");
    }
}

#[test]
fn who_marks_when_it_was_deferred_for_so_long_rings() {
    let peer = amid_a_burst(0);
    peer.reactor.notify_monitor(Slot(3));
    wait_for(&peer, TAKES);
    peer.reactor.notify_monitor(Slot(4));
    assert_eq!(peer.hal.events(), [Event::Doorbell]);
    assert_eq!(peer.notify.counted(Counter::Doorbells), 3);
    assert_eq!(peer.notify.counted(Counter::Suppressed), 1, "for two marks");
}

#[test]
fn who_marks_after_the_end_of_a_burst_rings_though_one_is_deferred() {
    let peer = amid_a_burst(0);
    wait_for(&peer, DOORBELL_BURST - 1);
    peer.reactor.notify_monitor(Slot(3));
    assert_eq!(peer.hal.events(), []);
    wait_for(&peer, 1);
    peer.reactor.notify_monitor(Slot(4));
    assert_eq!(peer.hal.events(), [Event::Doorbell]);
}

#[test]
fn nothing_that_may_run_for_long_comes_before_it() {
    let peer = amid_a_burst(0);
    peer.reactor.notify_monitor(Slot(3));
    // Another sleeper took the brief one, say.
    peer.hal.queued_is_long.store(true, Ordering::Relaxed);
    let work = peer.clone();
    let hal: &dyn Hal = &*peer.hal;
    assert!(hal.work());
    peer.hal
        .queue(move || assert_eq!(work.hal.events(), [Event::Doorbell], "work"));
    assert!(peer.reactor.work());

    let peer = amid_a_burst(0);
    peer.reactor.notify_monitor(Slot(3));
    peer.reactor.wait(&|| true);
    assert_eq!(peer.hal.events(), [Event::Doorbell], "a poll, or a park");

    let peer = amid_a_burst(0);
    let mut polls = 0;
    let woken = peer.clone();
    peer.reactor.block_on(poll_fn(|context| {
        polls += 1;
        match polls {
            1 => {
                let waker = context.waker().clone();
                let peer = woken.clone();
                // The first piece of work is the one that was queued before.
                peer.clone().hal.queue(move || {
                    peer.reactor.notify_monitor(Slot(3));
                    assert_eq!(peer.hal.events(), [], "it is deferred");
                    waker.wake();
                });
                woken.hal.queue(|| {});
                Poll::Pending
            }
            _ => {
                assert_eq!(woken.hal.events(), [Event::Doorbell], "the future");
                Poll::Ready(())
            }
        }
    }));
}

#[test]
fn a_monitor_that_wakes_meanwhile_is_not_rung_for() {
    let peer = amid_a_burst(0);
    peer.reactor.notify_monitor(Slot(3));
    peer.notify.monitor().finish_sleep();
    assert!(peer.reactor.work() && !peer.reactor.work());
    assert_eq!(peer.hal.events(), []);
    assert_eq!(peer.notify.counted(Counter::Doorbells), 2);
    assert_eq!(peer.notify.counted(Counter::Suppressed), 1);
    // Nor is anything deferred after that.
    peer.notify.monitor().prepare_sleep();
    assert!(!peer.reactor.work());
    assert_eq!(peer.hal.events(), []);
}

#[test]
fn after_the_burst_it_comes_at_once() {
    for (later, rung) in [(DOORBELL_BURST - 1, false), (DOORBELL_BURST, true)] {
        let peer = amid_a_burst(5);
        wait_for(&peer, later);
        peer.reactor.notify_monitor(Slot(3));
        assert_eq!(!peer.hal.events().is_empty(), rung, "{later}");
    }
}

#[test]
fn it_comes_at_once_from_what_is_not_brief_or_has_nothing_behind_it() {
    let rung = |change: fn(&TestHal)| {
        let peer = amid_a_burst(0);
        change(&peer.hal);
        peer.reactor.notify_monitor(Slot(3));
        !peer.hal.events().is_empty()
    };
    assert!(!rung(|_| {}));
    assert!(rung(|hal| hal
        .runs_brief_work
        .store(false, Ordering::Relaxed)));
    assert!(rung(|hal| hal
        .queued_is_long
        .store(true, Ordering::Relaxed)));
    assert!(rung(|hal| hal.doorbell_time.store(0, Ordering::Relaxed)));
    assert!(rung(|hal| {
        Hal::work(hal);
    }));
}
