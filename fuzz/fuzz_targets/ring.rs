//! Both ends of rings in memory that the other side corrupts: it changes between
//! operations and, in the middle of one, between any two reads of the header. The
//! outcome is an error, or bytes inside the ring; without corruption, the bytes that
//! were put, in order.

#![no_main]

use arbitrary::Arbitrary;
use arca_fuzz::{Memory, telling};
use arca_shared::pipe::PipePlace;
use arca_shared::pipe::{BidirectionalPipe, RingSize, Side};
use arca_shared::ring::{Consumer, Producer, RingHeader, RingMemory};
use libfuzzer_sys::fuzz_target;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Corruption {
    field: u8,
    kind: u8,
    value: u64,
}

#[derive(Arbitrary, Debug)]
enum Operation {
    Write(u8),
    Read(u8),
    Peek(u8),
    Commit(u16),
    Consume(u16),
    Room,
    Wishes,
    Close {
        producer: bool,
    },
    Corrupt(Corruption),
    /// Corruptions for the next reads of the header, one each.
    Soon([Option<Corruption>; 3]),
}

/// A ring whose header changes as it is read.
struct Lying {
    header: RingHeader,
    data: RefCell<Vec<u8>>,
    soon: RefCell<VecDeque<Option<Corruption>>>,
    lied: Cell<bool>,
}

impl Lying {
    fn corrupt(&self, corruption: Corruption) {
        self.lied.set(true);
        let limit = self.data.borrow().len() as u64;
        let value = telling(corruption.kind, corruption.value, limit);
        let header = &self.header;
        match corruption.field % 6 {
            0 => header.read_cursor.store(value, Ordering::Relaxed),
            1 => header.write_cursor.store(value, Ordering::Relaxed),
            2 => header.writer_closed.store(value as u8, Ordering::Relaxed),
            3 => header.reader_closed.store(value as u8, Ordering::Relaxed),
            4 => header.room_wanted.store(value as u8, Ordering::Relaxed),
            _ => header.data_wanted.store(value as u8, Ordering::Relaxed),
        }
    }
}

// SAFETY: one header for good; the copies check their range.
unsafe impl RingMemory for &Lying {
    fn header(&self) -> &RingHeader {
        if let Some(Some(corruption)) = self.soon.borrow_mut().pop_front() {
            self.corrupt(corruption);
        }
        &self.header
    }

    fn capacity(&self) -> usize {
        self.data.borrow().len()
    }

    unsafe fn copy_in(&self, position: usize, source: *const u8, len: usize) {
        let mut data = self.data.borrow_mut();
        let target = &mut data[position..position + len];
        // SAFETY: the caller vouches for the source; the target was checked.
        unsafe { source.copy_to_nonoverlapping(target.as_mut_ptr(), len) }
    }

    unsafe fn copy_out(&self, position: usize, target: *mut u8, len: usize) {
        let data = self.data.borrow();
        let source = &data[position..position + len];
        // SAFETY: the caller vouches for the target; the source was checked.
        unsafe { target.copy_from_nonoverlapping(source.as_ptr(), len) }
    }
}

