//! Rings that are lent to whoever parses or generates in place.

use super::*;
use alloc::boxed::Box;
use core::future::Future;
use core::task::Poll;
use std::panic::{AssertUnwindSafe, catch_unwind};

const BYTES: [u8; 64] = {
    let mut bytes = [0; 64];
    let mut at = 0;
    while at < bytes.len() {
        bytes[at] = at as u8;
        at += 1;
    }
    bytes
};

/// A connection whose rings of 64 bytes wrap after the next 24.
fn wrapping() -> Connected {
    let mut connected = connected(64);
    connected.theirs.write(&[7; 40]).expect("room");
    assert_eq!(connected.stream.read(&mut [0; 64]), Ok(40));
    assert_eq!(connected.stream.write(&[7; 40]), Ok(40));
    assert_eq!(connected.theirs.read(&mut [0; 64]), Ok(40));
    connected
}

/// Whether these bytes are the arena's own.
fn is_in_arena(peer: &Peer, bytes: &[u8]) -> bool {
    let arena = peer.reactor.arena();
    let start = arena.base().as_ptr().addr();
    (start..start + arena.len()).contains(&bytes.as_ptr().addr())
}

fn poll<T>(future: core::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut core::task::Context::from_waker(
        core::task::Waker::noop(),
    ))
}

#[test]
fn bytes_are_lent_where_they_are_up_to_the_end_of_the_ring() {
    let Connected {
        peer,
        mut stream,
        mut theirs,
        ..
    } = wrapping();
    theirs.write(&BYTES[..30]).expect("room");
    let lent = stream.fill_buf().expect("bytes");
    assert_eq!(lent, &BYTES[..24]);
    assert!(is_in_arena(&peer, lent));
    stream.consume(10);
    assert_eq!(stream.fill_buf(), Ok(&BYTES[10..24]));
    // More than was lent is not read.
    stream.consume(99);
    assert_eq!(stream.fill_buf(), Ok(&BYTES[24..30]));
    // In pieces, as of any buffer.
    stream.consume(1);
    stream.consume(2);
    assert_eq!(stream.fill_buf(), Ok(&BYTES[27..30]));
    // Not consumed, and so still there.
    assert_eq!(stream.read(&mut [0; 64]), Ok(3));
    stream.consume(5);
    theirs.close_write();
    assert_eq!(stream.fill_buf(), Ok(&[][..]));
    stream.consume(0);
    assert_eq!(stream.fill_buf(), Ok(&[][..]));
}

#[test]
fn a_lender_waits_as_a_reader_does() {
    let Connected {
        peer,
        mut stream,
        mut theirs,
        ..
    } = connected(64);
    stream.set_nonblocking(true);
    assert_eq!(stream.fill_buf(), os(Errno::EAGAIN));
    stream.set_nonblocking(false);
    let limit = Some(Duration::from_nanos(5));
    stream.set_read_timeout(limit).expect("not zero");
    assert_eq!(stream.fill_buf(), os(Errno::EAGAIN));
    assert_eq!(peer.hal.events(), [Event::Park(Some(5))]);
    stream.set_read_timeout(None).expect("none");
    let (other, place) = (peer.clone(), stream.core.end.place());
    peer.hal.while_parked(move || {
        theirs.write(b"late").expect("room");
        theirs.outgoing().set_errno(Errno::ECONNRESET.0);
        theirs.close_write();
        theirs.close_read();
        other.signal(place);
    });
    assert_eq!(stream.fill_buf(), Ok(&b"late"[..]));
    stream.consume(4);
    assert_eq!(stream.fill_buf(), os(Errno::ECONNRESET));
    assert_eq!(stream.fill_buf(), Ok(&[][..]));
}

#[test]
fn room_that_a_monitor_waits_for_is_given_when_bytes_are_consumed() {
    let Connected {
        peer,
        mut stream,
        mut theirs,
        ..
    } = connected(64);
    theirs.write(&BYTES).expect("room");
    let _ = theirs.outgoing().arm_room(1);
    assert_eq!(stream.fill_buf().map(<[u8]>::len), Ok(64));
    assert!(theirs.write(b"x").is_err(), "what is lent is no room");
    stream.consume(31);
    assert_eq!(peer.take_marks(), [], "not yet half a ring");
    assert_eq!(stream.fill_buf().map(<[u8]>::len), Ok(33));
    stream.consume(1);
    assert!(peer.was_marked(stream.core.end.place()));
}

