//! Habits of a peer that was written against the draft, and that the monitor has
//! to bear with.

mod common;

use arca_monitor::MonitorConfig;
use arca_shared::memory::{Arena, ShmOffset};
use arca_shared::pipe::{AsyncStream, SyncStream};
use arca_shared::protocol::message::Request;
use arca_shared::ring::RingHeader;
use common::{Session, Stream, until};
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

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
    let mut freed: Vec<(ShmOffset, Instant)> = Vec::new();
    let (again, since) = until("a region to be used again", || {
        let began = Instant::now();
        let (offset, _) = come_and_go(&mut session, &listener);
        let known = freed.iter().position(|&(place, _)| place == offset);
        let since = known.map(|index| began.saturating_duration_since(freed[index].1));
        freed.push((offset, Instant::now()));
        known.zip(since)
    });
    // On a machine that is slow enough the first have rested by now.
    if since < Duration::from_millis(900) {
        assert_eq!(again, 0, "the oldest is used first");
        assert!(freed.len() > 16, "{} regions were used", freed.len());
    }
    session.stop();
}

/// Bytes of an arena that are backed by memory.
fn resident(arena: &Arena) -> usize {
    let base = arena.from_offset(ShmOffset(0), 1, 1).expect("inside");
    let mut pages = vec![0u8; arena.len() / 4096];
    // SAFETY: the arena is mapped and starts at a page; the kernel writes a byte
    // for each of its pages.
    let result =
        unsafe { nix::libc::mincore(base.as_ptr().cast(), arena.len(), pages.as_mut_ptr()) };
    assert_eq!(result, 0, "mincore");
    pages.iter().filter(|&&page| page & 1 != 0).count() * 4096
}

/// 600 connections, one after the other.
fn six_hundred_connections(arena: usize) {
    let mut session = Session::with(MonitorConfig::default(), arena);
    let (listener, address) = service();
    let mut took = Vec::new();
    let mut before = 0;
    for round in 0..600 {
        let began = Instant::now();
        let mut stream = session.peer.connect(address).expect("connects");
        took.push(began.elapsed());
        let capacity = stream.pipe.incoming().capacity();
        let region = (arena / 32).min(4 << 20);
        assert_eq!(capacity, region / 2 - RingHeader::SIZE, "round {round}");
        let (mut host, _) = listener.accept().expect("accepts");
        stream.send(b"a few bytes");
        host.write_all(b"and some more").expect("writes");
        assert_eq!(stream.read_exact(13), b"and some more");
        let mut bytes = [0; 11];
        host.read_exact(&mut bytes).expect("reads");
        drop(host);
        until("the end", || {
            stream.pipe.is_peer_write_closed().then_some(())
        });
        stream.close();
        session.expect_no_pipes();
        if round == 0 {
            before = resident(&session.peer.arena);
        }
    }
    let after = resident(&session.peer.arena);
    let median = |times: &[Duration]| {
        let mut times = times.to_vec();
        times.sort();
        times[times.len() / 2]
    };
    println!(
        "arena of {} MiB: resident {before} bytes after 1, {after} after 600; \
         a connect took {:?} at first, {:?} at last",
        arena >> 20,
        median(&took[..50]),
        median(&took[550..])
    );
    assert!(
        after - before <= arena / 16,
        "{} bytes more are resident",
        after - before
    );
    session.stop();
}

#[test]
fn many_short_connections_neither_fill_the_arena_nor_shrink_the_rings() {
    six_hundred_connections(64 << 20);
    six_hundred_connections(1 << 30);
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
        let arca_shared::protocol::message::Reply::ConnectOk(ready) = reply else {
            panic!("{reply:?}");
        };
        let stream = session.peer.join(&ready);
        let slot = arca_shared::notify::Slot::from(stream.pipe.shm_offset());
        places.push(stream.pipe.shm_offset());
        drop(listener.accept().expect("accepts"));
        stream.close();
        session.peer.area.to_monitor().mark(slot);
        session.peer.notify_control();
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

/// A service that gives back all that it gets, once.
fn echo_once(listener: TcpListener) -> std::thread::JoinHandle<usize> {
    std::thread::spawn(move || {
        let (mut host, _) = listener.accept().expect("accepts");
        let mut bytes = Vec::new();
        host.read_to_end(&mut bytes).expect("an end");
        host.write_all(&bytes).expect("a reader");
        bytes.len()
    })
}

#[test]
fn the_streams_of_the_draft_talk_to_the_network() {
    // Rings that what is sent does not fit.
    let mut config = MonitorConfig::default();
    config.pipe_sizes.largest = 8192;
    config.pipe_sizes.smallest = 8192;
    let mut session = Session::with(config, common::ARENA);
    let sent = common::pattern(200_000, 8);
    let mut got = vec![0; sent.len() + 1];

    let (listener, address) = service();
    let echo = echo_once(listener);
    let pipe = session.peer.connect(address).expect("connects").pipe;
    let offset = pipe.shm_offset();
    let mut stream = SyncStream::new(pipe);
    assert_eq!(stream.shm_offset(), offset);
    stream.send(&sent).expect("a reader");
    stream.close_write();
    // A short count: the end, and the reader closes.
    assert_eq!(stream.recv(&mut got), Ok(sent.len()));
    assert!(got[..sent.len()] == sent);
    assert_eq!(echo.join().expect("no panic"), sent.len());
    session.expect_no_pipes();
    assert!(stream.is_closed());

    let (listener, address) = service();
    let echo = echo_once(listener);
    let pipe = session.peer.connect(address).expect("connects").pipe;
    let mut stream = AsyncStream::new(pipe);
    let mut talk = pin!(async {
        let mut got = vec![0; sent.len() + 1];
        stream.send(&sent).await.expect("a reader");
        stream.close_write();
        let len = stream.recv(&mut got).await.expect("valid cursors");
        got.truncate(len);
        got
    });
    let mut context = Context::from_waker(Waker::noop());
    let got = until("the talk", || match talk.as_mut().poll(&mut context) {
        Poll::Ready(got) => Some(got),
        Poll::Pending => None,
    });
    assert!(got == sent, "{} bytes came back", got.len());
    assert_eq!(echo.join().expect("no panic"), sent.len());
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
            matches!(reply, arca_shared::protocol::message::Reply::ConnectOk(_)),
            "{reply:?}"
        );
    }
}
