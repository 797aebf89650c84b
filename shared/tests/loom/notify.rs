//! Marks, sleep flags and wakes between senders and those that sleep.

use super::{Park, catches, explore, planted};
use arca_shared::notify::{ReadySet, Sleeper, SleeperState, Slot};
use arca_shared::sync::{AtomicU32, AtomicU64, Ordering};
use loom::sync::Arc;
use loom::thread;

/// The words of a notification area with one leaf word and two sleepers.
struct Area {
    summary: [AtomicU64; 1],
    leaf: [AtomicU64; 1],
    flags: [AtomicU32; 2],
    parks: [Park; 2],
    /// What the marks stand for: a published value for each slot.
    values: [AtomicU32; 2],
}

impl Area {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            summary: [AtomicU64::new(0)],
            leaf: [AtomicU64::new(0)],
            flags: [AtomicU32::new(0), AtomicU32::new(0)],
            parks: [Park::default(), Park::default()],
            values: [AtomicU32::new(0), AtomicU32::new(0)],
        })
    }

    fn set(&self) -> ReadySet<'_> {
        ReadySet::new(&self.summary, &self.leaf)
    }

    fn sleeper(&self, index: usize) -> Sleeper<'_> {
        Sleeper::new(&self.flags[index])
    }

    /// A sender beside one sleeper: publish, mark, and wake it if it sleeps.
    fn send(&self, slot: u32) {
        self.values[slot as usize].store(1, Ordering::Relaxed);
        self.set().mark(Slot(slot));
        if self.sleeper(0).claim_wake() {
            self.parks[0].wake();
        }
    }

    /// A sender beside two sleepers, as the monitor is: publish, mark, and wake one that
    /// sleeps if none polls, by one look at both.
    fn send_to_one(&self, slot: u32) {
        let states = || Sleeper::states((0..2).map(|index| self.sleeper(index)));
        self.values[slot as usize].store(1, Ordering::Relaxed);
        let too_early = planted("states of before the mark").then(|| states().collect());
        self.set().mark(Slot(slot));
        let states: Vec<_> = too_early.unwrap_or_else(|| states().collect());
        if states.contains(&SleeperState::Polling) || !states.contains(&SleeperState::Asleep) {
            return;
        }
        if let Some(index) = (0..2).find(|&index| self.sleeper(index).claim_wake()) {
            self.parks[index].wake();
        }
    }

    /// A receiver's turn: the slots that are ready, whose value must be there.
    fn receive(&self) -> u32 {
        let mut count = 0;
        self.set().take(|Slot(slot)| {
            assert_eq!(self.values[slot as usize].load(Ordering::Relaxed), 1);
            count += 1;
        });
        count
    }

    fn sleep(&self, index: usize, check_again: bool) {
        self.sleeper(index).prepare_sleep();
        if !check_again || !self.set().any() {
            self.parks[index].park();
        }
        self.sleeper(index).finish_sleep();
    }
}

/// Two senders in two slots of one word, one receiver. At most 3 preemptions.
#[test]
fn no_wake_up_is_lost() {
    let check_again = !planted("no check after the flag");
    explore(3, move || {
        let area = Area::new();
        let senders: Vec<_> = (0..2)
            .map(|slot| {
                let area = area.clone();
                thread::spawn(move || area.send(slot))
            })
            .collect();
        let mut got = 0;
        while got < 2 {
            match area.receive() {
                0 => area.sleep(0, check_again),
                count => got += count,
            }
        }
        for sender in senders {
            sender.join().expect("the sender is done");
        }
    });
}

#[test]
fn planted_in_a_sleeping_receiver() {
    catches("no check after the flag", "notify::no_wake_up_is_lost");
}

/// A sender that marks two slots and coalesces the wakes for both: it checks after
/// each mark whether the receiver sleeps, and wakes it once, when all is done. At
/// most 3 preemptions.
#[test]
fn a_deferred_wake_comes() {
    let check_again = !planted("no check after the flag");
    let every_mark = !planted("only the first mark counts");
    explore(3, move || {
        let area = Area::new();
        let sender = {
            let area = area.clone();
            thread::spawn(move || {
                let mut deferred = false;
                for slot in 0..2 {
                    area.values[slot].store(1, Ordering::Relaxed);
                    area.set().mark(Slot(slot as u32));
                    if slot == 0 || every_mark {
                        deferred |= area.sleeper(0).is_asleep();
                    }
                }
                if deferred && area.sleeper(0).claim_wake() {
                    area.parks[0].wake();
                }
            })
        };
        let mut got = 0;
        while got < 2 {
            match area.receive() {
                0 => area.sleep(0, check_again),
                count => got += count,
            }
        }
        sender.join().expect("the sender is done");
    });
}

