//! Habits of a peer that was written against the draft, and that the monitor has
//! to bear with.

mod common;

use arca_shared::arena::{Arena, ShmOffset};
use arca_shared::message::Request;
use arca_shared::ring::RingHeader;
use common::{Session, Stream, until};
use socket2::SockRef;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

fn service() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// The headers of rings A and B of a pipe, whether or not it is one any more.
fn headers(arena: &Arena, offset: ShmOffset, capacity: usize) -> [&RingHeader; 2] {
    let second = ShmOffset(offset.0 + (RingHeader::SIZE + capacity) as u64);
    [offset, second].map(|offset| {
        let address = arena.from_offset(offset, 24, 8).expect("inside");
        // SAFETY: inside the arena, aligned, and all its fields are atomic.
        unsafe { address.cast::<RingHeader>().as_ref() }
    })
}

/// Connects, closes both ends in order, and waits until the monitor has too; where
/// the pipe was, and its capacity.
fn come_and_go(session: &mut Session, listener: &TcpListener) -> (ShmOffset, usize) {
    let address = listener.local_addr().expect("an address");
    let mut stream = session.peer.connect(address).expect("connects");
    let (host, _) = listener.accept().expect("accepts");
    drop(host);
    until("the end", || {
        stream.pipe.is_peer_write_closed().then_some(())
    });
    let place = (stream.pipe.shm_offset(), stream.pipe.incoming().capacity());
    stream.close();
    session.expect_no_pipes();
    place
}

#[test]
fn a_late_look_at_a_closed_pipe_finds_it_closed() {
    let mut session = Session::start();
    let (listener, address) = service();
    let (offset, capacity) = come_and_go(&mut session, &listener);
    // Another connection is there by now.
    let _stream = session.peer.connect(address).expect("connects");
    let [a, b] = headers(&session.peer.arena, offset, capacity);
    // The draft's recv sets its flag once more, and then looks at all four.
    b.reader_closed.store(1, Release);
    for header in [a, b] {
        assert_ne!(header.writer_closed.load(Acquire), 0);
        assert_ne!(header.reader_closed.load(Acquire), 0);
    }
}

#[test]
fn freed_regions_rest_and_the_oldest_comes_first() {
    let mut session = Session::start();
    let (listener, _) = service();
    let mut places = Vec::new();
    let again = until("a region to be used again", || {
        let (offset, _) = come_and_go(&mut session, &listener);
        let known = places.iter().position(|&place| place == offset);
        places.push(offset);
        known
    });
    assert_eq!(again, 0, "the oldest is used first");
    assert!(places.len() > 16, "{} regions were used", places.len());
    session.stop();
}

#[test]
fn a_region_is_used_again_at_once_after_a_hello() {
    let mut session = Session::start();
    session.peer.hello();
    let (listener, address) = service();
    let mut places = Vec::new();
    for _ in 0..2 {
        let id = session
            .peer
            .send(Request::Connect(common::endpoint(address)));
        let reply = session.peer.reply(id);
        let arca_shared::message::Reply::ConnectOk(ready) = reply else {
            panic!("{reply:?}");
        };
        let stream = session.peer.join(&ready);
        let slot = arca_shared::notify::Slot::from(stream.pipe.shm_offset());
        places.push(stream.pipe.shm_offset());
        drop(listener.accept().expect("accepts"));
        stream.close();
        session.peer.area.to_monitor().mark(slot);
        session.peer.tell();
        session.expect_no_pipes();
    }
    assert_eq!(places[0], places[1]);
    session.stop();
}

/// A stream whose connection the host has reset; the monitor reads no more.
fn failed(session: &mut Session) -> Stream {
    let (listener, address) = service();
    let mut stream = session.peer.connect(address).expect("connects");
    let (host, _): (TcpStream, _) = listener.accept().expect("accepts");
    let linger = Some(Duration::ZERO);
    SockRef::from(&host).set_linger(linger).expect("set");
    drop(host);
    until("the monitor to read no more", || {
        stream.pipe.is_peer_read_closed().then_some(())
    });
    stream
}

#[test]
fn a_writer_that_never_looks_whether_anyone_reads_comes_to_its_end() {
    let mut session = Session::start();
    let stream = failed(&mut session);
    let mut pipe = stream.pipe;
    let capacity = pipe.incoming().capacity() as u64;
    let [a, b] = headers(&session.peer.arena, pipe.shm_offset(), capacity as usize);
    // Fills the ring again and again, as one does that waits for room only.
    let mut written = a.write_cursor.load(Acquire);
    for _ in 0..5 {
        written += capacity;
        a.write_cursor.store(written, Release);
        until("room", || {
            (a.read_cursor.load(Acquire) == written).then_some(())
        });
    }
    // Any value but 0 is a flag.
    b.reader_closed.store(0x80, Release);
    a.writer_closed.store(0xff, Release);
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn request_ids_go_through_zero() {
    let mut session = Session::start();
    let (_listener, address) = service();
    let request = Request::Connect(common::endpoint(address));
    for id in [u32::MAX, 0, 1] {
        session.peer.send_frame(&request.to_frame(id));
        let reply = session.peer.reply(id);
        assert!(
            matches!(reply, arca_shared::message::Reply::ConnectOk(_)),
            "{reply:?}"
        );
    }
}
