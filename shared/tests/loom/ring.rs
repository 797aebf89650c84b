//! A ring, and an end of it that waits.

use super::{Park, catches, explore, planted};
use arca_shared::ring::{Arm, Consumer, Producer, RingError, RingHeader, RingMemory};
use arca_shared::sync::Ordering;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

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
        |consumer| match planted("end without a second check") {
            // As the draft's reader does: the flag alone is taken for the end.
            true => consumer.is_writer_closed(),
            false => consumer.is_at_end() == Ok(true),
        },
    );
}

#[test]
fn planted_in_the_end_of_a_stream() {
    catches(
        "end without a second check",
        "ring::nothing_is_lost_before_the_end",
    );
    catches(
        "errno after the flag",
        "ring::nothing_is_lost_before_the_end",
    );
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
    catches("relaxed cursor", "ring::a_byte_is_there_before_its_cursor");
}

/// A reader that arms the ring and sleeps unless it finds data after that; a writer
/// that publishes and wakes only if the ring is armed. A lost wake-up is a deadlock,
/// which loom reports. At most 3 preemptions.
#[test]
fn a_waiting_reader_is_woken() {
    let check_again = !planted("no check after arming");
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
                    if !check_again || arm == Ok(Arm::Armed) {
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
    catches("no check after arming", "ring::a_waiting_reader_is_woken");
}

/// A writer that waits for half of a ring of two, against a reader that takes
/// byte by byte. At most 3 preemptions.
#[test]
fn a_waiting_writer_is_woken() {
    let check_again = !planted("no check after arming");
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
                if !check_again || arm == Ok(Arm::Armed) {
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
    catches("no check after arming", "ring::a_waiting_writer_is_woken");
}
