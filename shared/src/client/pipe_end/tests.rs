//! Tests of a pipe's Arca end, against a monitor that the test plays.

use super::waiting::BULK;
use super::*;
use crate::ring::Arm;
use crate::testing::hal::{Event, TestHal, Wakes};
use crate::testing::peer::Peer;
use core::future::poll_fn;
use core::task::Poll;
use std::format;

/// Capacity of the rings, in bytes.
const CAPACITY: u64 = 64;

/// A peer, and the two ends of a pipe.
fn pipe() -> (Arc<Peer>, PipeEnd, BidirectionalPipe) {
    let peer = Peer::simple();
    let (place, theirs) = peer.pipe(CAPACITY);
    let end = PipeEnd::join(&peer.reactor, place).expect("a place");
    (peer, end, theirs)
}

fn os<T>(errno: Errno) -> Result<T, Error> {
    Err(Error::Os(errno))
}

/// Ends the stream toward Arca with that errno, as the monitor does.
fn fail(theirs: &mut BidirectionalPipe, errno: Errno) {
    theirs.outgoing().set_errno(errno.0);
    theirs.close_write();
    theirs.close_read();
}

#[test]
fn an_end_knows_its_place() {
    let (peer, end, _theirs) = pipe();
    assert_eq!(end.place().ring_size, CAPACITY);
    assert_eq!(end.shm_offset().0, end.place().shm_offset);
    assert_ne!(end.shm_offset().0, 0);
    assert!(Arc::ptr_eq(end.reactor(), &peer.reactor));
    assert_eq!(format!("{end:?}"), format!("PipeEnd({})", end.shm_offset()));
}

#[test]
fn what_is_there_is_read_and_what_is_peeked_at_stays() {
    let (_peer, end, mut theirs) = pipe();
    let mut buffer = [0; 8];
    assert_eq!(end.try_read(&mut []), Ok(0));
    assert_eq!(end.try_read(&mut buffer), os(Errno::EAGAIN));
    assert_eq!(end.try_peek(&mut buffer), os(Errno::EAGAIN));
    theirs.write(b"hello").expect("room");
    for _ in 0..2 {
        assert_eq!(end.try_peek(&mut buffer), Ok(5));
        assert_eq!(&buffer[..5], b"hello");
    }
    assert_eq!(end.try_read(&mut buffer[..2]), Ok(2));
    assert_eq!(end.try_read(&mut buffer), Ok(3));
    assert_eq!(&buffer[..3], b"llo");
    assert_eq!(end.try_read(&mut buffer), os(Errno::EAGAIN));
}

#[test]
fn a_monitor_that_waits_for_room_is_notified_of_half_a_ring() {
    let (peer, end, mut theirs) = pipe();
    theirs.write(&[7; 64]).expect("room");
    assert_eq!(theirs.outgoing().arm_room(1), Ok(Arm::Armed));
    assert_eq!(end.try_read(&mut [0; 31]), Ok(31));
    assert_eq!(peer.take_marks(), []);
    assert_eq!(end.try_peek(&mut [0; 8]), Ok(8));
    assert_eq!(peer.take_marks(), []);
    assert_eq!(end.try_read(&mut [0; 1]), Ok(1));
    assert!(peer.was_marked(end.place()));
    assert_eq!(end.try_read(&mut [0; 8]), Ok(8));
    assert_eq!(peer.take_marks(), [], "told once");
}

#[test]
fn the_end_of_a_stream_comes_after_its_bytes() {
    let (_peer, end, mut theirs) = pipe();
    assert!(!end.is_peer_write_closed() && !end.is_peer_read_closed());
    theirs.write(b"last").expect("room");
    theirs.close_write();
    assert!(end.is_peer_write_closed() && !end.is_peer_read_closed());
    assert_eq!(end.try_read(&mut [0; 8]), Ok(4));
    assert_eq!(end.try_read(&mut [0; 8]), Ok(0));
    assert_eq!(end.try_read(&mut [0; 8]), Ok(0));
    assert!(!end.has_failed());
    assert_eq!(end.take_error(), None);
}

