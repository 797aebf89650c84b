//! The control pipe itself: what may be in it, and what its flags and cursors mean.

mod common;

use arca_monitor::{Monitor, MonitorConfig, PipeSizes, SessionEnd, Violation};
use arca_shared::errno::Errno;
use arca_shared::memory::ShmOffset;
use arca_shared::notify::Slot;
use arca_shared::pipe::{BidirectionalPipe, Side};
use arca_shared::protocol::frame::{Frame, FrameError};
use arca_shared::protocol::message::{MessageError, Reply, Request, code, feature};
use arca_shared::ring::{InvalidCursor, RingHeader};
use common::{Peer, Session, UNKNOWN_CODE, link, until};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;

#[track_caller]
fn violation(bytes: &[u8], hello: bool) -> Violation {
    let mut session = Session::start();
    if hello {
        session.peer.hello();
        session.peer.ring();
    }
    session.peer.send_bytes(bytes);
    session.peer.notify_control();
    match session.end() {
        SessionEnd::Violation(violation) => {
            assert_eq!(violation.to_string().lines().count(), 1);
            violation
        }
        end => panic!("{end:?}"),
    }
}

#[test]
fn malformed_frames_end_the_session() {
    let too_long = Violation::Frame(FrameError::TooLong {
        message_type: 1,
        payload_len: 257,
    });
    assert_eq!(violation(&[1, 1, 1, 0, 0, 0, 0], false), too_long);
    assert_eq!(violation(&[1, 1, 1, 0, 0, 0, 0], true), too_long);
    let wrong_length = Violation::Message(MessageError::WrongLength {
        message_type: 8,
        found: 3,
    });
    assert_eq!(
        violation(&[8, 3, 0, 9, 0, 0, 0, 1, 2, 3], false),
        wrong_length
    );
    let unknown = |code| Violation::Message(MessageError::UnknownType(code));
    let empty = |code| [code, 0, 0, 1, 0, 0, 0];
    assert_eq!(
        violation(&empty(UNKNOWN_CODE), false),
        unknown(UNKNOWN_CODE)
    );
    assert_eq!(violation(&empty(0), true), unknown(0));
    assert_eq!(
        violation(&empty(code::LISTEN_OK), true),
        unknown(code::LISTEN_OK)
    );
    assert_eq!(violation(&empty(code::DONE), true), unknown(code::DONE));
}

#[test]
fn a_payload_longer_than_its_layout_ends_the_session() {
    let layouts = [
        (code::LISTEN_REQUEST, 6),
        (code::CONNECT_REQUEST, 6),
        (code::ACCEPT_REQUEST, 4),
        (code::HELLO, 12),
        (code::CLOSE_LISTENER, 4),
        (code::CANCEL, 4),
        (code::LISTEN_AT, 32),
        (code::CONNECT_TO, 28),
        (code::CONNECT_NAME, 255),
        (code::ACCEPT_FROM, 4),
        (code::ADDRESSES, 5),
        (code::SET_OPTION, 14),
        (code::GET_OPTION, 6),
    ];
    for (message_type, layout) in layouts {
        for found in [layout + 1, 256] {
            let mut bytes = vec![message_type];
            bytes.extend((found as u16).to_le_bytes());
            bytes.extend([1, 0, 0, 0]);
            // An IPv4 address, or a listener: the layout itself has a meaning.
            let family = matches!(message_type, code::LISTEN_AT | code::CONNECT_TO);
            bytes.resize(7 + found, if family { 4 } else { 1 });
            let wanted = Violation::Message(MessageError::WrongLength {
                message_type,
                found,
            });
            assert_eq!(violation(&bytes, true), wanted, "{message_type}");
        }
    }
}

/// The headers of the control pipe's request and reply rings.
fn control_headers(session: &mut Session) -> [&RingHeader; 2] {
    let control = &mut session.peer.control;
    let (first, capacity) = (control.shm_offset(), control.incoming().capacity());
    let second = ShmOffset(first.0 + (RingHeader::SIZE + capacity) as u64);
    [first, second].map(|offset| {
        let address = session.peer.arena.from_offset(offset, 24, 8);
        // SAFETY: inside the arena, aligned, and all its fields are atomic.
        unsafe { address.expect("inside").cast::<RingHeader>().as_ref() }
    })
}