#[test]
fn what_is_lent_is_nobody_elses_until_it_is_given_back() {
    let Connected {
        peer,
        mut stream,
        mut theirs,
        ..
    } = connected(64);
    let mut other = stream.try_clone();
    other.set_nonblocking(true);
    theirs.write(b"lent").expect("room");
    let lent = stream.fill_buf().expect("bytes");
    assert_eq!(other.read(&mut [0; 8]), os(Errno::EAGAIN));
    assert_eq!(other.peek(&mut [0; 8]), os(Errno::EAGAIN));
    assert_eq!(other.fill_buf(), os(Errno::EAGAIN));
    other.consume(4);
    assert_eq!(lent, b"lent");
    // One that waits is woken.
    let waiting = other.into_async();
    let wakes = Arc::new(crate::testing::hal::Wakes::default());
    let mut buffer = [0; 8];
    let mut read = Box::pin(waiting.read(&mut buffer));
    assert!(wakes.poll(&mut read).is_pending());
    stream.consume(1);
    assert_eq!(wakes.count(), 1);
    assert_eq!(wakes.poll(&mut read), Poll::Ready(Ok(3)));
    drop(read);
    assert_eq!(&buffer[..3], b"ent");
    // The next use of the handle gives back, and so does dropping it.
    theirs.write(b"more").expect("room");
    assert_eq!(stream.fill_buf(), Ok(&b"more"[..]));
    assert_eq!(stream.local_addr(), LOCAL.into());
    assert_eq!(peer.reactor.block_on(waiting.read(&mut [0; 2])), Ok(2));
    assert_eq!(stream.fill_buf(), Ok(&b"re"[..]));
    drop(stream);
    assert_eq!(peer.reactor.block_on(waiting.read(&mut [0; 8])), Ok(2));
}

#[test]
fn a_half_that_is_lent_closes_when_it_is_given_back() {
    type End = fn(&ArcaTcpStream);
    let ends: [(End, bool); 3] = [
        (
            |other| other.shutdown(Shutdown::Read).expect("connected"),
            false,
        ),
        (
            |other| other.shutdown(Shutdown::Both).expect("connected"),
            true,
        ),
        (ArcaTcpStream::abort, true),
    ];
    for (end, write) in ends {
        let Connected {
            mut stream,
            mut theirs,
            ..
        } = connected(64);
        let other = stream.try_clone();
        theirs.write(b"lent").expect("room");
        let lent = stream.fill_buf().expect("bytes");
        end(&other);
        assert_eq!(lent, b"lent");
        assert!(!theirs.is_peer_read_closed(), "the region would be free");
        assert_eq!(theirs.is_peer_write_closed(), write);
        stream.consume(1);
        assert!(theirs.is_peer_read_closed());
        assert_eq!(theirs.is_peer_write_closed(), write);
    }
}

#[test]
fn what_shutting_down_left_is_lent_too() {
    let Connected {
        mut stream,
        mut theirs,
        ..
    } = wrapping();
    theirs.write(&BYTES[..30]).expect("room");
    assert_eq!(stream.shutdown(Shutdown::Both), Ok(()));
    let other = stream.try_clone();
    other.set_nonblocking(true);
    let len = stream.fill_buf().expect("bytes").len();
    stream.consume(len - 1);
    assert_eq!(stream.fill_buf().map(|lent| lent[0]), Ok(BYTES[len - 1]));
    assert_eq!(other.read(&mut [0; 64]), os(Errno::EAGAIN));
    stream.consume(1);
    assert_eq!(other.read(&mut [0; 64]), Ok(30 - len));
}

#[test]
fn room_is_lent_where_it_is_up_to_the_end_of_the_ring() {
    let Connected {
        peer,
        stream,
        mut theirs,
        ..
    } = wrapping();
    peer.take_marks();
    let put = stream.write_with(|room| {
        assert!(is_in_arena(&peer, room));
        assert_eq!(room.len(), 24);
        room.copy_from_slice(&BYTES[..24]);
        24
    });
    assert_eq!(put, Ok(24));
    assert!(peer.was_marked(stream.core.end.place()));
    let put = stream.write_with(|room| {
        assert_eq!(room.len(), 40);
        room.fill(9);
        99
    });
    assert_eq!(put, Ok(40), "no more than there is room for");
    stream.set_nonblocking(true);
    let full = stream.write_with(|_| panic!("there is no room"));
    assert_eq!(full, os(Errno::EAGAIN));
    let mut buffer = [0; 64];
    assert_eq!(theirs.read(&mut buffer), Ok(64));
    assert_eq!((&buffer[..24], &buffer[24..]), (&BYTES[..24], &[9; 40][..]));
    peer.take_marks();
    assert_eq!(stream.write_with(|_| 0), Ok(0));
    assert_eq!(peer.take_marks(), [], "nothing was put");
    theirs.close_read();
    let closed = stream.write_with(|_| panic!("nobody reads"));
    assert_eq!(closed, os(Errno::EPIPE));
}

