//! Tests of the ring over plain memory: against a model, and against lies.

use super::*;
use crate::sync::Ordering;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::ptr::NonNull;
use proptest::prelude::*;

/// Both ends of a ring over memory of its own.
fn ring(capacity: usize) -> (Vec<u64>, Producer<ArenaRing>, Consumer<ArenaRing>) {
    let mut memory = vec![0u64; (RingHeader::SIZE + capacity).div_ceil(8)];
    let header = NonNull::new(memory.as_mut_ptr().cast()).expect("a vector has an address");
    // SAFETY: aligned to 8, large enough, and reached only through the ring
    // while the vector, returned beside it, lives.
    let ring = unsafe { ArenaRing::new(header, capacity) };
    (memory, Producer::new(ring), Consumer::new(ring))
}

fn header(memory: &[u64]) -> &RingHeader {
    // SAFETY: the vector starts with a header, all of whose fields are atomic.
    unsafe { &*memory.as_ptr().cast() }
}

proptest! {
    #[test]
    fn behaves_like_a_queue(
        capacity in 1usize..40,
        steps in proptest::collection::vec((any::<bool>(), 0usize..50), 1..300),
    ) {
        let (_memory, mut producer, mut consumer) = ring(capacity);
        let mut model = VecDeque::new();
        let mut next = 0u8;
        for (write, len) in steps {
            if write {
                let source: Vec<u8> = (0..len).map(|i| next.wrapping_add(i as u8)).collect();
                let expected = len.min(capacity - model.len());
                match producer.write(&source) {
                    Ok(n) => prop_assert_eq!(n, expected),
                    Err(RingError::WouldBlock) => prop_assert_eq!(expected, 0),
                    Err(error) => prop_assert!(false, "{error}"),
                }
                model.extend(&source[..expected]);
                next = next.wrapping_add(expected as u8);
            } else {
                let mut target = vec![0; len];
                let expected: Vec<u8> = model.drain(..len.min(model.len())).collect();
                match consumer.read(&mut target) {
                    Ok(n) => prop_assert_eq!(&target[..n], &expected[..]),
                    Err(RingError::WouldBlock) => prop_assert!(expected.is_empty()),
                    Err(error) => prop_assert!(false, "{error}"),
                }
            }
            prop_assert_eq!(producer.free(), Ok(capacity - model.len()));
            prop_assert_eq!(consumer.available(), Ok(model.len()));
        }
    }

    /// Whatever stands in the cursors, an end says so or stays inside its data.
    #[test]
    fn cursor_lies_are_refused(write in any::<u64>(), read in any::<u64>()) {
        let (memory, mut producer, mut consumer) = ring(16);
        producer.write(&[1; 10]).expect("room");
        consumer.read(&mut [0; 4]).expect("data");
        header(&memory).write_cursor.store(write, Ordering::Relaxed);
        header(&memory).read_cursor.store(read, Ordering::Relaxed);
        prop_assert_eq!(producer.free().is_ok(), read <= 10);
        prop_assert_eq!(consumer.available().is_ok(), (10..=20).contains(&write));
    }
}

#[test]
fn a_cursor_that_goes_back_is_a_lie() {
    let (memory, mut producer, mut consumer) = ring(16);
    producer.write(&[1; 10]).expect("room");
    consumer.read(&mut [0; 8]).expect("data");
    assert_eq!(producer.free(), Ok(14));
    header(&memory).read_cursor.store(7, Ordering::Relaxed);
    assert_eq!(
        producer.free(),
        Err(Lie::ReadCursor {
            found: 7,
            low: 8,
            high: 10
        })
    );
}

#[test]
fn a_flag_taken_back_stays_seen() {
    let (memory, mut producer, mut consumer) = ring(16);
    producer.close();
    consumer.close();
    assert!(consumer.is_writer_closed() && producer.is_reader_closed());
    header(&memory).writer_closed.store(0, Ordering::Relaxed);
    header(&memory).reader_closed.store(0, Ordering::Relaxed);
    assert!(consumer.is_writer_closed() && producer.is_reader_closed());
}

#[test]
fn the_end_comes_after_the_last_byte() {
    let (_memory, mut producer, mut consumer) = ring(16);
    producer.write(b"last").expect("room");
    producer.close();
    assert_eq!(consumer.is_at_end(), Ok(false));
    assert_eq!(consumer.read(&mut [0; 9]), Ok(4));
    assert_eq!(consumer.is_at_end(), Ok(true));
    assert_eq!(producer.write(b"more"), Err(RingError::WriteClosed));
}

#[test]
fn a_wish_for_room_waits_for_enough() {
    let (_memory, mut producer, mut consumer) = ring(16);
    producer.write(&[7; 16]).expect("room");
    producer.want_room();
    consumer.read(&mut [0; 7]).expect("data");
    assert!(!consumer.take_room_wanted(8));
    consumer.read(&mut [0; 1]).expect("data");
    assert!(consumer.take_room_wanted(8));
    assert!(!consumer.take_room_wanted(8));
}