#[test]
fn a_lie_in_the_control_ring_ends_the_session() {
    let mut session = Session::start();
    let [requests, _] = control_headers(&mut session);
    requests.write_cursor.store(u64::MAX / 2, Ordering::Release);
    assert!(matches!(
        session.end(),
        SessionEnd::Violation(Violation::Frame(FrameError::Ring(_)))
    ));
}

#[test]
fn an_impossible_read_cursor_of_the_reply_ring_is_found_at_the_next_look() {
    for asks in [false, true] {
        let mut session = Session::start();
        let [_, replies] = control_headers(&mut session);
        replies.read_cursor.store(1, Ordering::Release);
        if asks {
            session.peer.send(Request::Accept { listener_id: 1 });
        }
        let end = session.end();
        let SessionEnd::Violation(Violation::Replies(invalid)) = end else {
            panic!("{end:?}");
        };
        assert_eq!(
            invalid,
            InvalidCursor::Read {
                found: 1,
                low: 0,
                high: 0
            }
        );
    }
}

/// Has a session's Arca close ends of the control pipe: the session is over as if
/// Arca were gone, and what it wrote arrives.
#[track_caller]
fn leave(hello: bool, close: impl FnOnce(&mut Peer)) {
    let mut session = Session::start();
    if hello {
        session.peer.hello();
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let id = session
        .peer
        .send(Request::Connect(common::endpoint(address)));
    let Reply::ConnectOk(ready) = session.peer.reply(id) else {
        panic!("no connection");
    };
    let mut stream = session.peer.join(&ready);
    let (mut host, _) = listener.accept().expect("accepts");
    // No port that the kernel gives to others: it refuses once it is closed.
    let local = "127.10.1.3:20003".parse().expect("an address");
    let listener_id = session.peer.listen(local).expect("listens");
    session.peer.send(Request::Accept { listener_id });
    let sent = common::pattern(3_000_000, 5);
    let wanted = common::digest(&sent);
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let end = std::io::Read::read_to_end(&mut host, &mut bytes);
        (common::digest(&bytes), end.map_err(|error| error.kind()))
    });
    let slot = Slot::from(stream.pipe.shm_offset());
    let mut left = &sent[..];
    until("room in ring A", || {
        if let Ok(len) = stream.pipe.write(left) {
            left = &left[len..];
        }
        session.peer.area.to_monitor().mark(slot);
        session.peer.notify_control();
        left.is_empty().then_some(())
    });
    close(&mut session.peer);
    session.peer.notify_control();
    assert_eq!(session.end(), SessionEnd::Closed);
    let (digest, end) = reader.join().expect("no panic");
    assert_eq!((digest, end), (wanted, Ok(sent.len())));
    let stats = session.handle.stats();
    assert_eq!(
        (stats.pipes_allocated, stats.connections, stats.listeners),
        (0, 0, 0)
    );
    assert_eq!(stats.reset, 0);
    assert!(TcpStream::connect(local).is_err(), "the listener is closed");
    let [requests, replies] = control_headers(&mut session);
    assert_ne!(requests.reader_closed.load(Ordering::Acquire), 0);
    assert_ne!(replies.writer_closed.load(Ordering::Acquire), 0);
}

#[test]
fn an_arca_that_closes_the_control_pipe_leaves_in_order() {
    for hello in [false, true] {
        leave(hello, |peer| peer.control.close_read());
        leave(hello, |peer| peer.control.close_write());
        leave(hello, |peer| {
            peer.control.close_write();
            peer.control.close_read();
        });
    }
}

#[test]
fn who_leaves_is_told_at_once_though_a_peer_does_not_read() {
    let mut session = Session::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut stream = session.peer.connect(address).expect("connects");
    let _host = listener.accept().expect("accepts");
    stream.fill(&session);
    session.peer.control.close_read();
    until("the monitor's flags", || {
        let control = &mut session.peer.control;
        (control.is_peer_write_closed() && control.is_peer_read_closed()).then_some(())
    });
    assert_eq!(session.handle.stats().connections, 1);
    session.handle.abort();
    let end = session.end();
    assert!(matches!(end, SessionEnd::Undelivered(_)), "{end:?}");
}

#[test]
fn requests_before_the_end_of_the_request_ring_are_served() {
    let mut session = Session::start();
    let ids: Vec<u32> = (0..600)
        .map(|_| session.peer.send(Request::Accept { listener_id: 3 }))
        .collect();
    // A part of a frame behind them is none.
    session.peer.send_bytes(&[8, 4, 0]);
    session.peer.control.close_write();
    for id in ids {
        let wanted = Reply::AcceptErr(Errno::EBADF);
        assert_eq!(session.peer.reply(id), wanted);
    }
    assert_eq!(session.end(), SessionEnd::Closed);
}