#[test]
fn room_that_is_lent_is_nobody_elses() {
    let Connected {
        stream, mut theirs, ..
    } = connected(64);
    let other = stream.try_clone();
    other.set_nonblocking(true);
    let put = stream.write_with(|room| {
        room[0] = 1;
        assert_eq!(other.write(b"x"), os(Errno::EAGAIN));
        assert_eq!(other.write_with(|_| 1), os(Errno::EAGAIN));
        assert_eq!(other.shutdown(Shutdown::Both), Ok(()));
        assert!(!theirs.is_peer_write_closed(), "the region would be free");
        1
    });
    assert_eq!(put, Ok(1));
    assert!(theirs.is_peer_write_closed() && theirs.is_peer_read_closed());
    assert_eq!(theirs.read(&mut [0; 8]), Ok(1), "put before it closed");
}

#[test]
fn a_generator_that_panics_gives_its_room_back() {
    let Connected { stream, .. } = connected(64);
    let panicking = AssertUnwindSafe(|| stream.write_with(|_| panic!("as it may")));
    assert!(catch_unwind(panicking).is_err());
    assert_eq!(stream.write(b"x"), Ok(1));
    let parsing = stream.try_clone();
    parsing.set_nonblocking(true);
    assert_eq!(parsing.read_with(|_| 0), os(Errno::EAGAIN));
}

#[test]
fn tasks_lend_too() {
    let Connected {
        peer,
        stream,
        mut theirs,
        ..
    } = connected(64);
    let block = |future| peer.reactor.block_on(future);
    let mut stream = stream.into_async();
    theirs.write(b"lent").expect("room");
    let lent = peer.reactor.block_on(stream.fill_buf()).expect("bytes");
    assert_eq!(lent, b"lent");
    stream.consume(2);
    let (mut read, mut write) = stream.into_split();
    assert_eq!(block(Box::pin(read.read_with(|bytes| bytes.len()))), Ok(2));
    {
        let mut lend = core::pin::pin!(read.fill_buf());
        assert!(poll(lend.as_mut()).is_pending());
        theirs.write(b"more").expect("room");
        assert_eq!(poll(lend.as_mut()), Poll::Ready(Ok(&b"more"[..])));
    }
    read.consume(4);
    let put = peer.reactor.block_on(write.write_with(|room| {
        room[..3].copy_from_slice(b"out");
        3
    }));
    assert_eq!(put, Ok(3));
    let mut buffer = [0; 8];
    assert_eq!(theirs.read(&mut buffer), Ok(3));
    assert_eq!(&buffer[..3], b"out");
    // A future that is dropped while it waits has lent nothing.
    {
        let mut lend = core::pin::pin!(read.fill_buf());
        assert!(poll(lend.as_mut()).is_pending());
    }
    theirs.write(b"last").expect("room");
    let mut stream = read.reunite(write).expect("of one stream");
    let (mut read, _write) = stream.split();
    assert_eq!(peer.reactor.block_on(read.fill_buf()), Ok(&b"last"[..]));
    assert_eq!(peer.reactor.block_on(stream.read(&mut [0; 8])), Ok(4));
}

#[test]
fn readiness_is_waited_for_and_takes_nothing() {
    let Connected {
        stream, mut theirs, ..
    } = connected(64);
    let stream = stream.into_async();
    let wakes = Arc::new(crate::testing::hal::Wakes::default());
    let mut readable = Box::pin(stream.readable());
    assert!(wakes.poll(&mut readable).is_pending());
    theirs.write(b"x").expect("room");
    assert!(wakes.poll(&mut readable).is_ready());
    assert_eq!(stream.end().try_read(&mut [0; 8]), Ok(1));
    let mut writable = Box::pin(stream.writable());
    assert!(wakes.poll(&mut writable).is_ready());
    assert_eq!(stream.end().try_write(&[7; 64]), Ok(64));
    writable = Box::pin(stream.writable());
    assert!(wakes.poll(&mut writable).is_pending());
    theirs.outgoing().set_errno(Errno::ECONNRESET.0);
    theirs.close_write();
    theirs.close_read();
    assert!(wakes.poll(&mut writable).is_ready());
    let mut readable = Box::pin(stream.readable());
    assert!(wakes.poll(&mut readable).is_ready());
    // The errno is still to be told.
    assert_eq!(stream.end().try_read(&mut [0; 8]), os(Errno::ECONNRESET));
}
