//! How connections end: resets told from ends of stream, unread data, invalid cursors.

mod common;

use arca_monitor::{MonitorConfig, PipeSizes};
use arca_shared::errno::Errno;
use arca_shared::ring::{RingError, RingHeader};
use common::{Session, Stream, digest, pattern, until};
use socket2::SockRef;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

fn pair(session: &mut Session) -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let stream = session.peer.connect(address).expect("connects");
    let (host, _) = listener.accept().expect("accepts");
    host.set_read_timeout(Some(common::DEADLINE)).expect("set");
    (stream, host)
}

fn reset(host: TcpStream) {
    SockRef::from(&host)
        .set_linger(Some(Duration::ZERO))
        .expect("set");
}

#[test]
fn a_reset_by_the_peer_is_told_by_errno_after_the_bytes() {
    for said_hello in [false, true] {
        let mut session = Session::start();
        if said_hello {
            session.peer.hello();
            session.peer.ring();
        }
        let (mut stream, mut host) = pair(&mut session);
        host.write_all(b"last words").expect("writes");
        until("the bytes to be relayed", || {
            (session.handle.stats().bytes_from_tcp == 10).then_some(())
        });
        reset(host);
        let (bytes, errno) = stream.read_to_end();
        assert_eq!(bytes, b"last words");
        assert_eq!(errno, Errno::ECONNRESET.0);
        until("the reader's end", || {
            stream.pipe.is_peer_read_closed().then_some(())
        });
        assert_eq!(stream.pipe.write(b"x"), Err(RingError::WriteClosed));
        stream.pipe.close_write();
        stream.pipe.close_read();
        if said_hello {
            let slot = arca_shared::notify::Slot::from(stream.pipe.shm_offset());
            session.peer.area.to_monitor().mark(slot);
            session.peer.notify_control();
        }
        session.expect_no_pipes();
        session.stop();
    }
}

/// A session whose rings hold less than 256 KiB each.
fn small_rings() -> Session {
    let pipe_sizes = PipeSizes {
        largest: 512 << 10,
        smallest: 512 << 10,
    };
    let config = MonitorConfig {
        pipe_sizes,
        ..MonitorConfig::default()
    };
    Session::with(config, common::ARENA)
}