#[test]
fn planted_in_a_deferred_wake() {
    catches("no check after the flag", "notify::a_deferred_wake_comes");
    catches(
        "only the first mark counts",
        "notify::a_deferred_wake_comes",
    );
}

/// One sender, two waiters that take turns to sleep: the mark is acted on by one
/// of them, and nobody sleeps for ever while it stands. At most 2 preemptions.
#[test]
fn one_of_two_waiters_acts() {
    explore(2, || {
        let area = Area::new();
        let acted = Arc::new(AtomicU32::new(0));
        let waiters: Vec<_> = (0..2)
            .map(|index| {
                let (area, acted) = (area.clone(), acted.clone());
                thread::spawn(move || {
                    while acted.load(Ordering::Acquire) == 0 {
                        if area.receive() > 0 {
                            acted.store(1, Ordering::Release);
                            // Whoever takes the mark wakes the other.
                            let other = 1 - index;
                            if !planted("the other is not woken")
                                && area.sleeper(other).claim_wake()
                            {
                                area.parks[other].wake();
                            }
                            return;
                        }
                        area.sleeper(index).prepare_sleep();
                        if !area.set().any() && acted.load(Ordering::Acquire) == 0 {
                            area.parks[index].park();
                        }
                        area.sleeper(index).finish_sleep();
                    }
                })
            })
            .collect();
        area.send_to_one(1);
        for waiter in waiters {
            waiter.join().expect("the waiter is done");
        }
    });
}

#[test]
fn planted_in_two_waiters() {
    for bug in ["the other is not woken", "states of before the mark"] {
        catches(bug, "notify::one_of_two_waiters_acts");
    }
}

/// One of two polls, which the sender need not wake another for: it acts on the mark
/// while it polls, finds it when it goes to sleep, or goes on with its own and hands it
/// on. At most 3 preemptions.
#[test]
fn who_polls_leaves_no_mark_alone() {
    explore(3, || {
        let area = Area::new();
        // How many got the mark.
        let got = Arc::new(AtomicU32::new(0));
        let take = |area: &Area, got: &AtomicU32| {
            let any = area.receive() > 0;
            if any {
                got.fetch_add(1, Ordering::AcqRel);
                // The other one waits for nothing else.
                if area.sleeper(1).claim_wake() {
                    area.parks[1].wake();
                }
            }
            any
        };
        let sleeper = {
            let (area, got) = (area.clone(), got.clone());
            thread::spawn(move || {
                while got.load(Ordering::Acquire) == 0 && !take(&area, &got) {
                    area.sleeper(1).prepare_sleep();
                    if !area.set().any() && got.load(Ordering::Acquire) == 0 {
                        area.parks[1].park();
                    }
                    area.sleeper(1).finish_sleep();
                }
            })
        };
        let poller = {
            let (area, got) = (area.clone(), got.clone());
            thread::spawn(move || {
                area.sleeper(0).prepare_poll();
                if area.set().any() {
                    take(&area, &got);
                }
                // It goes on with its own, for good.
                area.sleeper(0).finish_sleep();
                if !planted("nobody looks after a poll") && area.set().any() {
                    take(&area, &got);
                }
            })
        };
        area.send_to_one(0);
        poller.join().expect("it goes on");
        sleeper.join().expect("the mark was taken");
        assert_eq!(got.load(Ordering::Acquire), 1);
    });
}

#[test]
fn planted_in_a_poll() {
    for bug in ["nobody looks after a poll", "states of before the mark"] {
        catches(bug, "notify::who_polls_leaves_no_mark_alone");
    }
}

