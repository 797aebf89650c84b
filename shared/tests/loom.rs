//! Models of the ring, of notification and of a monitor's end, explored by loom in
//! every order that the memory model allows, within the bounds that each test states.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p arca-shared --test loom
//! ```
//!
//! A model that cannot fail proves nothing: each is run again, in a process of
//! its own, with a bug planted in it, and must fail.

#![cfg(loom)]

#[path = "loom/request.rs"]
mod request;

use arca_shared::notify::{ReadySet, Sleeper, Slot};
use arca_shared::ring::{Arm, Consumer, Producer, RingError, RingHeader, RingMemory};
use arca_shared::sync::{AtomicU32, AtomicU64, Ordering};
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use std::process::{Command, Stdio};

/// A ring in loom's memory: a data race on a byte is found.
#[derive(Clone)]
struct LoomRing(Arc<(RingHeader, Vec<UnsafeCell<u8>>)>);

impl LoomRing {
    fn new(capacity: usize) -> Self {
        let data = (0..capacity).map(|_| UnsafeCell::new(0)).collect();
        Self(Arc::new((RingHeader::default(), data)))
    }
}

// SAFETY: the header is one and the same for all clones; the copies touch the
// cells of the range, and loom checks that they have the right to.
unsafe impl RingMemory for LoomRing {
    fn header(&self) -> &RingHeader {
        &self.0.0
    }

    fn capacity(&self) -> usize {
        self.0.1.len()
    }

    unsafe fn copy_in(&self, position: usize, source: *const u8, len: usize) {
        for i in 0..len {
            self.0.1[position + i].with_mut(|cell| {
                // SAFETY: the caller vouches for the source; loom for the cell.
                unsafe { *cell = *source.add(i) }
            });
        }
    }

    unsafe fn copy_out(&self, position: usize, target: *mut u8, len: usize) {
        for i in 0..len {
            self.0.1[position + i].with(|cell| {
                // SAFETY: the caller vouches for the target; loom for the cell.
                unsafe { *target.add(i) = *cell }
            });
        }
    }
}

/// A park with a token, as the VMM has it.
#[derive(Default)]
struct Park {
    token: Mutex<bool>,
    wake: Condvar,
}

impl Park {
    fn park(&self) {
        let mut token = self.token.lock().expect("no thread panics with it");
        while !*token {
            token = self.wake.wait(token).expect("no thread panics with it");
        }
        *token = false;
    }

    fn wake(&self) {
        *self.token.lock().expect("no thread panics with it") = true;
        self.wake.notify_one();
    }
}

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Names the bug to plant, in the process that runs a model with one.
const PLANT: &str = "ARCA_LOOM_PLANT";

fn planted(bug: &str) -> bool {
    std::env::var(PLANT).is_ok_and(|plant| plant == bug)
}

/// Runs a model of this file with a bug planted in it, which must be caught. (In
/// a process of its own, because a model that ends in a deadlock aborts.)
fn catches(bug: &str, model: &str) {
    let binary = std::env::current_exe().expect("a test has a binary");
    let status = Command::new(binary)
        .args(["--exact", model])
        .env(PLANT, bug)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("a test can run its binary");
    assert!(!status.success(), "{model} does not notice {bug}");
}