#[test]
fn a_second_hello_is_answered_and_takes_nothing_back() {
    let mut session = Session::start();
    session.peer.hello();
    session.peer.ring();
    for (version, features, wanted) in [(9, 1 << 63, (1, 0)), (0, u64::MAX, (0, feature::ALL))] {
        let id = session.peer.send(Request::Hello { version, features });
        session.peer.notify_control();
        let (version, features) = wanted;
        assert_eq!(session.peer.reply(id), Reply::HelloOk { version, features });
    }
    // Still no polling, and an unknown code still ends nothing.
    until("the monitor to sleep", || {
        session.peer.area.monitor().is_asleep().then_some(())
    });
    let frame = Frame::build(UNKNOWN_CODE, 900, |_| 0);
    session.peer.send_frame(&frame);
    session.peer.notify_control();
    let message_type = UNKNOWN_CODE;
    assert_eq!(session.peer.reply(900), Reply::Unsupported { message_type });
    session.stop();
}

#[test]
fn an_arca_that_outlives_its_session_finds_errno_103() {
    let mut session = Session::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut stream = session.peer.connect(address).expect("connects");
    let _host = listener.accept().expect("accepts");
    session.handle.abort();
    assert_eq!(session.end(), SessionEnd::Stopped);
    assert!(stream.pipe.is_peer_write_closed() && stream.pipe.is_peer_read_closed());
    assert_eq!(stream.pipe.incoming().errno(), 103);
}

#[test]
fn frames_may_come_in_pieces() {
    let mut session = Session::start();
    let frame = Request::Accept { listener_id: 5 }.to_frame(0);
    let mut wire = [0; 16];
    let len = frame.encode(&mut wire).expect("fits");
    for byte in &wire[..len] {
        let turns = session.handle.stats().epoll_turns;
        session.peer.send_bytes(&[*byte]);
        until("a tick", || {
            (session.handle.stats().epoll_turns > turns).then_some(())
        });
    }
    assert_eq!(session.peer.reply(0), Reply::AcceptErr(Errno::EBADF));
    session.stop();
}

#[test]
fn a_guest_that_left_its_session_goes_on_with_its_standard_pipes() {
    for rings in [false, true] {
        let (mut link, arena, _) = link(common::ARENA);
        let mut out = link.standard_pipe(4096).expect("room");
        let mut peer = Peer::new(&link, arena.clone());
        let mut guest = BidirectionalPipe::join(&arena, out.place(), Side::A).expect("a pipe");
        let out_handle = out.handle();
        let mut monitor = Monitor::new(link, MonitorConfig::default()).expect("a monitor");
        let handle = monitor.handle();
        let session = std::thread::spawn(move || monitor.event_loop());
        if rings {
            peer.hello();
        }
        peer.control.close_write();
        // One that rings once is not looked at by the clock any more.
        if rings {
            peer.notify_control();
        }
        until("the end of the session", || {
            peer.control.is_peer_write_closed().then_some(())
        });
        let reader = std::thread::spawn(move || {
            let (mut bytes, mut buffer) = (Vec::new(), [0; 1000]);
            while let len @ 1.. = out.read(&mut buffer).expect("valid cursors") {
                bytes.extend_from_slice(&buffer[..len]);
            }
            bytes
        });
        let text = common::pattern(100_000, 3);
        let mut rest = &text[..];
        until("all to be written", || {
            if let Ok(len) = guest.write(rest) {
                rest = &rest[len..];
            }
            if rings {
                peer.area.to_monitor().mark(Slot::from(guest.shm_offset()));
                peer.notify_control();
            }
            rest.is_empty().then_some(())
        });
        handle.stop();
        out_handle.ended();
        assert_eq!(reader.join().expect("no panic"), text);
        let end = session.join().expect("no panic");
        assert_eq!(end, SessionEnd::Closed);
    }
}