/// A poller that goes to sleep: the mark for which nobody was woken while it polled is
/// there when it checks once more. At most 3 preemptions.
#[test]
fn who_polls_and_then_sleeps_finds_the_mark() {
    let check_again = !planted("no check after a poll");
    explore(3, move || {
        let area = Area::new();
        let poller = {
            let area = area.clone();
            thread::spawn(move || {
                let mut got = 0;
                while got == 0 {
                    area.sleeper(0).prepare_poll();
                    if !area.set().any() {
                        area.sleep(0, check_again);
                    }
                    got = area.receive();
                }
            })
        };
        area.values[0].store(1, Ordering::Relaxed);
        area.set().mark(Slot(0));
        if !area.sleeper(0).is_polling() && area.sleeper(0).claim_wake() {
            area.parks[0].wake();
        }
        poller.join().expect("the mark was taken");
    });
}

#[test]
fn planted_in_a_poll_before_a_sleep() {
    catches(
        "no check after a poll",
        "notify::who_polls_and_then_sleeps_finds_the_mark",
    );
}

/// Work is queued, and then one of two waiters gets what it waits for. The wake for
/// the work may be spent on that one, which goes on with its own and never comes
/// back: the other does the work. At most 3 preemptions.
#[test]
fn work_reaches_one_who_does_it() {
    explore(3, || {
        let area = Area::new();
        // Work that is queued, and that is done; what the first waiter waits for.
        let word = || Arc::new(AtomicU32::new(0));
        let (queued, done, given) = (word(), word(), word());
        let work = |queued: &AtomicU32, done: &AtomicU32, area: &Area| {
            // Swaps, here and where it is queued, are the queue's own lock.
            let any = queued.swap(0, Ordering::AcqRel) != 0;
            if any {
                done.store(1, Ordering::Release);
                if area.sleeper(1).claim_wake() {
                    area.parks[1].wake();
                }
            }
            any
        };
        let worker = {
            let (area, queued, done) = (area.clone(), queued.clone(), done.clone());
            thread::spawn(move || {
                while done.load(Ordering::Acquire) == 0 && !work(&queued, &done, &area) {
                    area.sleeper(1).prepare_sleep();
                    let any = queued.load(Ordering::Relaxed) | done.load(Ordering::Relaxed);
                    if any == 0 {
                        area.parks[1].park();
                    }
                    area.sleeper(1).finish_sleep();
                }
            })
        };
        let leaver = {
            let (area, queued, done, given) =
                (area.clone(), queued.clone(), done.clone(), given.clone());
            thread::spawn(move || {
                while given.load(Ordering::Acquire) == 0 {
                    if work(&queued, &done, &area) {
                        continue;
                    }
                    area.sleeper(0).prepare_sleep();
                    let any = queued.load(Ordering::Relaxed) | given.load(Ordering::Relaxed);
                    if any == 0 {
                        area.parks[0].park();
                    }
                    area.sleeper(0).finish_sleep();
                }
                let hands_on = !planted("nobody hands on");
                if hands_on && queued.load(Ordering::Relaxed) != 0 && area.sleeper(1).claim_wake() {
                    area.parks[1].wake();
                }
            })
        };
        queued.swap(1, Ordering::AcqRel);
        if let Some(index) = (0..2).find(|&index| area.sleeper(index).claim_wake()) {
            area.parks[index].wake();
        }
        given.store(1, Ordering::Release);
        if area.sleeper(0).claim_wake() {
            area.parks[0].wake();
        }
        leaver.join().expect("the waiter goes on");
        worker.join().expect("the work is done");
    });
}

#[test]
fn planted_in_work() {
    catches("nobody hands on", "notify::work_reaches_one_who_does_it");
}

/// The monitor and the guest each ring the other: a request and its answer. At
/// most 3 preemptions.
#[test]
fn both_directions_at_once() {
    explore(3, || {
        let (to_monitor, to_guest) = (Area::new(), Area::new());
        let (requests, replies) = (to_monitor.clone(), to_guest.clone());
        let monitor = thread::spawn(move || {
            while requests.receive() == 0 {
                requests.sleep(0, true);
            }
            if !planted("a mark without a wake") {
                replies.send(0);
            } else {
                replies.values[0].store(1, Ordering::Relaxed);
                replies.set().mark(Slot(0));
            }
        });
        to_monitor.send(0);
        while to_guest.receive() == 0 {
            to_guest.sleep(0, true);
        }
        monitor.join().expect("the monitor is done");
    });
}

#[test]
fn planted_in_both_directions() {
    catches("a mark without a wake", "notify::both_directions_at_once");
}
