//! A guest that writes what it likes, where it likes.

mod common;

use arca_monitor::{Monitor, MonitorConfig, SessionEnd};
use arca_shared::protocol::message::Request;
use common::{Peer, Session, link, pattern, until};
use proptest::prelude::*;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Frames of every type with payloads of every length and content.
    #[test]
    fn arbitrary_requests_never_panic(
        frames in proptest::collection::vec(
            (0u8..40, any::<u32>(), proptest::collection::vec(0u8..4, 0..64)),
            1..60,
        ),
        hello: bool,
    ) {
        let (link, arena, _) = link(1 << 20);
        let mut peer = Peer::new(&link, arena);
        let mut monitor = Monitor::new(link, MonitorConfig::default()).expect("a monitor");
        if hello {
            peer.send(Request::Hello { version: 1, features: u64::MAX });
        }
        for (message_type, id, payload) in frames {
            let frame = arca_shared::protocol::frame::Frame::build(message_type, id, |buffer| {
                buffer[..payload.len()].copy_from_slice(&payload);
                payload.len()
            });
            let _ = frame.put(peer.control.outgoing());
        }
        let handle = monitor.handle();
        let thread = thread::spawn(move || monitor.event_loop());
        until("the frames to be served", || {
            // It sleeps after a turn, and one turn is enough for all of them.
            let idle = peer.area.monitor().is_asleep();
            (idle || thread.is_finished()).then_some(())
        });
        handle.stop();
        thread.join().expect("the monitor does not panic");
        prop_assert_eq!(handle.stats().pipes_allocated, 0);
    }
}

/// Scribbles over the whole arena from a place on until told to stop. `flags`:
/// over the flags of pipes too, which is no invalid cursor and ends a session in order.
fn scribble(
    arena: &arca_shared::memory::Arena,
    from: u64,
    flags: bool,
    seed: u64,
    stop: &AtomicBool,
) {
    let words = arena.len() as u64 / 8;
    let mut state = seed * 2 + 1;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    while !stop.load(Ordering::Relaxed) {
        let (at, value) = (random() >> 16, random());
        // Small values and places near headers are the more telling ones.
        let value = if value % 3 == 0 {
            value % 70_000
        } else {
            value
        };
        let at = if at % 2 == 0 {
            at % words
        } else {
            at % words / 512 * 512 + at % 4
        };
        if at * 8 < from || (!flags && at % 512 == 2) {
            continue;
        }
        let offset = arca_shared::memory::ShmOffset(at * 8);
        let word = arena.from_offset(offset, 8, 8).expect("inside");
        // SAFETY: inside the arena, aligned, and reached by atomics and system
        // calls only.
        unsafe { word.cast::<AtomicU64>().as_ref() }.store(value, Ordering::Relaxed);
    }
}

#[test]
fn scribbling_harms_nobody_else() {
    let service = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = service.local_addr().expect("an address");
    let echo = move || {
        for stream in service.incoming() {
            let mut stream = stream.expect("a connection");
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(len @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..len]).is_err() {
                        break;
                    }
                }
            });
        }
    };
    thread::spawn(echo);
    // A good session in the same process, and bad ones one after the other.
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let good = thread::spawn(move || {
        let mut session = Session::start();
        let mut round = 0;
        while !stopped.load(Ordering::Relaxed) {
            round += 1;
            let mut stream = session.peer.connect(address).expect("connects");
            let sent = pattern(20_000, round);
            stream.send(&sent);
            assert_eq!(stream.read_exact(sent.len()), sent);
            stream.close();
        }
        session.expect_no_pipes();
        session.stop();
        round
    });
    let began = Instant::now();
    let mut violations = 0;
    let mut round = 0u64;
    // A busy host may not get to see a lie in so short a time.
    while began.elapsed() < Duration::from_secs(3)
        || (violations == 0 && began.elapsed() < common::DEADLINE)
    {
        round += 1;
        let mut session = Session::with(MonitorConfig::default(), 16 << 20);
        let streams: Vec<_> = (0..8)
            .map(|_| session.peer.connect(address).expect("connects"))
            .collect();
        // Every other session keeps its control pipe and notification area.
        let from = if round.is_multiple_of(2) { 3 << 20 } else { 0 };
        let arena = session.peer.arena.clone();
        let end = Instant::now() + Duration::from_millis(100);
        let quiet = Arc::new(AtomicBool::new(false));
        let noise = {
            let quiet = quiet.clone();
            let flags = round % 4 != 1;
            thread::spawn(move || scribble(&arena, from, flags, round, &quiet))
        };
        while Instant::now() < end {
            // One that does not ring is looked at by the clock.
            if round % 4 != 1 {
                session.peer.ring();
            }
            thread::yield_now();
        }
        quiet.store(true, Ordering::Relaxed);
        noise.join().expect("no panic");
        drop(streams);
        session.handle.stop();
        match session.end() {
            // What it scribbled may count as something that it wrote, and a flag in the
            // control pipe is no invalid cursor.
            SessionEnd::Stopped | SessionEnd::Closed | SessionEnd::Undelivered(_) => {}
            SessionEnd::Violation(_) => violations += 1,
        }
        assert_eq!(session.handle.stats().pipes_allocated, 0);
    }
    assert!(violations > 0);
    stop.store(true, Ordering::Relaxed);
    assert!(good.join().expect("the good session is not harmed") > 0);
}