#[test]
fn the_replies_to_all_that_wait_fit_whatever_is_not_read() {
    const WAITING: usize = 100;
    let (largest, smallest) = (8 << 10, 8 << 10);
    let config = MonitorConfig {
        pipe_sizes: PipeSizes { largest, smallest },
        ..MonitorConfig::default()
    };
    let mut session = Session::with(config, 4 << 20);
    let (listener_id, local) = session.peer.listen_anywhere();
    let accept = Request::Accept { listener_id };
    let accepts = [(); WAITING].map(|()| session.peer.send(accept));
    // Others, whose replies nobody reads, until no further one is taken.
    let mut ids = 1 << 20..;
    let mut frame = Request::Accept { listener_id: 99 }.to_frame(0);
    let state = || {
        let stats = session.handle.stats();
        (stats.frames_in, stats.epoll_turns)
    };
    let (mut taken, mut turns) = state();
    until("both rings to be full", || {
        let put = frame.put(session.peer.control.outgoing()).is_ok();
        if put {
            frame.request_id = ids.next()?;
        }
        let (now_taken, now_turns) = state();
        if put || now_taken != taken {
            (taken, turns) = (now_taken, now_turns);
        }
        (now_turns > turns + 20).then_some(())
    });
    let _clients = [(); WAITING].map(|()| TcpStream::connect(local).expect("connects"));
    until("all to be accepted", || {
        (session.handle.stats().connections_in == WAITING as u64).then_some(())
    });
    for id in accepts {
        session.peer.accepted(id).close();
    }
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn a_reply_is_told_and_so_is_room_without_one() {
    let mut session = Session::start();
    let slot = Slot::from(session.peer.control.shm_offset());
    let told = |peer: &Peer, what: &str| {
        until(what, || {
            let mut told = false;
            peer.area.to_guest().take(|marked| told |= marked == slot);
            told.then_some(())
        });
    };
    session.peer.hello();
    told(&session.peer, "the mark for the reply to hello");
    let (listener_id, _) = session.peer.listen_anywhere();
    told(&session.peer, "the mark for the reply to a listen");
    // One that waits, so that there is no reply, and a part of another: the room
    // is not the whole ring.
    let wire = |request: Request, id| {
        let mut wire = [0; 64];
        let len = request.to_frame(id).encode(&mut wire).expect("fits");
        wire[..len].to_vec()
    };
    let unknown = wire(Request::Accept { listener_id: 99 }, 901);
    let (part, rest) = unknown.split_at(5);
    let mut bytes = wire(Request::Accept { listener_id }, 900);
    bytes.extend(part);
    let requests = session.peer.control.outgoing();
    // There is room now; the request for it stays.
    requests.arm_room(1).expect("valid cursors");
    session.peer.send_bytes(&bytes);
    session.peer.notify_control();
    told(&session.peer, "the mark for the room");
    session.peer.send_bytes(rest);
    session.peer.notify_control();
    told(&session.peer, "the mark for the reply");
    let reply = session.peer.try_reply(901);
    assert_eq!(reply, Some(Reply::AcceptErr(Errno::EBADF)));
    assert_eq!(session.peer.try_reply(900), None);
    session.stop();
}

#[test]
fn a_hello_without_notification_leaves_the_polling_as_it_is() {
    let mut session = Session::start();
    let features = feature::ALL & !feature::NOTIFY;
    let version = 1;
    let hello = Request::Hello { version, features };
    let reply = session.peer.ask(hello);
    assert_eq!(reply, Reply::HelloOk { version, features });
    // Neither marked nor rung.
    for _ in 0..100 {
        let accept = Request::Accept { listener_id: 99 };
        let reply = session.peer.ask(accept);
        assert_eq!(reply, Reply::AcceptErr(Errno::EBADF));
    }
    session.stop();
}

#[test]
fn requests_and_replies_are_counted() {
    let mut session = Session::start();
    session.peer.hello();
    let (listener_id, _) = session.peer.listen_anywhere();
    let accept = Request::Accept { listener_id };
    let [first, second] = [(); 2].map(|()| session.peer.send(accept));
    let cancel = Request::Cancel { request_id: first };
    assert_eq!(session.peer.ask(cancel), Reply::Done);
    let close = Request::CloseListener { listener_id };
    assert_eq!(session.peer.ask(close), Reply::Done);
    for (id, errno) in [(first, Errno::ECANCELED), (second, Errno::EBADF)] {
        assert_eq!(session.peer.reply(id), Reply::AcceptErr(errno));
    }
    let stats = || {
        let stats = session.handle.stats();
        (stats.frames_in, stats.frames_out)
    };
    until("six of each", || (stats() == (6, 6)).then_some(()));
    session.stop();
}