/// Three bytes through a ring of two, then errno and close; the reader gets
/// exactly them, and then the end with its errno. At most 3 preemptions.
fn transfer(close: fn(&mut Producer<LoomRing>), end: fn(&mut Consumer<LoomRing>) -> bool) {
    explore(3, move || {
        let ring = LoomRing::new(2);
        let mut producer = Producer::new(ring.clone());
        let mut consumer = Consumer::new(ring);
        let writer = thread::spawn(move || {
            let mut rest: &[u8] = &[1, 2, 3];
            while !rest.is_empty() {
                match producer.write(rest) {
                    Ok(len) => rest = &rest[len..],
                    Err(RingError::WouldBlock) => thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
            close(&mut producer);
        });
        let mut got: Vec<u8> = Vec::new();
        loop {
            let mut buffer = [0; 2];
            match consumer.read(&mut buffer) {
                Ok(len) => got.extend(&buffer[..len]),
                Err(RingError::WouldBlock) if end(&mut consumer) => break,
                Err(RingError::WouldBlock) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(got, [1, 2, 3]);
        assert_eq!(consumer.errno(), 104);
        writer.join().expect("the writer is done");
    });
}

#[test]
fn nothing_is_lost_before_the_end() {
    transfer(
        |producer| {
            if planted("errno after the flag") {
                producer.close();
                producer.set_errno(104);
            } else {
                producer.set_errno(104);
                producer.close();
            }
        },
        |consumer| match planted("end without a second look") {
            // As the draft's reader does: the flag alone is taken for the end.
            true => consumer.is_writer_closed(),
            false => consumer.is_at_end() == Ok(true),
        },
    );
}

#[test]
fn planted_in_the_end_of_a_stream() {
    catches(
        "end without a second look",
        "nothing_is_lost_before_the_end",
    );
    catches("errno after the flag", "nothing_is_lost_before_the_end");
}

/// A byte, and then the cursor that says it is there. At most 3 preemptions.
#[test]
fn a_byte_is_there_before_its_cursor() {
    explore(3, || {
        let ring = LoomRing::new(2);
        let mut consumer = Consumer::new(ring.clone());
        let writer = thread::spawn(move || {
            // SAFETY: one byte of two, before the cursor moves.
            unsafe { ring.copy_in(0, [7].as_ptr(), 1) };
            let order = match planted("relaxed cursor") {
                true => Ordering::Relaxed,
                false => Ordering::Release,
            };
            ring.header().write_cursor.store(1, order);
        });
        let mut byte = [0];
        while consumer.read(&mut byte).is_err() {
            thread::yield_now();
        }
        assert_eq!(byte, [7]);
        writer.join().expect("the writer is done");
    });
}

#[test]
fn planted_in_the_cursor() {
    catches("relaxed cursor", "a_byte_is_there_before_its_cursor");
}

/// A reader that says it wants data and sleeps unless a last look finds some; a
/// writer that publishes and wakes only if asked. A lost wake-up is a deadlock,
/// which loom reports. At most 3 preemptions.
#[test]
fn a_waiting_reader_is_woken() {
    let look_again = !planted("no second look");
    explore(3, move || {
        let ring = LoomRing::new(2);
        let mut producer = Producer::new(ring.clone());
        let mut consumer = Consumer::new(ring);
        let park = Arc::new(Park::default());
        let waker = park.clone();
        let writer = thread::spawn(move || {
            for byte in [1, 2] {
                producer.write(&[byte]).expect("there is room for both");
                if producer.should_notify_data() {
                    waker.wake();
                }
            }
        });
        let mut got = 0;
        while got < 2 {
            let mut buffer = [0; 2];
            match consumer.read(&mut buffer) {
                Ok(len) => got += len,
                Err(_) => {
                    let arm = consumer.arm_data(0);
                    if !look_again || arm == Ok(Arm::Armed) {
                        park.park();
                    }
                }
            }
        }
        writer.join().expect("the writer is done");
    });
}

#[test]
fn planted_in_a_waiting_reader() {
    catches("no second look", "a_waiting_reader_is_woken");
}

/// A writer that waits for half of a ring of two, against a reader that takes
/// byte by byte. At most 3 preemptions.
#[test]
fn a_waiting_writer_is_woken() {
    let look_again = !planted("no second look");
    explore(3, move || {
        let ring = LoomRing::new(2);
        let mut producer = Producer::new(ring.clone());
        let mut consumer = Consumer::new(ring);
        let park = Arc::new(Park::default());
        let sleeper = park.clone();
        producer.write(&[1, 2]).expect("an empty ring");
        let writer = thread::spawn(move || {
            while let Err(RingError::WouldBlock) = producer.write(&[3]) {
                let arm = producer.arm_room(1);
                if !look_again || arm == Ok(Arm::Armed) {
                    sleeper.park();
                }
            }
        });
        let mut got = 0;
        while got < 3 {
            match consumer.read(&mut [0]) {
                Ok(len) => {
                    got += len;
                    if consumer.should_notify_room(1) {
                        park.wake();
                    }
                }
                Err(_) => thread::yield_now(),
            }
        }
        writer.join().expect("the writer is done");
    });
}

#[test]
fn planted_in_a_waiting_writer() {
    catches("no second look", "a_waiting_writer_is_woken");
}

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

    /// A sender: publish, mark, and wake the first sleeper that sleeps.
    fn send(&self, slot: u32, sleepers: usize) {
        self.values[slot as usize].store(1, Ordering::Relaxed);
        self.set().mark(Slot(slot));
        for index in 0..sleepers {
            if self.sleeper(index).claim_wake() {
                self.parks[index].wake();
                break;
            }
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

    fn sleep(&self, index: usize, look_again: bool) {
        self.sleeper(index).prepare_sleep();
        if !look_again || !self.set().any() {
            self.parks[index].park();
        }
        self.sleeper(index).finish_sleep();
    }
}

/// Two senders in two slots of one word, one receiver. At most 3 preemptions.
#[test]
fn no_wake_up_is_lost() {
    let look_again = !planted("no second look");
    explore(3, move || {
        let area = Area::new();
        let senders: Vec<_> = (0..2)
            .map(|slot| {
                let area = area.clone();
                thread::spawn(move || area.send(slot, 1))
            })
            .collect();
        let mut got = 0;
        while got < 2 {
            match area.receive() {
                0 => area.sleep(0, look_again),
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
    catches("no second look", "no_wake_up_is_lost");
}

/// A sender that marks two slots and owes the receiver one wake for both: it looks
/// after each mark whether the receiver sleeps, and wakes it when all is done. At
/// most 3 preemptions.
#[test]
fn a_wake_that_is_owed_comes() {
    let look_again = !planted("no second look");
    let every_mark = !planted("only the first mark counts");
    explore(3, move || {
        let area = Area::new();
        let sender = {
            let area = area.clone();
            thread::spawn(move || {
                let mut owed = false;
                for slot in 0..2 {
                    area.values[slot].store(1, Ordering::Relaxed);
                    area.set().mark(Slot(slot as u32));
                    if slot == 0 || every_mark {
                        owed |= area.sleeper(0).is_asleep();
                    }
                }
                if owed && area.sleeper(0).claim_wake() {
                    area.parks[0].wake();
                }
            })
        };
        let mut got = 0;
        while got < 2 {
            match area.receive() {
                0 => area.sleep(0, look_again),
                count => got += count,
            }
        }
        sender.join().expect("the sender is done");
    });
}

#[test]
fn planted_in_a_wake_that_is_owed() {
    catches("no second look", "a_wake_that_is_owed_comes");
    catches("only the first mark counts", "a_wake_that_is_owed_comes");
}

/// One sender, two waiters that take turns to sleep: the mark is acted on by one
/// of them, and nobody sleeps for ever while it stands. At most 2 preemptions.
#[test]
fn one_of_two_waiters_hears() {
    explore(2, || {
        let area = Area::new();
        let heard = Arc::new(AtomicU32::new(0));
        let waiters: Vec<_> = (0..2)
            .map(|index| {
                let (area, heard) = (area.clone(), heard.clone());
                thread::spawn(move || {
                    while heard.load(Ordering::Acquire) == 0 {
                        if area.receive() > 0 {
                            heard.store(1, Ordering::Release);
                            // Whoever hears tells the other.
                            let other = 1 - index;
                            if !planted("the other is not told") && area.sleeper(other).claim_wake()
                            {
                                area.parks[other].wake();
                            }
                            return;
                        }
                        area.sleeper(index).prepare_sleep();
                        if !area.set().any() && heard.load(Ordering::Acquire) == 0 {
                            area.parks[index].park();
                        }
                        area.sleeper(index).finish_sleep();
                    }
                })
            })
            .collect();
        area.send(1, 2);
        for waiter in waiters {
            waiter.join().expect("the waiter is done");
        }
    });
}

#[test]
fn planted_in_two_waiters() {
    catches("the other is not told", "one_of_two_waiters_hears");
}

/// Work is queued, and then one of two waiters hears what it waits for. The wake for
/// the work may be spent on that one, which goes on with its own and never comes
/// back: the other does the work. At most 3 preemptions.
#[test]
fn work_reaches_one_who_does_it() {
    explore(3, || {
        let area = Area::new();
        // Work that is queued, and that is done; what the first waiter waits for.
        let word = || Arc::new(AtomicU32::new(0));
        let (queued, done, told) = (word(), word(), word());
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
            let (area, queued, done, told) =
                (area.clone(), queued.clone(), done.clone(), told.clone());
            thread::spawn(move || {
                while told.load(Ordering::Acquire) == 0 {
                    if work(&queued, &done, &area) {
                        continue;
                    }
                    area.sleeper(0).prepare_sleep();
                    let any = queued.load(Ordering::Relaxed) | told.load(Ordering::Relaxed);
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
        told.store(1, Ordering::Release);
        if area.sleeper(0).claim_wake() {
            area.parks[0].wake();
        }
        leaver.join().expect("the waiter goes on");
        worker.join().expect("the work is done");
    });
}

#[test]
fn planted_in_work() {
    catches("nobody hands on", "work_reaches_one_who_does_it");
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
                replies.send(0, 1);
            } else {
                replies.values[0].store(1, Ordering::Relaxed);
                replies.set().mark(Slot(0));
            }
        });
        to_monitor.send(0, 1);
        while to_guest.receive() == 0 {
            to_guest.sleep(0, true);
        }
        monitor.join().expect("the monitor is done");
    });
}

#[test]
fn planted_in_both_directions() {
    catches("a mark without a wake", "both_directions_at_once");
}