#[test]
fn an_errno_is_read_once_after_the_bytes() {
    let (_peer, end, mut theirs) = pipe();
    theirs.write(b"last").expect("room");
    fail(&mut theirs, Errno::ECONNRESET);
    assert!(end.has_failed());
    assert_eq!(end.try_read(&mut [0; 8]), Ok(4));
    assert_eq!(end.try_read(&mut [0; 8]), os(Errno::ECONNRESET));
    assert_eq!(end.try_read(&mut [0; 8]), Ok(0));
    assert_eq!(end.take_error(), None);
    assert!(end.has_failed(), "still");
    assert_eq!(end.try_write(b"x"), os(Errno::EPIPE));
}

#[test]
fn an_errno_is_written_once_and_then_the_pipe_is_broken() {
    let (_peer, end, mut theirs) = pipe();
    fail(&mut theirs, Errno::ETIMEDOUT);
    assert!(end.is_peer_read_closed());
    assert_eq!(end.try_write(b"x"), os(Errno::ETIMEDOUT));
    assert_eq!(end.try_write(b"x"), os(Errno::EPIPE));
    assert_eq!(end.try_read(&mut [0; 8]), Ok(0));
}

#[test]
fn who_waits_gets_the_errno_too() {
    let wakes = Arc::new(Wakes::default());
    let mut buffer = [0; 8];
    let failed = || {
        let (peer, end, mut theirs) = pipe();
        fail(&mut theirs, Errno::ECONNRESET);
        (peer, end)
    };
    let error = Poll::Ready(os(Errno::ECONNRESET));
    let (_peer, end) = failed();
    let mut read = poll_fn(|context| end.poll_read(context, &mut buffer));
    assert_eq!(wakes.poll(&mut read), error);
    let (_peer, end) = failed();
    let mut peek = poll_fn(|context| end.poll_peek(context, &mut buffer));
    assert_eq!(wakes.poll(&mut peek), error);
    let (_peer, end) = failed();
    let mut write = poll_fn(|context| end.poll_write(context, b"x"));
    assert_eq!(wakes.poll(&mut write), error);
    let (_peer, end) = failed();
    assert_eq!(end.read(&mut [0; 8], None), os(Errno::ECONNRESET));
    let (_peer, end) = failed();
    assert_eq!(end.write(b"x", None), os(Errno::ECONNRESET));
}

#[test]
fn an_errno_that_is_taken_is_not_reported() {
    let (_peer, end, mut theirs) = pipe();
    // In the header, but nothing has ended.
    theirs.outgoing().set_errno(Errno::ECONNRESET.0);
    assert!(!end.has_failed());
    assert_eq!(end.take_error(), None);
    theirs.close_read();
    assert!(end.has_failed());
    assert_eq!(end.take_error(), Some(Errno::ECONNRESET));
    assert_eq!(end.take_error(), None);
    assert_eq!(end.try_write(b"x"), os(Errno::EPIPE));
}

#[test]
fn either_half_knows_of_the_failure() {
    let (_peer, end, mut theirs) = pipe();
    end.close_read();
    fail(&mut theirs, Errno::ECONNRESET);
    assert!(end.has_failed());
    assert_eq!(end.take_error(), Some(Errno::ECONNRESET));

    let (_peer, end, mut theirs) = pipe();
    end.close_write();
    assert!(!end.has_failed());
    fail(&mut theirs, Errno::ECONNRESET);
    assert!(end.has_failed());
    end.close_read();
    assert!(!end.has_failed(), "the region may be another's");
    assert_eq!(end.take_error(), None);
}

#[test]
fn a_broken_pipe_is_an_end_to_who_reads() {
    let (_peer, end, mut theirs) = pipe();
    fail(&mut theirs, Errno::EPIPE);
    assert_eq!(end.try_read(&mut [0; 8]), Ok(0));
    assert_eq!(end.take_error(), Some(Errno::EPIPE));
}