/// One ring, operation by operation, beside a queue that does the same without corruption.
fn one_ring(capacity: usize, operations: &[Operation]) {
    let ring = Lying {
        header: RingHeader::default(),
        data: RefCell::new(vec![0; capacity]),
        soon: RefCell::default(),
        lied: Cell::new(false),
    };
    let (mut producer, mut consumer) = (Producer::new(&ring), Consumer::new(&ring));
    let mut model = VecDeque::new();
    let mut next = 0u8;
    let (mut gone, mut left) = (false, false);
    let mut seen = (false, false);
    for operation in operations {
        let honest = !ring.lied.get();
        let (written, taken) = (producer.written(), consumer.taken());
        match operation {
            Operation::Write(len) => {
                let bytes: Vec<u8> = (0..*len).map(|i| next.wrapping_add(i)).collect();
                let result = producer.write(&bytes);
                let put = result.unwrap_or(0);
                assert!(put <= bytes.len());
                next = next.wrapping_add(put as u8);
                model.extend(&bytes[..put]);
                if honest && !ring.lied.get() && !gone && !left {
                    let room = capacity - (model.len() - put);
                    assert_eq!(put, bytes.len().min(room));
                }
            }
            Operation::Read(len) | Operation::Peek(len) => {
                let mut buffer = vec![0; usize::from(*len)];
                let peek = matches!(operation, Operation::Peek(_));
                let result = match peek {
                    true => consumer.peek(&mut buffer),
                    false => consumer.read(&mut buffer),
                };
                let got = result.unwrap_or(0);
                assert!(got <= buffer.len());
                if honest && !ring.lied.get() {
                    let wanted: Vec<u8> = model.iter().take(buffer.len()).copied().collect();
                    assert_eq!(&buffer[..got], &wanted[..]);
                }
                if !peek {
                    model.drain(..got.min(model.len()));
                }
            }
            // More than there is room for, or than was seen, is cut: what was put
            // is then anything, as after a corruption.
            Operation::Commit(len) => {
                ring.lied.set(true);
                producer.commit(usize::from(*len));
            }
            Operation::Consume(len) => {
                ring.lied.set(true);
                consumer.consume(usize::from(*len));
            }
            Operation::Room => {
                if let Ok(free) = producer.free() {
                    assert!(free <= capacity);
                }
                if let Ok(available) = consumer.available() {
                    assert!(available <= capacity);
                    if honest && !ring.lied.get() {
                        assert_eq!(available, model.len());
                    }
                }
                let _ = consumer.is_at_end();
            }
            Operation::Wishes => {
                let _ = producer.arm_room(1);
                let _ = consumer.arm_data(0);
                producer.should_notify_data();
                consumer.should_notify_room(capacity / 2);
            }
            Operation::Close { producer: true } => {
                producer.close();
                gone = true;
            }
            Operation::Close { .. } => {
                consumer.close();
                left = true;
            }
            Operation::Corrupt(corruption) => ring.corrupt(*corruption),
            Operation::Soon(corruptions) => ring.soon.borrow_mut().extend(corruptions),
        }
        // What an end keeps to itself nobody turns back or stretches.
        assert!(producer.written() >= written && consumer.taken() >= taken);
        assert!(producer.written() - written <= capacity as u64);
        assert!(consumer.taken() - taken <= capacity as u64);
        assert!(producer.pending() <= capacity);
        // A flag that is taken back is not believed.
        let flags = (producer.is_reader_closed(), consumer.is_writer_closed());
        assert!(ring.lied.get() || flags == (left, gone));
        seen = (seen.0 | flags.0, seen.1 | flags.1);
        assert_eq!(flags, seen);
    }
}

/// The pieces that a pipe's rings give to the kernel, with the memory around them
/// watched by the address sanitizer.
fn pieces(size: u64, operations: &[Operation]) {
    let size = RingSize::new(size).expect("a multiple of 8");
    let memory = Memory::new(size.required_size() as usize);
    let place = PipePlace {
        shm_offset: 0,
        ring_size: size.get(),
    };
    let arena = memory.arena();
    let mut pipe = BidirectionalPipe::join(&arena, place, Side::B).expect("fits");
    for operation in operations {
        match *operation {
            Operation::Corrupt(corruption) => {
                // One of the two headers, or the data behind it.
                let header = u64::from(corruption.field / 128) * (3 + size.get() / 8);
                let value = telling(corruption.kind, corruption.value, size.get());
                memory.poke((header + u64::from(corruption.field % 4)) as usize, value);
            }
            Operation::Write(limit) | Operation::Peek(limit) => {
                let limit = usize::from(limit);
                if let Ok(parts) = pipe.outgoing().room_parts(limit) {
                    assert!(parts.len() <= limit.min(size.get() as usize));
                    // SAFETY: room that the ring gave out.
                    unsafe {
                        parts.first.0.write_bytes(1, parts.first.1);
                        parts.second.0.write_bytes(2, parts.second.1);
                    }
                }
            }
            Operation::Read(limit) => {
                let limit = usize::from(limit);
                if let Ok(parts) = pipe.incoming().data_parts(limit) {
                    assert!(parts.len() <= limit.min(size.get() as usize));
                    let mut sum = 0u8;
                    for (start, len) in [parts.first, parts.second] {
                        for byte in 0..len {
                            // SAFETY: data that the ring gave out.
                            sum ^= unsafe { start.add(byte).read_volatile() };
                        }
                    }
                    std::hint::black_box(sum);
                }
            }
            Operation::Commit(len) => pipe.outgoing().commit(usize::from(len)),
            Operation::Consume(len) => pipe.incoming().consume(usize::from(len)),
            Operation::Close { producer: true } => pipe.close_write(),
            Operation::Close { .. } => pipe.close_read(),
            Operation::Room | Operation::Wishes | Operation::Soon(_) => {
                let _ = pipe.incoming().is_at_end();
                pipe.is_closed();
            }
        }
    }
}

fuzz_target!(|input: (bool, u8, Vec<Operation>)| {
    let (pipe, size, operations) = input;
    let size = usize::from(size % 32 + 1) * 8;
    match pipe {
        true => pieces(size as u64, &operations),
        false => one_ring(size, &operations),
    }
});