#[test]
fn a_reset_while_the_ring_is_full_loses_no_bytes() {
    let mut session = small_rings();
    let (mut stream, mut host) = pair(&mut session);
    // More than the ring holds; the rest waits in the kernel.
    let sent = pattern(400_000, 7);
    host.write_all(&sent).expect("writes");
    until("the ring to be full", || {
        (session.handle.stats().ring_full > 0).then_some(())
    });
    // A write into a connection that the peer has left makes the reset.
    drop(host);
    let (bytes, errno) = stream.read_to_end();
    assert_eq!((digest(&bytes), errno), (digest(&sent), 0));
    until("the write to fail", || {
        let _ = stream.pipe.write(b"anyone there?");
        stream.pipe.is_peer_read_closed().then_some(())
    });
    let errno = stream.pipe.incoming().errno();
    assert!(
        [Errno::EPIPE.0, Errno::ECONNRESET.0].contains(&errno),
        "{errno}"
    );
    stream.close();
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn a_write_error_leaves_what_was_received() {
    let mut session = small_rings();
    let (mut stream, mut host) = pair(&mut session);
    let sent = pattern(400_000, 8);
    host.write_all(&sent).expect("writes");
    until("the ring to be full", || {
        (session.handle.stats().ring_full > 0).then_some(())
    });
    drop(host);
    until("the write to fail", || {
        let _ = stream.pipe.write(b"anyone there?");
        stream.pipe.is_peer_read_closed().then_some(())
    });
    let (bytes, errno) = stream.read_to_end();
    assert_eq!(digest(&bytes), digest(&sent));
    assert!(
        [Errno::EPIPE.0, Errno::ECONNRESET.0].contains(&errno),
        "{errno}"
    );
    stream.close();
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn arca_can_reset() {
    let mut session = Session::start();
    let (mut stream, mut host) = pair(&mut session);
    stream.send(b"last words");
    stream.abort();
    let mut bytes = Vec::new();
    let error = host.read_to_end(&mut bytes).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(bytes, b"last words");
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn unread_bytes_make_a_close_a_reset() {
    let mut session = Session::start();
    session.peer.hello();
    let (stream, mut host) = pair(&mut session);
    host.write_all(b"never read").expect("writes");
    until("the bytes to be relayed", || {
        (session.handle.stats().bytes_from_tcp == 10).then_some(())
    });
    stream.close_connection(&session.peer);
    let error = host.read(&mut [0]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn a_close_delivers_all_that_was_written() {
    let mut session = Session::start();
    let (mut stream, mut host) = pair(&mut session);
    // More than the socket's buffers take before the host reads.
    let sent = pattern(6 << 20, 9);
    let wanted = digest(&sent);
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        host.read_to_end(&mut bytes).map(|_| bytes)
    });
    stream.send(&sent);
    stream.close();
    let bytes = reader.join().expect("no panic").expect("an orderly end");
    assert_eq!(digest(&bytes), wanted);
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn data_after_a_close_is_answered_with_a_reset() {
    let mut session = Session::start();
    let (mut stream, mut host) = pair(&mut session);
    // Fills ring and socket buffers, so that the close finds work left.
    stream.fill(&session);
    session.peer.hello();
    stream.close_connection(&session.peer);
    host.write_all(b"too late").expect("writes");
    session.expect_no_pipes();
    let mut got = Vec::new();
    let error = host.read_to_end(&mut got).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    session.stop();
}

#[test]
fn arca_stops_reading_and_writes_on() {
    let mut session = Session::start();
    let (mut stream, mut host) = pair(&mut session);
    stream.pipe.close_read();
    until("the other end to follow", || {
        stream.pipe.is_peer_write_closed().then_some(())
    });
    stream.send(b"still here");
    let mut bytes = [0; 10];
    host.read_exact(&mut bytes).expect("reads");
    assert_eq!(&bytes, b"still here");
    stream.pipe.close_write();
    assert_eq!(host.read(&mut bytes).expect("an end"), 0);
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn a_reset_reaches_an_arca_that_only_writes() {
    let mut session = Session::start();
    let (mut stream, host) = pair(&mut session);
    stream.pipe.close_read();
    until("the other end to follow", || {
        stream.pipe.is_peer_write_closed().then_some(())
    });
    reset(host);
    until("the end of writing", || {
        stream.pipe.is_peer_read_closed().then_some(())
    });
    assert_eq!(stream.pipe.incoming().errno(), Errno::ECONNRESET.0);
    stream.close();
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn an_end_is_told_to_a_draft_peer_only_when_it_has_read_everything() {
    let mut session = Session::start();
    let (mut stream, mut host) = pair(&mut session);
    host.write_all(b"12345678").expect("writes");
    host.shutdown(Shutdown::Write).expect("connected");
    until("the bytes", || {
        (stream.pipe.incoming().available() == Ok(8)).then_some(())
    });
    assert_eq!(stream.read_exact(7), b"1234567");
    // The monitor looks at everything each tick: give it many.
    let turns = session.handle.stats().epoll_turns;
    until("the monitor to look often", || {
        (session.handle.stats().epoll_turns > turns + 20).then_some(())
    });
    assert!(!stream.pipe.is_peer_write_closed());
    assert_eq!(stream.read_exact(1), b"8");
    until("the end", || {
        stream.pipe.is_peer_write_closed().then_some(())
    });
    stream.close();
    session.expect_no_pipes();
    session.stop();
}

/// Header of ring A (`true`) or ring B of a stream, to store an invalid cursor in.
fn header<'a>(session: &'a Session, stream: &Stream, a: bool, capacity: usize) -> &'a RingHeader {
    let mut offset = stream.pipe.shm_offset();
    if !a {
        offset.0 += (RingHeader::SIZE + capacity) as u64;
    }
    let address = session
        .peer
        .arena
        .from_offset(offset, 24, 8)
        .expect("inside");
    // SAFETY: a ring header lies there, and all its fields are atomic.
    unsafe { address.cast::<RingHeader>().as_ref() }
}

#[test]
fn a_lie_resets_its_connection_and_no_other() {
    use std::sync::atomic::Ordering::Release;
    for invalid in 0..4 {
        let mut session = Session::start();
        let (mut good, mut good_host) = pair(&mut session);
        let (mut bad, mut bad_host) = pair(&mut session);
        let capacity = bad.pipe.incoming().capacity();
        bad_host.write_all(b"x").expect("writes");
        assert_eq!(bad.read_exact(1), b"x");
        match invalid {
            // More than the ring holds.
            0 => header(&session, &bad, true, capacity)
                .write_cursor
                .store(capacity as u64 + 1, Release),
            1 => header(&session, &bad, true, capacity)
                .write_cursor
                .store(u64::MAX, Release),
            // More read than was written.
            2 => header(&session, &bad, false, capacity)
                .read_cursor
                .store(2, Release),
            // Back again.
            _ => {
                // Put after a look at the cursor, which then was 1.
                bad_host.write_all(b"y").expect("writes");
                until("the byte", || {
                    (bad.pipe.incoming().available() == Ok(1)).then_some(())
                });
                header(&session, &bad, false, capacity)
                    .read_cursor
                    .store(0, Release);
            }
        }
        if invalid >= 2 {
            // The read cursor is looked at when there is something to put.
            bad_host.write_all(b"more").expect("writes");
        }
        until("the flags", || {
            (bad.pipe.is_peer_write_closed() && bad.pipe.is_peer_read_closed()).then_some(())
        });
        assert_eq!(
            bad.pipe.incoming().errno(),
            Errno::EPROTO.0,
            "cursor {invalid}"
        );
        let error = bad_host.read(&mut [0]).expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        // Its region stays, whatever else it claims, until all flags are set.
        assert_eq!(session.handle.stats().pipes_allocated, 2);
        good.send(b"ping");
        let mut bytes = [0; 4];
        good_host.read_exact(&mut bytes).expect("reads");
        good_host.write_all(&bytes).expect("writes");
        assert_eq!(good.read_exact(4), b"ping");
        good.close();
        bad.close();
        session.expect_no_pipes();
        session.stop();
    }
}
