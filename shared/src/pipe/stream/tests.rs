//! Tests of the draft's streams, and of the waiting that they share.

use super::*;
use crate::memory::BuddyAllocator;
use crate::pipe::PipeRegion;
use crate::pipe::{RingSize, Side};
use crate::ring::{InvalidCursor, RingHeader};
use crate::sync::Ordering;
use crate::testing::test_arena;
use alloc::vec;
use alloc::vec::Vec;
use core::pin::pin;
use core::ptr::NonNull;
use core::task::{Context, Waker};

const CAPACITY: usize = 64;

/// Both sides of a pipe, and its memory.
fn pipe() -> (BidirectionalPipe, BidirectionalPipe, BuddyAllocator) {
    let allocator = BuddyAllocator::new(test_arena(4));
    let size = RingSize::new(CAPACITY as u64).expect("valid");
    let region = PipeRegion::allocate(&allocator, size).expect("fits");
    let join = |side| BidirectionalPipe::join(allocator.arena(), region.place(), side);
    let (a, b) = (join(Side::A).expect("ours"), join(Side::B).expect("ours"));
    // Nobody else allocates here: the memory is the pipe's for good.
    core::mem::forget(region);
    (a, b, allocator)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(result) => return result,
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

/// Gives everything back until the peer ends its stream.
fn echo(mut stream: SyncStream) -> usize {
    let (mut total, mut buffer) = (0, [0; 50]);
    loop {
        let len = stream.recv(&mut buffer).expect("a valid cursor");
        stream.send(&buffer[..len]).expect("a reader");
        total += len;
        if len < buffer.len() {
            return total;
        }
    }
}

#[test]
fn all_goes_through_a_small_ring_and_back() {
    let (a, b, _memory) = pipe();
    let sent = pattern(2_010);
    let echo = std::thread::spawn(move || echo(b.into()));
    let (mut writer, mut got) = (SyncStream::new(a), vec![0; sent.len()]);
    for (out, into) in sent.chunks(50).zip(got.chunks_mut(50)) {
        writer.send(out).expect("a reader");
        if out.len() < 50 {
            writer.close_write();
        }
        assert_eq!(writer.recv(into), Ok(out.len()));
    }
    assert!(got == sent);
    assert_eq!(echo.join().expect("no panic"), sent.len());
    // Its drop closed the other side; this one reads to the end, which closes.
    assert_eq!(writer.recv(&mut [0; 9]), Ok(0));
    assert!(writer.is_closed());
    assert_eq!(writer.recv(&mut [0; 9]), Ok(0));
}

#[test]
fn all_goes_through_for_tasks_too() {
    let (a, b, _memory) = pipe();
    let sent = pattern(2_010);
    let echo = std::thread::spawn(move || echo(b.into()));
    let mut stream = AsyncStream::new(a);
    let mut got = vec![0; sent.len()];
    block_on(async {
        for (out, into) in sent.chunks(50).zip(got.chunks_mut(50)) {
            stream.send(out).await.expect("a reader");
            if out.len() < 50 {
                stream.close_write();
            }
            assert_eq!(stream.recv(into).await, Ok(out.len()));
        }
        assert_eq!(stream.read(&mut [0; 9]).await, Ok(0));
        assert_eq!(stream.recv(&mut [0; 9]).await, Ok(0));
    });
    assert!(got == sent);
    assert_eq!(echo.join().expect("no panic"), sent.len());
    assert!(stream.is_closed());
}

#[test]
fn a_plain_read_gives_what_is_there() {
    let (a, mut b, _memory) = pipe();
    assert_eq!(b.write(b"some"), Ok(4));
    let mut buffer = [0; 9];
    let mut stream = SyncStream::new(a);
    assert_eq!(stream.read(&mut buffer), Ok(4));
    assert_eq!(&buffer[..4], b"some");
    b.close_write();
    assert_eq!(stream.read(&mut buffer), Ok(0));
    // That is no recv: the reader is still open.
    assert!(!b.is_peer_read_closed());
}

#[test]
fn a_send_to_a_reader_that_closed_closes_the_writer() {
    for buffer in [&b""[..], b"bytes"] {
        let unsent = Err(Incomplete {
            moved: 0,
            reason: RingError::WriteClosed,
        });
        let (a, mut b, _memory) = pipe();
        let mut stream = SyncStream::new(a);
        assert_eq!(stream.send(b""), Ok(()));
        b.close_read();
        assert_eq!(stream.send(buffer), unsent);
        assert!(b.is_peer_write_closed() && !b.is_peer_read_closed());
        assert_eq!(stream.send(buffer), unsent);
        let (a, mut b, _memory) = pipe();
        let mut stream = AsyncStream::new(a);
        b.close_read();
        assert_eq!(block_on(stream.send(buffer)), unsent);
        assert!(b.is_peer_write_closed() && !b.is_peer_read_closed());
    }
}

#[test]
fn a_writer_that_waits_learns_how_much_was_taken() {
    let (a, mut b, _memory) = pipe();
    let writer = std::thread::spawn(move || SyncStream::new(a).send(&[7; CAPACITY + 20]));
    while b.incoming().available() != Ok(CAPACITY) {
        std::thread::yield_now();
    }
    assert_eq!(b.read(&mut [0; 10]), Ok(10));
    while b.incoming().available() != Ok(CAPACITY) {
        std::thread::yield_now();
    }
    b.close_read();
    let unsent = writer.join().expect("no panic");
    let moved = CAPACITY + 10;
    let reason = RingError::WriteClosed;
    assert_eq!(unsent, Err(Incomplete { moved, reason }));
}

#[test]
fn bytes_before_a_lie_count_and_the_lie_comes_next() {
    let (a, mut b, memory) = pipe();
    assert_eq!(b.write(b"ten bytes!"), Ok(10));
    let offset = ShmOffset(a.shm_offset().0 + (RingHeader::SIZE + CAPACITY) as u64);
    let header: NonNull<u8> = memory.arena().from_offset(offset, 24, 8).expect("ours");
    let mut stream = AsyncStream::new(a);
    let mut buffer = [0; 16];
    {
        let mut context = Context::from_waker(Waker::noop());
        let mut recv = pin!(stream.recv(&mut buffer));
        assert_eq!(recv.as_mut().poll(&mut context), Poll::Pending);
        // SAFETY: the header of ring B, all of it atomic.
        let header = unsafe { header.cast::<RingHeader>().as_ref() };
        header.write_cursor.store(5, Ordering::Release);
        assert_eq!(recv.as_mut().poll(&mut context), Poll::Ready(Ok(10)));
    }
    assert_eq!(&buffer[..10], b"ten bytes!");
    assert!(!b.is_peer_read_closed());
    let invalid = InvalidCursor::Write {
        found: 5,
        low: 10,
        high: 10 + CAPACITY as u64,
    };
    assert_eq!(block_on(stream.recv(&mut buffer)), Err(invalid.into()));
}

/// An end that takes three bytes for each wait.
struct Slow {
    room: usize,
    waits: Vec<u32>,
}

impl Write for Slow {
    fn write(&mut self, source: &[u8]) -> Result<usize, RingError> {
        match core::mem::take(&mut self.room).min(source.len()) {
            0 => Err(RingError::WouldBlock),
            len => Ok(len),
        }
    }

    fn wait_for_room(&mut self, waits: u32) {
        self.waits.push(waits);
        // Nothing the first time.
        self.room = if waits > 0 { 3 } else { 0 };
    }
}

#[test]
fn an_end_may_know_better_than_to_spin() {
    let mut slow = Slow {
        room: 1,
        waits: Vec::new(),
    };
    assert_eq!(slow.write_all(&[0; 7]), Ok(()));
    assert_eq!(slow.waits, [0, 1, 0, 1]);
}
