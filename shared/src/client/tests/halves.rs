//! Streams for tasks, and their halves.

use super::*;
use core::future::Future;

/// What a future of the stream gives while the monitor does that, once, when the
/// future waits.
fn run<T>(
    peer: &Arc<Peer>,
    stream: crate::pipe::PipePlace,
    step: impl FnOnce() + Send + 'static,
    future: impl Future<Output = T>,
) -> T {
    let other = peer.clone();
    peer.hal.while_parked(move || {
        step();
        other.signal(stream);
    });
    peer.reactor.block_on(future)
}

/// Writes 70 bytes into a ring of 64, and reads 10 in two pieces and then past
/// the end, with these.
macro_rules! exchanges {
    ($connected:ident, $reader:ident, $writer:ident) => {{
        let Connected { peer, theirs, .. } = $connected;
        let place = theirs.shm_offset().0;
        let place = crate::pipe::PipePlace {
            shm_offset: place,
            ring_size: 64,
        };
        let theirs = Arc::new(std::sync::Mutex::new(theirs));
        let with = |step: fn(&mut BidirectionalPipe)| {
            let theirs = theirs.clone();
            move || step(&mut theirs.lock().expect("not poisoned"))
        };
        let bytes: [u8; 70] = core::array::from_fn(|i| i as u8);
        let drain = with(|theirs| {
            let mut buffer = [0; 99];
            assert_eq!(theirs.read(&mut buffer), Ok(64));
            assert_eq!(buffer[..64], core::array::from_fn::<_, 64, _>(|i| i as u8));
        });
        assert_eq!(run(&peer, place, drain, $writer.write_all(&bytes)), Ok(()));
        with(|theirs| {
            let mut buffer = [0; 99];
            assert_eq!(theirs.read(&mut buffer), Ok(6));
            assert_eq!(buffer[..6], [64, 65, 66, 67, 68, 69]);
            theirs.write(b"first ").expect("room");
        })();
        let more = with(|theirs| {
            theirs.write(b"then rest").expect("room");
        });
        let mut buffer = [0; 10];
        let read = $reader.read_exact(&mut buffer);
        assert_eq!(run(&peer, place, more, read), Ok(()));
        assert_eq!(&buffer, b"first then");
        assert_eq!(peer.reactor.block_on($reader.read(&mut buffer)), Ok(5));
        assert_eq!(&buffer[..5], b" rest");
        assert_eq!(peer.reactor.block_on($writer.write(b"x")), Ok(1));
        let end = with(BidirectionalPipe::close_write);
        let read = $reader.read_exact(&mut buffer);
        assert_eq!(run(&peer, place, end, read), Err(Error::UnexpectedEof));
        assert_eq!(peer.reactor.block_on($reader.read_exact(&mut [])), Ok(()));
        with(|theirs| {
            assert_eq!(theirs.read(&mut [0; 9]), Ok(1));
            assert!(!theirs.is_peer_write_closed() && !theirs.is_peer_read_closed());
            theirs.close_read();
        })();
        let broken = peer.reactor.block_on($writer.write(b"x"));
        assert_eq!(broken, os(Errno::EPIPE));
        assert_eq!(
            peer.reactor.block_on($writer.write_all(b"x")),
            os(Errno::EPIPE)
        );
    }};
}

#[test]
fn a_stream_for_tasks_reads_and_writes() {
    let connected = connected(64);
    let stream = connected.stream.try_clone().into_async();
    exchanges!(connected, stream, stream);
}

#[test]
fn borrowed_halves_read_and_write() {
    let connected = connected(64);
    let mut stream = connected.stream.try_clone().into_async();
    let (mut reader, mut writer) = stream.split();
    exchanges!(connected, reader, writer);
}

#[test]
fn owned_halves_read_and_write() {
    let connected = connected(64);
    let (mut reader, mut writer) = connected.stream.try_clone().into_split();
    exchanges!(connected, reader, writer);
}

