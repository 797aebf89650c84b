//! Tests of a pipe: its layout, its sides and its ends.

use super::*;
use crate::memory::BuddyAllocator;
use crate::pipe::PipeRegion;
use crate::testing::test_arena;
use core::ptr::NonNull;

#[test]
fn sizes_are_checked() {
    for bad in [0, 4, 12, u64::MAX, 1 << 41] {
        assert_eq!(RingSize::new(bad), Err(PipeError::RingSize(bad)));
    }
    let size = RingSize::for_region(128 << 10).expect("even");
    assert_eq!(size.get(), 65_512);
    assert_eq!(size.required_size(), 128 << 10);
    assert!(RingSize::for_region(40).is_err());
}

#[test]
fn a_place_outside_the_arena_is_refused() {
    let arena = test_arena(4);
    for (shm_offset, ring_size) in [(4, 64), (u64::MAX - 7, 64), (0, 16 << 10), (16_376, 64)] {
        let place = PipePlace {
            shm_offset,
            ring_size,
        };
        assert!(BidirectionalPipe::join(&arena, place, Side::A).is_err());
    }
}

#[test]
fn both_sides_see_each_other_and_close() {
    let allocator = BuddyAllocator::new(test_arena(64));
    let region = PipeRegion::allocate(&allocator, RingSize::new(64).expect("valid")).expect("fits");
    let mut a = BidirectionalPipe::join(allocator.arena(), region.place(), Side::A).expect("ours");
    let mut b = BidirectionalPipe::join(allocator.arena(), region.place(), Side::B).expect("ours");
    assert_eq!(a.write(b"to linux"), Ok(8));
    assert_eq!(b.write(b"to arca!"), Ok(8));
    let mut buffer = [0; 8];
    assert_eq!(b.read(&mut buffer), Ok(8));
    assert_eq!(&buffer, b"to linux");
    assert_eq!(a.read(&mut buffer), Ok(8));
    assert_eq!(&buffer, b"to arca!");
    a.close_write();
    a.close_read();
    assert!(b.is_peer_write_closed() && b.is_peer_read_closed() && !b.is_closed());
    b.close_write();
    b.close_read();
    assert!(a.is_closed() && b.is_closed());
}

#[test]
fn a_size_is_taken_up_to_its_bound() {
    for good in [8, 16, 1 << 40] {
        assert_eq!(RingSize::new(good).map(RingSize::get), Ok(good));
    }
    let beyond = (1 << 40) + 8;
    assert_eq!(RingSize::new(beyond), Err(PipeError::RingSize(beyond)));
    assert_eq!(RingSize::for_region(64).map(RingSize::get), Ok(8));
    for (region, found) in [(47, 0), (48, 0), (50, 1)] {
        assert_eq!(
            RingSize::for_region(region),
            Err(PipeError::RingSize(found))
        );
    }
    assert_eq!(RingSize::new(8).map(RingSize::required_size), Ok(64));
}

#[test]
fn a_pipe_may_end_where_the_arena_does() {
    let arena = test_arena(4);
    let end = 4 * 4096;
    let place = |shm_offset| PipePlace {
        shm_offset,
        ring_size: 64,
    };
    let pipe = BidirectionalPipe::join(&arena, place(end - 176), Side::A).expect("fits");
    assert_eq!(pipe.shm_offset(), ShmOffset(end - 176));
    assert!(BidirectionalPipe::join(&arena, place(end - 168), Side::A).is_err());
}

/// The two rings of a pipe, byte for byte as DATAPIPE.md has them.
#[test]
fn a_pipe_is_laid_out_as_documented() {
    let arena = test_arena(4);
    let place = PipePlace {
        shm_offset: 4096,
        ring_size: 64,
    };
    let mut a = BidirectionalPipe::join(&arena, place, Side::A).expect("fits");
    let mut b = BidirectionalPipe::join(&arena, place, Side::B).expect("fits");
    a.write(&[0xAA; 3]).expect("room");
    b.write(&[0xBB; 5]).expect("room");
    a.outgoing().set_errno(1);
    b.outgoing().set_errno(2);
    let mut bytes = [0u8; 176];
    let start = arena.from_offset(ShmOffset(4096), 176, 8).expect("inside");
    // SAFETY: inside the arena, and nobody writes there now.
    unsafe { start.copy_to_nonoverlapping(NonNull::from(&mut bytes).cast(), 176) };
    let mut expected = [0u8; 176];
    expected[8] = 3;
    expected[20] = 1;
    expected[24..27].fill(0xAA);
    expected[88 + 8] = 5;
    expected[88 + 20] = 2;
    expected[112..117].fill(0xBB);
    assert_eq!(bytes, expected);
}

#[test]
fn a_pipe_is_closed_when_both_rings_are_by_both_sides() {
    let arena = test_arena(16);
    for left_open in 0..4 {
        let place = PipePlace {
            shm_offset: 4096 * left_open,
            ring_size: 64,
        };
        let mut a = BidirectionalPipe::join(&arena, place, Side::A).expect("fits");
        let mut b = BidirectionalPipe::join(&arena, place, Side::B).expect("fits");
        let closes: [fn(&mut BidirectionalPipe); 2] = [
            BidirectionalPipe::close_write,
            BidirectionalPipe::close_read,
        ];
        for (index, close) in closes.iter().enumerate() {
            if left_open != index as u64 {
                close(&mut a);
            }
            if left_open != 2 + index as u64 {
                close(&mut b);
            }
        }
        assert!(!a.is_closed() && !b.is_closed(), "{left_open}");
        match left_open {
            0 | 1 => closes[left_open as usize](&mut a),
            _ => closes[left_open as usize - 2](&mut b),
        }
        assert!(a.is_closed() && b.is_closed(), "{left_open}");
    }
}

#[test]
fn each_half_is_the_one_it_was() {
    let arena = test_arena(4);
    let place = PipePlace {
        shm_offset: 0,
        ring_size: 64,
    };
    let a = BidirectionalPipe::join(&arena, place, Side::A).expect("fits");
    let mut b = BidirectionalPipe::join(&arena, place, Side::B).expect("fits");
    let (mut outgoing, mut incoming) = a.into_split();
    outgoing.write(b"out").expect("room");
    b.write(b"back").expect("room");
    let mut buffer = [0; 8];
    assert_eq!(b.incoming().read(&mut buffer), Ok(3));
    assert_eq!(incoming.read(&mut buffer), Ok(4));
    assert_eq!(&buffer[..4], b"back");
}