#[test]
fn a_write_takes_what_there_is_room_for_and_notifies() {
    let (peer, end, mut theirs) = pipe();
    assert_eq!(end.try_write(&[]), Ok(0));
    assert_eq!(peer.take_marks(), []);
    assert_eq!(end.try_write(&[7; 60]), Ok(60));
    assert!(peer.was_marked(end.place()));
    assert_eq!(end.try_write(&[7; 60]), Ok(4));
    assert!(peer.was_marked(end.place()));
    assert_eq!(end.try_write(&[7; 60]), os(Errno::EAGAIN));
    assert_eq!(peer.take_marks(), []);
    assert_eq!(theirs.read(&mut [0; 99]), Ok(64));
}

#[test]
fn a_lie_in_a_cursor_is_a_broken_protocol() {
    let (_peer, end, _theirs) = pipe();
    let arena = end.reactor().arena().clone();
    let address = arena
        .from_offset(ShmOffset(end.place().shm_offset), 8, 8)
        .expect("inside");
    // SAFETY: the read cursor of ring A: inside the arena, aligned, atomic.
    let cursor: &core::sync::atomic::AtomicU64 = unsafe { address.cast().as_ref() };
    cursor.store(1000, Ordering::Relaxed);
    assert_eq!(
        end.try_write(&[7; 65]),
        Err(Error::Protocol("a cursor of a ring cannot be true"))
    );
}

#[test]
fn what_was_received_can_be_read_after_reading_was_shut_down() {
    let (peer, end, mut theirs) = pipe();
    theirs.write(b"received").expect("room");
    end.close_read();
    assert!(theirs.is_peer_read_closed() && !theirs.is_peer_write_closed());
    assert!(peer.was_marked(end.place()));
    end.close_read();
    assert_eq!(peer.take_marks(), [], "closed once");
    assert!(end.is_peer_write_closed());
    let mut buffer = [0; 5];
    for _ in 0..2 {
        assert_eq!(end.try_peek(&mut buffer), Ok(5));
        assert_eq!(&buffer, b"recei");
    }
    assert_eq!(end.try_read(&mut buffer[..2]), Ok(2));
    assert_eq!(end.try_read(&mut buffer), Ok(5));
    assert_eq!(&buffer, b"ceive");
    assert_eq!(end.try_read(&mut buffer), Ok(1));
    assert_eq!(end.try_read(&mut buffer), Ok(0));
}

#[test]
fn a_closed_half_writes_no_more() {
    let (peer, end, mut theirs) = pipe();
    assert_eq!(end.try_write(b"last"), Ok(4));
    peer.take_marks();
    end.close_write();
    assert!(theirs.is_peer_write_closed() && !theirs.is_peer_read_closed());
    assert!(peer.was_marked(end.place()));
    assert!(end.is_peer_read_closed());
    assert_eq!(end.try_write(b"more"), os(Errno::EPIPE));
    assert_eq!(theirs.read(&mut [0; 8]), Ok(4));
    theirs.write(b"back").expect("room");
    assert_eq!(end.try_read(&mut [0; 8]), Ok(4));
}

/// Whether a handler is there for the pipe's slot.
fn is_registered(peer: &Peer, place: PipePlace) -> bool {
    peer.signal(place);
    peer.reactor.turn()
}

#[test]
fn a_slot_is_given_up_with_the_last_half_whichever_it_is() {
    let halves: [fn(&PipeEnd); 2] = [PipeEnd::close_write, PipeEnd::close_read];
    for first in 0..2 {
        let (peer, end, mut theirs) = pipe();
        assert!(is_registered(&peer, end.place()));
        halves[first](&end);
        assert!(is_registered(&peer, end.place()));
        halves[1 - first](&end);
        assert!(!is_registered(&peer, end.place()));
        assert!(theirs.is_peer_read_closed() && theirs.is_peer_write_closed());
        assert_eq!(theirs.incoming().errno(), 0, "in order");
    }
}