#[test]
fn the_drafts_send_and_recv_of_a_task_close_at_the_end() {
    let Connected {
        peer,
        stream,
        mut theirs,
        ..
    } = connected(64);
    let stream = stream.into_async();
    let reactor = &peer.reactor;
    assert_eq!(reactor.block_on(stream.send(b"sent")), Ok(()));
    assert!(!theirs.is_peer_write_closed());
    assert_eq!(theirs.read(&mut [0; 9]), Ok(4));
    theirs.write(b"received").expect("room");
    let mut buffer = [0; 8];
    assert_eq!(reactor.block_on(stream.recv(&mut buffer)), Ok(8));
    assert_eq!(&buffer, b"received");
    assert!(!theirs.is_peer_read_closed(), "the buffer was filled");
    theirs.write(b"end").expect("room");
    theirs.close_write();
    assert_eq!(reactor.block_on(stream.recv(&mut buffer)), Ok(3));
    assert!(theirs.is_peer_read_closed());
    assert!(!theirs.is_peer_write_closed());
    theirs.close_read();
    assert!(reactor.block_on(stream.send(b"more")).is_err());
    assert!(theirs.is_peer_write_closed());
}

#[test]
fn a_send_that_fails_without_the_peers_closing_closes_nothing() {
    let Connected {
        peer,
        stream,
        mut theirs,
        ..
    } = connected(64);
    let stream = stream.into_async();
    assert_eq!(peer.reactor.block_on(stream.send(&[7; 64])), Ok(()));
    let arena = peer.reactor.arena();
    let cursor = arena
        .from_offset(stream.shm_offset(), 8, 8)
        .expect("inside");
    // SAFETY: the read cursor of ring A: inside the arena, aligned, atomic.
    let cursor: &core::sync::atomic::AtomicU64 = unsafe { cursor.cast().as_ref() };
    cursor.store(1000, Ordering::Relaxed);
    assert_eq!(
        peer.reactor.block_on(stream.send(b"more")),
        Err(Error::Protocol("a cursor of a ring cannot be true"))
    );
    assert!(!theirs.is_peer_write_closed());
}

#[test]
fn a_stream_for_tasks_shuts_down_what_it_is_told_to() {
    let Connected {
        stream, mut theirs, ..
    } = connected(64);
    let stream = stream.into_async();
    assert_eq!(stream.shutdown(Shutdown::Write), Ok(()));
    assert!(theirs.is_peer_write_closed() && !theirs.is_peer_read_closed());
}

#[test]
fn a_stream_for_tasks_knows_where_it_belongs() {
    let Connected {
        peer,
        session,
        stream,
        theirs,
    } = connected(64);
    assert_eq!(stream.shm_offset(), theirs.shm_offset());
    let stream = stream.into_async();
    assert_eq!(stream.shm_offset(), theirs.shm_offset());
    assert_eq!(stream.end().shm_offset(), theirs.shm_offset());
    assert!(Arc::ptr_eq(stream.end().reactor(), session.reactor()));
    assert!(Arc::ptr_eq(stream.end().reactor(), &peer.reactor));
    assert_eq!(stream.into_sync().shm_offset(), theirs.shm_offset());
}

#[test]
fn a_write_half_that_goes_ends_the_sending() {
    let Connected {
        stream, mut theirs, ..
    } = connected(64);
    let (reader, writer) = stream.into_split();
    drop(writer);
    assert!(theirs.is_peer_write_closed() && !theirs.is_peer_read_closed());
    drop(reader);
    assert!(theirs.is_peer_read_closed());
}

#[test]
fn halves_of_one_stream_become_it_again_and_others_do_not() {
    let Connected {
        peer,
        session,
        stream,
        mut theirs,
    } = connected(64);
    let (other, mut other_theirs) = peer.connect(&session, 64);
    let (reader, writer) = stream.into_split();
    let (other_reader, other_writer) = other.into_split();
    let Err((reader, other_writer)) = reader.reunite(other_writer) else {
        panic!("not of one stream");
    };
    assert!(!other_theirs.is_peer_write_closed());
    let Ok(stream) = reader.reunite(writer) else {
        panic!("of one stream");
    };
    assert!(!theirs.is_peer_write_closed());
    drop(stream);
    assert!(theirs.is_peer_write_closed() && theirs.is_peer_read_closed());
    drop((other_reader, other_writer));
    assert!(other_theirs.is_peer_write_closed());
}
