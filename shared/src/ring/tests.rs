//! Tests of the ring over plain memory: against a model, and against invalid cursors.

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
    fn invalid_cursors_are_refused(write in any::<u64>(), read in any::<u64>()) {
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
fn a_cursor_that_goes_back_is_invalid() {
    let (memory, mut producer, mut consumer) = ring(16);
    producer.write(&[1; 10]).expect("room");
    consumer.read(&mut [0; 8]).expect("data");
    assert_eq!(producer.free(), Ok(14));
    header(&memory).read_cursor.store(7, Ordering::Relaxed);
    assert_eq!(
        producer.free(),
        Err(InvalidCursor::Read {
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
fn a_request_for_room_waits_for_enough() {
    let (_memory, mut producer, mut consumer) = ring(16);
    producer.write(&[7; 16]).expect("room");
    assert_eq!(producer.arm_room(1), Ok(Arm::Armed));
    consumer.read(&mut [0; 7]).expect("data");
    assert!(!consumer.should_notify_room(8));
    consumer.read(&mut [0; 1]).expect("data");
    assert!(consumer.should_notify_room(8));
    assert!(!consumer.should_notify_room(8));
}

#[test]
fn each_end_counts_its_own_bytes() {
    let (_memory, mut producer, mut consumer) = ring(16);
    assert_eq!((producer.capacity(), consumer.capacity()), (16, 16));
    producer.write(&[7; 12]).expect("room");
    consumer.read(&mut [0; 5]).expect("data");
    assert_eq!((producer.written(), consumer.taken()), (12, 5));
    // As of the last load, which was before the read.
    assert_eq!(producer.pending(), 12);
    assert_eq!(producer.free(), Ok(9));
    assert_eq!(producer.pending(), 7);
}

#[test]
fn a_cursor_that_shows_enough_is_not_loaded_again() {
    let (_memory, mut producer, mut consumer) = ring(16);
    producer.write(&[7; 4]).expect("room");
    assert_eq!(consumer.available(), Ok(4));
    producer.write(&[7; 4]).expect("room");
    assert_eq!(consumer.available_for(4), Ok(4));
    assert_eq!(consumer.available_for(5), Ok(8));
    assert_eq!(producer.free(), Ok(8));
    consumer.read(&mut [0; 4]).expect("data");
    assert_eq!(producer.free_for(8), Ok(8));
    assert_eq!(producer.free_for(9), Ok(12));
}

#[test]
fn bytes_that_are_peeked_at_stay() {
    let (_memory, mut producer, mut consumer) = ring(16);
    producer.write(b"stay").expect("room");
    let mut buffer = [0; 8];
    for _ in 0..2 {
        assert_eq!(consumer.peek(&mut buffer), Ok(4));
        assert_eq!(&buffer[..4], b"stay");
    }
    assert_eq!(consumer.taken(), 0);
    consumer.consume(1);
    assert_eq!(consumer.read(&mut buffer), Ok(3));
    assert_eq!(&buffer[..3], b"tay");
}

#[test]
fn an_empty_buffer_neither_waits_nor_looks() {
    let (memory, mut producer, mut consumer) = ring(16);
    assert_eq!(consumer.read(&mut []), Ok(0));
    producer.write(&[7; 16]).expect("room");
    header(&memory).read_cursor.store(99, Ordering::Relaxed);
    assert_eq!(producer.write(&[]), Ok(0));
}

#[test]
fn more_than_there_is_is_cut() {
    let (memory, mut producer, mut consumer) = ring(16);
    producer.commit(20);
    assert_eq!(header(&memory).write_cursor.load(Ordering::Relaxed), 16);
    assert_eq!(consumer.available(), Ok(16));
    consumer.consume(20);
    assert_eq!(header(&memory).read_cursor.load(Ordering::Relaxed), 16);
    assert_eq!(producer.free(), Ok(16));
}

#[test]
fn each_end_knows_that_it_closed() {
    let (_memory, mut producer, mut consumer) = ring(16);
    assert!(!producer.is_closed() && !consumer.is_closed());
    assert!(!producer.is_reader_closed() && !consumer.is_writer_closed());
    producer.close();
    assert!(producer.is_closed() && !consumer.is_closed());
    assert!(!producer.is_reader_closed() && consumer.is_writer_closed());
    assert_eq!(producer.write(b"more"), Err(RingError::WriteClosed));
    consumer.close();
    assert!(consumer.is_closed() && producer.is_reader_closed());
}

#[test]
fn nothing_is_put_for_a_reader_that_closed() {
    let (_memory, mut producer, mut consumer) = ring(16);
    consumer.close();
    assert_eq!(producer.write(b"more"), Err(RingError::WriteClosed));
}

#[test]
fn a_request_is_taken_once() {
    let (memory, mut producer, mut consumer) = ring(16);
    assert!(!producer.should_notify_data() && !consumer.should_notify_room(1));
    assert_eq!(consumer.arm_data(0), Ok(Arm::Armed));
    assert_eq!(producer.arm_room(16), Ok(Arm::Ready));
    assert!(producer.should_notify_data() && consumer.should_notify_room(1));
    assert!(!producer.should_notify_data() && !consumer.should_notify_room(1));
    assert_eq!(header(&memory).data_wanted.load(Ordering::Relaxed), 0);
    assert_eq!(header(&memory).room_wanted.load(Ordering::Relaxed), 0);
}

#[test]
fn more_room_than_a_ring_has_is_never_waited_for() {
    let (_memory, mut producer, consumer) = ring(16);
    assert_eq!(producer.arm_room(17), Ok(Arm::Armed));
    assert!(consumer.should_notify_room(17));
}

#[test]
fn a_reader_arms_unless_there_is_more_data_or_the_end() {
    let (memory, mut producer, mut consumer) = ring(16);
    assert_eq!(consumer.arm_data(0), Ok(Arm::Armed));
    producer.write(b"part").expect("room");
    assert!(producer.should_notify_data());
    assert_eq!(consumer.arm_data(0), Ok(Arm::Ready));
    // An incomplete message: only more than its bytes is worth a wake-up.
    assert_eq!(consumer.arm_data(4), Ok(Arm::Armed));
    assert_eq!(consumer.arm_data(3), Ok(Arm::Ready));
    producer.write(b"s").expect("room");
    assert_eq!(consumer.arm_data(4), Ok(Arm::Ready));
    assert_eq!(consumer.arm_data(5), Ok(Arm::Armed));
    producer.close();
    assert_eq!(consumer.arm_data(5), Ok(Arm::Ready));
    header(&memory).write_cursor.store(99, Ordering::Relaxed);
    let invalid = consumer.arm_data(5).expect_err("more than the ring holds");
    assert_eq!(consumer.available(), Err(invalid));
}

#[test]
fn a_writer_arms_unless_there_is_room_enough_or_no_reader() {
    let (memory, mut producer, mut consumer) = ring(16);
    producer.write(&[7; 16]).expect("room");
    assert_eq!(producer.arm_room(1), Ok(Arm::Armed));
    consumer.read(&mut [0; 4]).expect("data");
    assert!(consumer.should_notify_room(1));
    assert_eq!(producer.arm_room(4), Ok(Arm::Ready));
    assert_eq!(producer.arm_room(5), Ok(Arm::Armed));
    consumer.close();
    assert_eq!(producer.arm_room(5), Ok(Arm::Ready));
    header(&memory).read_cursor.store(99, Ordering::Relaxed);
    let invalid = producer.arm_room(1).expect_err("more than was written");
    assert_eq!(producer.free(), Err(invalid));
}

#[test]
fn a_request_stands_whether_or_not_it_was_needed() {
    let (_memory, mut producer, mut consumer) = ring(16);
    producer.write(b"here").expect("room");
    assert_eq!(consumer.arm_data(0), Ok(Arm::Ready));
    assert_eq!(producer.arm_room(1), Ok(Arm::Ready));
    assert!(producer.should_notify_data() && consumer.should_notify_room(1));
}

#[test]
fn a_write_cursor_past_the_ring_leaves_no_room_to_notify_of() {
    let (memory, mut producer, consumer) = ring(16);
    assert_eq!(producer.arm_room(1), Ok(Arm::Ready));
    header(&memory).write_cursor.store(17, Ordering::Relaxed);
    assert!(!consumer.should_notify_room(1));
    header(&memory).write_cursor.store(16, Ordering::Relaxed);
    assert!(!consumer.should_notify_room(1));
    header(&memory).write_cursor.store(15, Ordering::Relaxed);
    assert!(consumer.should_notify_room(1));
}

#[test]
fn an_errno_stands_in_the_header() {
    let (memory, producer, consumer) = ring(16);
    assert_eq!((producer.errno(), consumer.errno()), (0, 0));
    producer.set_errno(104);
    assert_eq!(header(&memory).errno.load(Ordering::Relaxed), 104);
    assert_eq!((producer.errno(), consumer.errno()), (104, 104));
    consumer.set_errno(32);
    assert_eq!((producer.errno(), consumer.errno()), (32, 32));
}

#[test]
fn an_errno_for_the_other_ring_stands_in_its_header() {
    let (memory, other_memory) = (vec![0u64; 5], vec![0u64; 5]);
    let of = |memory: &Vec<u64>| {
        let header = NonNull::new(memory.as_ptr().cast_mut().cast()).expect("an address");
        // SAFETY: aligned to 8, a header and 16 bytes, reached only through the
        // rings while the vectors live.
        unsafe { ArenaRing::new(header, 16) }
    };
    let (ring, sibling) = of(&memory).pair(of(&other_memory));
    Consumer::new(sibling).set_peer_errno(104);
    assert_eq!(header(&memory).errno.load(Ordering::Relaxed), 104);
    assert_eq!(header(&other_memory).errno.load(Ordering::Relaxed), 0);
    assert_eq!(Producer::new(sibling).peer_errno(), 104);
    assert_eq!(Producer::new(ring).peer_errno(), 0);
}

/// Where the parts are in the ring's data, and how long they are.
fn places(memory: &[u64], parts: Parts) -> [(usize, usize); 2] {
    let data = memory.as_ptr() as usize + RingHeader::SIZE;
    [parts.first, parts.second].map(|(address, len)| (address.as_ptr() as usize - data, len))
}

#[test]
fn raw_parts_follow_the_cursors_around_the_end() {
    let (memory, mut producer, mut consumer) = ring(16);
    let room = producer.room_parts(99).expect("true cursors");
    assert_eq!(places(&memory, room), [(0, 16), (0, 0)]);
    assert!(consumer.data_parts(99).expect("true cursors").is_empty());
    producer.commit(12);
    consumer.consume(0);
    assert_eq!(consumer.available(), Ok(12));
    consumer.consume(10);
    let room = producer.room_parts(99).expect("true cursors");
    assert_eq!(places(&memory, room), [(12, 4), (0, 10)]);
    assert_eq!(room.len(), 14);
    let room = producer.room_parts(3).expect("true cursors");
    assert_eq!(places(&memory, room), [(12, 3), (0, 0)]);
    producer.commit(9);
    let data = consumer.data_parts(99).expect("true cursors");
    assert_eq!(places(&memory, data), [(10, 6), (0, 5)]);
    assert!(!data.is_empty());
    let data = consumer.data_parts(8).expect("true cursors");
    assert_eq!(places(&memory, data), [(10, 6), (0, 2)]);
    consumer.consume(8);
    let data = consumer.data_parts(99).expect("true cursors");
    assert_eq!(places(&memory, data), [(2, 3), (0, 0)]);
}

#[test]
fn one_part_is_enough_if_it_has_enough() {
    let (memory, mut producer, mut consumer) = ring(16);
    producer.commit(16);
    assert_eq!(consumer.available(), Ok(16));
    consumer.consume(12);
    producer.free().expect("true cursors");
    producer.commit(12);
    let data = consumer.data_parts(99).expect("true cursors");
    assert_eq!(places(&memory, data.in_one(5)), [(12, 4), (0, 12)]);
    assert_eq!(places(&memory, data.in_one(4)), [(12, 4), (0, 0)]);
}

#[test]
fn a_flag_says_which_call_closed_the_end() {
    for (close, connection) in [(Close::Shutdown, false), (Close::Connection, true)] {
        let (_memory, mut producer, mut consumer) = ring(16);
        assert!(!producer.is_connection_closed() && !consumer.is_connection_closed());
        producer.close_by(close);
        assert!(producer.is_closed() && consumer.is_writer_closed());
        assert_eq!(consumer.is_connection_closed(), connection);
        assert!(!producer.is_connection_closed(), "that is the other flag");
        consumer.close_by(close);
        assert!(consumer.is_closed() && producer.is_reader_closed());
        assert_eq!(producer.is_connection_closed(), connection);
    }
}