/// Closes first one half or none, and then aborts; the errno in header A.
fn aborted(first: fn(&PipeEnd)) -> u32 {
    let (peer, end, mut theirs) = pipe();
    theirs.write(b"unread").expect("room");
    first(&end);
    end.abort();
    assert!(!is_registered(&peer, end.place()));
    assert!(theirs.is_peer_read_closed() && theirs.is_peer_write_closed());
    theirs.incoming().errno()
}

#[test]
fn an_abort_says_so_in_the_header_of_the_ring_to_the_monitor() {
    assert_eq!(aborted(|_| ()), Errno::ECONNRESET.0);
    assert_eq!(aborted(PipeEnd::close_write), Errno::ECONNRESET.0);
    assert_eq!(aborted(PipeEnd::close_read), Errno::ECONNRESET.0);
    // Both flags are set: the region may be another pipe's.
    assert_eq!(
        aborted(|end| {
            end.close_read();
            end.close_write();
        }),
        0
    );
}

#[test]
fn an_abort_drops_what_was_received() {
    let (_peer, end, mut theirs) = pipe();
    theirs.write(b"unread").expect("room");
    end.abort();
    assert_eq!(end.try_read(&mut [0; 8]), Ok(0));
}

/// Lets an end go after `before`; the errno in header A.
fn dropped(before: fn(&PipeEnd, &mut BidirectionalPipe)) -> u32 {
    let (peer, end, mut theirs) = pipe();
    before(&end, &mut theirs);
    let place = end.place();
    drop(end);
    assert!(!is_registered(&peer, place));
    assert!(theirs.is_peer_read_closed() && theirs.is_peer_write_closed());
    theirs.incoming().errno()
}

#[test]
fn an_end_that_is_dropped_with_bytes_unread_aborts() {
    assert_eq!(dropped(|_, _| ()), 0);
    assert_eq!(
        dropped(|_, theirs| {
            theirs.write(b"unread").expect("room");
        }),
        Errno::ECONNRESET.0
    );
    assert_eq!(
        dropped(|end, theirs| {
            theirs.write(b"read").expect("room");
            assert_eq!(end.try_read(&mut [0; 8]), Ok(4));
        }),
        0
    );
    assert_eq!(
        dropped(|end, theirs| {
            theirs.write(b"unread").expect("room");
            end.close_read();
        }),
        Errno::ECONNRESET.0
    );
    assert_eq!(
        dropped(|end, theirs| {
            theirs.write(b"read").expect("room");
            end.close_read();
            assert_eq!(end.try_read(&mut [0; 8]), Ok(4));
        }),
        0
    );
}

#[test]
fn a_reader_waits_until_there_is_something() {
    let (peer, end, mut theirs) = pipe();
    let wakes = Arc::new(Wakes::default());
    let mut buffer = [0; 8];
    for peek in [true, false] {
        let mut waiting = poll_fn(|context| match peek {
            true => end.poll_peek(context, &mut buffer),
            false => end.poll_read(context, &mut buffer),
        });
        let woken = wakes.count();
        if peek {
            assert!(wakes.poll(&mut waiting).is_pending());
            theirs.write(b"here").expect("room");
            assert!(theirs.outgoing().should_notify_data(), "and said so");
            assert!(is_registered(&peer, end.place()));
            assert_eq!(wakes.count(), woken + 1);
        }
        assert_eq!(wakes.poll(&mut waiting), Poll::Ready(Ok(4)));
    }
    let mut waiting = poll_fn(|context| end.poll_read(context, &mut buffer));
    assert!(wakes.poll(&mut waiting).is_pending());
    assert!(theirs.outgoing().should_notify_data());
    theirs.close_write();
    assert_eq!(wakes.poll(&mut waiting), Poll::Ready(Ok(0)));
}

#[test]
fn a_reader_that_arms_sees_what_came_between() {
    let (_peer, end, mut theirs) = pipe();
    assert_eq!(end.arm_data(), Arm::Armed);
    theirs.write(b"x").expect("room");
    assert_eq!(end.arm_data(), Arm::Ready);
    assert_eq!(end.try_read(&mut [0; 8]), Ok(1));
    assert_eq!(end.arm_data(), Arm::Armed);
    theirs.close_write();
    assert_eq!(end.arm_data(), Arm::Ready);
    end.close_read();
    assert_eq!(end.arm_data(), Arm::Ready);
}

#[test]
fn a_writer_that_arms_sees_what_came_between() {
    let (_peer, end, mut theirs) = pipe();
    assert_eq!(end.arm_room(), Arm::Ready);
    assert_eq!(end.try_write(&[7; 64]), Ok(64));
    assert_eq!(end.arm_room(), Arm::Armed);
    assert!(theirs.incoming().available() == Ok(64));
    theirs.incoming().consume(1);
    assert_eq!(end.arm_room(), Arm::Ready);
    assert_eq!(end.try_write(&[7; 1]), Ok(1));
    assert_eq!(end.arm_room(), Arm::Armed);
    theirs.close_read();
    assert_eq!(end.arm_room(), Arm::Ready);
    end.close_write();
    assert_eq!(end.arm_room(), Arm::Ready);
}

#[test]
fn a_writer_waits_until_there_is_room() {
    let (peer, end, mut theirs) = pipe();
    let wakes = Arc::new(Wakes::default());
    let mut waiting = poll_fn(|context| end.poll_write(context, &[7; 60]));
    assert_eq!(wakes.poll(&mut waiting), Poll::Ready(Ok(60)));
    assert_eq!(wakes.poll(&mut waiting), Poll::Ready(Ok(4)));
    assert!(wakes.poll(&mut waiting).is_pending());
    assert_eq!(theirs.read(&mut [0; 40]), Ok(40));
    assert!(theirs.incoming().should_notify_room(1), "and said so");
    assert!(is_registered(&peer, end.place()));
    assert_eq!(wakes.count(), 1);
    assert_eq!(wakes.poll(&mut waiting), Poll::Ready(Ok(40)));
}

#[test]
fn a_half_that_closes_wakes_who_waits_for_it() {
    let (_peer, end, _theirs) = pipe();
    let wakes = Arc::new(Wakes::default());
    let mut buffer = [0; 8];
    let mut waiting = poll_fn(|context| end.poll_read(context, &mut buffer));
    assert!(wakes.poll(&mut waiting).is_pending());
    end.close_read();
    assert_eq!(wakes.count(), 1);
    assert_eq!(wakes.poll(&mut waiting), Poll::Ready(Ok(0)));
}

#[test]
fn a_read_that_need_not_wait_does_not() {
    let (peer, end, mut theirs) = pipe();
    theirs.write(b"here").expect("room");
    assert_eq!(end.read(&mut [0; 8], None), Ok(4));
    assert_eq!(end.write(b"there", None), Ok(5));
    fail(&mut theirs, Errno::ECONNRESET);
    assert_eq!(end.read(&mut [0; 8], None), os(Errno::ECONNRESET));
    assert_eq!(end.write(b"more", None), os(Errno::EPIPE));
    assert_eq!(peer.hal.events(), []);
}

#[test]
fn a_blocking_read_parks_until_it_is_told() {
    let (peer, end, mut theirs) = pipe();
    let (place, other) = (end.place(), peer.clone());
    peer.hal.while_parked(move || {
        theirs.write(b"here").expect("room");
        other.signal(place);
    });
    assert_eq!(end.read(&mut [0; 8], None), Ok(4));
    assert_eq!(
        peer.hal.events(),
        [Event::Park(None), Event::Kick(0)],
        "one sleep"
    );
}

#[test]
fn a_blocking_write_parks_until_it_is_told() {
    let (peer, end, mut theirs) = pipe();
    assert_eq!(end.write(&[7; 64], None), Ok(64));
    let (place, other) = (end.place(), peer.clone());
    peer.hal.while_parked(move || {
        assert_eq!(theirs.read(&mut [0; 99]), Ok(64));
        other.signal(place);
    });
    assert_eq!(end.write(&[7; 9], None), Ok(9));
    assert_eq!(peer.hal.events(), [Event::Park(None), Event::Kick(0)]);
}

#[test]
fn a_wait_ends_with_its_timeout() {
    let (peer, end, _theirs) = pipe();
    peer.hal.clock.store(1000, Ordering::Relaxed);
    assert_eq!(end.read(&mut [0; 8], Some(50)), os(Errno::EAGAIN));
    assert_eq!(peer.hal.events(), [Event::Park(Some(1050))]);
    assert_eq!(end.write(&[7; 64], Some(50)), Ok(64));
    assert_eq!(end.write(&[7; 64], Some(70)), os(Errno::EAGAIN));
    assert_eq!(peer.hal.events(), [Event::Park(Some(1120))]);
}

#[test]
fn bytes_within_the_timeout_are_read() {
    let (peer, end, mut theirs) = pipe();
    let (place, other) = (end.place(), peer.clone());
    peer.hal.while_parked(move || {
        theirs.write(b"here").expect("room");
        other.signal(place);
    });
    assert_eq!(end.read(&mut [0; 8], Some(50)), Ok(4));
    assert_eq!(peer.hal.events(), [Event::Park(Some(50)), Event::Kick(0)]);
}

/// How often a sleeper polls in its next wait, where polling has paid off.
fn checks(peer: &Arc<Peer>) -> usize {
    let checks = core::sync::atomic::AtomicUsize::new(0);
    peer.hal.while_parked(|| ());
    peer.reactor.wait(&|| {
        checks.fetch_add(1, Ordering::Relaxed);
        false
    });
    checks.into_inner()
}

/// A pipe whose reader polls, ten times, before it parks.
fn polling_pipe(capacity: u64) -> (Arc<Peer>, PipeEnd, BidirectionalPipe) {
    let peer = Peer::new(TestHal::polling_for(100), 1, 64);
    peer.hal.while_parked(|| ());
    peer.reactor.wait(&|| false);
    for _ in 0..12 {
        peer.reactor.wait(&|| true);
    }
    peer.hal.tick.store(10, Ordering::Relaxed);
    let (place, theirs) = peer.pipe(capacity);
    let end = PipeEnd::join(&peer.reactor, place).expect("a place");
    (peer, end, theirs)
}

#[test]
fn who_has_read_much_without_waiting_parks_at_once() {
    let (peer, end, mut theirs) = polling_pipe(BULK as u64);
    assert_eq!(end.arm_data(), Arm::Armed);
    assert_eq!(checks(&peer), 11, "nothing was read");
    let mut read = |len| {
        theirs.write(&std::vec![7; len]).expect("room");
        assert_eq!(end.try_read(&mut std::vec![0; len]), Ok(len));
    };
    read(BULK - 1);
    assert_eq!(end.arm_data(), Arm::Armed);
    assert_eq!(checks(&peer), 11, "too little");
    read(BULK - 1);
    read(1);
    assert_eq!(end.arm_data(), Arm::Armed);
    assert_eq!(checks(&peer), 1);
    assert_eq!(end.arm_data(), Arm::Armed);
    assert_eq!(checks(&peer), 11, "counted anew");
}

#[test]
fn who_waits_for_room_polls() {
    let (peer, end, _theirs) = polling_pipe(64);
    let wakes = Arc::new(Wakes::default());
    let mut waiting = poll_fn(|context| end.poll_write(context, &[7; 64]));
    assert!(wakes.poll(&mut waiting).is_ready());
    assert_eq!(checks(&peer), 11);
    assert!(wakes.poll(&mut waiting).is_pending());
    assert_eq!(checks(&peer), 11);
}
