//! What neither Arca nor a TCP peer can make the monitor do: wait for ever, grow
//! without bound, or forget to say that it is over.

mod common;

use arca_monitor::{MonitorConfig, SessionEnd};
use arca_shared::errno::Errno;
use arca_shared::protocol::message::{Name, Reply, Request};
use arca_shared::ring::Arm;
use common::{Session, until};
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

fn service() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

#[test]
fn an_abort_does_not_wait_for_an_arca_that_goes_on_writing() {
    let mut session = Session::start();
    session.peer.ring();
    let (listener, address) = service();
    // A reader that takes everything at once, so that the socket is never full.
    let reader = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accepts");
        let mut buffer = vec![0; 1 << 20];
        while let Ok(1..) = stream.read(&mut buffer) {}
    });
    let connect = Request::Connect(common::endpoint(address));
    let id = session.peer.send(connect);
    session.peer.notify_control();
    let Reply::ConnectOk(ready) = session.peer.reply(id) else {
        panic!("no connection");
    };
    let mut stream = session.peer.join(&ready);
    let slot = arca_shared::notify::Slot::from(stream.pipe.shm_offset());
    let area = session.peer.area.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let writer = thread::spawn(move || {
        // The flags say that all is over; the cursor goes on all the same.
        let chunk = [7; 65536];
        let mut errno_set = false;
        while !stopped.load(Ordering::Relaxed) {
            let _ = stream.pipe.write(&chunk);
            if !errno_set {
                errno_set = true;
                stream.pipe.outgoing().set_errno(Errno::ECONNRESET.0);
                stream.pipe.close_read();
                area.to_monitor().mark(slot);
            }
        }
        stream.close();
        area.to_monitor().mark(slot);
    });
    session.peer.ring();
    // The monitor still answers others.
    for _ in 0..100 {
        let id = session.peer.send(Request::Accept { listener_id: 1 });
        session.peer.notify_control();
        assert_eq!(session.peer.reply(id), Reply::AcceptErr(Errno::EBADF));
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("no panic");
    session.peer.ring();
    session.expect_no_pipes();
    session.stop();
    reader.join().expect("no panic");
}

#[test]
fn a_peer_that_takes_a_byte_now_and_then_delays_a_stop_only_so_long() {
    let config = MonitorConfig {
        drain: Duration::from_millis(150),
        drain_limit: Duration::from_millis(600),
        ..MonitorConfig::default()
    };
    let mut session = Session::with(config, common::ARENA);
    let (listener, address) = service();
    SockRef::from(&listener)
        .set_recv_buffer_size(4096)
        .expect("set");
    let mut stream = session.peer.connect(address).expect("connects");
    let (mut host, _) = listener.accept().expect("accepts");
    stream.fill(&session);
    let done = Arc::new(AtomicBool::new(false));
    let over = done.clone();
    let reader = thread::spawn(move || {
        let mut piece = [0; 8192];
        while !over.load(Ordering::Relaxed) && matches!(host.read(&mut piece), Ok(1..)) {
            thread::park_timeout(Duration::from_millis(20));
        }
    });
    let began = Instant::now();
    session.handle.stop();
    let end = session.end();
    assert!(matches!(end, SessionEnd::Undelivered(lost) if lost.connections == 1));
    let took = began.elapsed();
    done.store(true, Ordering::Relaxed);
    reader.join().expect("no panic");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn an_arca_that_outlives_its_session_is_told() {
    for violation in [true, false] {
        let mut session = Session::start();
        let (_listener, address) = service();
        let mut stream = session.peer.connect(address).expect("connects");
        if violation {
            session.peer.send_bytes(&[99, 0, 0, 1, 0, 0, 0]);
        } else {
            session.handle.abort();
        }
        assert_eq!(session.end() == SessionEnd::Stopped, !violation);
        assert!(session.peer.control.is_peer_write_closed());
        assert!(session.peer.control.is_peer_read_closed());
        assert!(stream.pipe.is_peer_write_closed() && stream.pipe.is_peer_read_closed());
        assert_eq!(stream.pipe.incoming().errno(), Errno::ECONNABORTED.0);
        let mut marked = Vec::new();
        session.peer.area.to_guest().take(|slot| marked.push(slot));
        for offset in [session.peer.control.shm_offset(), stream.pipe.shm_offset()] {
            assert!(marked.contains(&offset.into()), "{marked:?}");
        }
    }
}

#[test]
fn room_for_requests_is_told() {
    // A small arena has a small control pipe.
    let mut session = Session::with(MonitorConfig::default(), 1 << 20);
    let control = arca_shared::notify::Slot::from(session.peer.control.shm_offset());
    // Requests without an answer to them: a frame that is not whole yet.
    let request = Request::Accept { listener_id: 9 }.to_frame(1);
    let mut wire = [0; 64];
    let len = request.encode(&mut wire).expect("fits");
    session.peer.send_bytes(&wire[..len - 1]);
    until("the monitor to look", || {
        (session.handle.stats().epoll_turns > 20).then_some(())
    });
    let requests = session.peer.control.outgoing();
    assert_eq!(requests.arm_room(requests.capacity()), Ok(Arm::Armed));
    session.peer.area.to_guest().take(|_| {});
    // The last byte makes it whole: taken, and half the ring is free.
    session.peer.send_bytes(&wire[len - 1..len]);
    assert_eq!(session.peer.reply(1), Reply::AcceptErr(Errno::EBADF));
    let offset = session.peer.control.shm_offset();
    let header = session.peer.arena.from_offset(offset, 24, 8);
    let header = header
        .expect("inside")
        .cast::<arca_shared::ring::RingHeader>();
    // SAFETY: the control pipe's first header lies there, all of it atomic.
    let header = unsafe { header.as_ref() };
    until("the request to be taken", || {
        (header.room_wanted.load(Ordering::Acquire) == 0).then_some(())
    });
    let mut told = false;
    until("the mark", || {
        session
            .peer
            .area
            .to_guest()
            .take(|slot| told |= slot == control);
        told.then_some(())
    });
    session.stop();
}

#[test]
fn an_accept_that_does_not_wait_takes_what_is_there() {
    let mut session = Session::start();
    let (listener_id, local) = session.peer.listen_anywhere();
    // Both frames lie in the ring before the monitor takes the first.
    let accept_now = |session: &mut Session| {
        let accept = Request::AcceptFrom { listener_id };
        let id = session.peer.send(accept);
        let cancel = session.peer.send(Request::Cancel { request_id: id });
        assert_eq!(session.peer.reply(cancel), Reply::Done);
        session.peer.reply(id)
    };
    let nothing = Reply::AcceptErr(Errno::ECANCELED);
    assert_eq!(accept_now(&mut session), nothing);
    for _ in 0..50 {
        // Connected means that it is in the backlog, whatever epoll has said.
        let mut client = TcpStream::connect(local).expect("connects");
        let Reply::Accepted { ready, .. } = accept_now(&mut session) else {
            panic!("the connection was there");
        };
        let mut stream = session.peer.join(&ready);
        client.write_all(b"hello").expect("writes");
        assert_eq!(stream.read_exact(5), b"hello");
        stream.close();
        assert_eq!(accept_now(&mut session), nothing);
    }
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn waiting_requests_are_limited() {
    let mut config = MonitorConfig::default();
    config.limits.requests = 2;
    let mut session = Session::with(config, common::ARENA);
    let (listener_id, _) = session.peer.listen_anywhere();
    let accept = Request::Accept { listener_id };
    let waiting = [session.peer.send(accept), session.peer.send(accept)];
    assert_eq!(session.peer.ask(accept), Reply::AcceptErr(Errno::EAGAIN));
    let close = Request::CloseListener { listener_id };
    assert_eq!(session.peer.ask(close), Reply::Done);
    for id in waiting {
        assert_eq!(session.peer.reply(id), Reply::AcceptErr(Errno::EBADF));
    }
    session.stop();
}

#[test]
fn names_can_be_denied_and_addresses_are_not() {
    let mut config = MonitorConfig::default();
    config.policy.resolve_names = false;
    let mut session = Session::with(config, common::ARENA);
    let (_listener, address) = service();
    let mut ask = |name: &str| {
        let name = Name::new(name).expect("a name");
        let port = address.port();
        session.peer.ask(Request::ConnectName { port, name })
    };
    assert_eq!(ask("localhost"), Reply::ConnectErr(Errno::EACCES));
    assert!(matches!(ask("127.0.0.1"), Reply::Connected { .. }));
    let name = Name::new("localhost").expect("a name");
    let resolved = session.peer.ask(Request::Resolve { port: 1, name });
    assert_eq!(resolved, Reply::Failed(Errno::EACCES));
    session.stop();
}

#[test]
fn a_storm_of_names_is_bounded_and_leaves_no_thread() {
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").expect("proc");
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(entry.ok()?.path().join("comm")).ok()
        };
        let names = tasks.filter_map(name);
        names
            .filter(|name| name.starts_with("arca-resolver"))
            .count()
    };
    let mut config = MonitorConfig::default();
    config.limits.lookups = 20;
    let mut session = Session::with(config, common::ARENA);
    let name = Name::new("localhost").expect("a name");
    let ids: Vec<u32> = (0..500)
        .map(|_| session.peer.send(Request::ConnectName { port: 1, name }))
        .collect();
    let mut refused = 0;
    for id in ids {
        match session.peer.reply(id) {
            Reply::ConnectErr(Errno::EAGAIN) => refused += 1,
            Reply::ConnectErr(Errno::ECONNREFUSED) => {}
            other => panic!("{other:?}"),
        }
        // The process's, whatever the number of sessions.
        assert!(threads() <= 16);
    }
    assert!(refused > 0);
    session.stop();
}

#[test]
fn an_accept_that_has_ended_makes_room_for_another() {
    let mut config = MonitorConfig::default();
    config.limits.accepts = 1;
    let mut session = Session::with(config, common::ARENA);
    let (first, _) = session.peer.listen_anywhere();
    let (second, local) = session.peer.listen_anywhere();
    let accept = |listener_id| Request::Accept { listener_id };
    let cancelled = session.peer.send(accept(first));
    let refused = Reply::AcceptErr(Errno::EAGAIN);
    assert_eq!(session.peer.ask(accept(second)), refused);
    let cancel = Request::Cancel {
        request_id: cancelled,
    };
    assert_eq!(session.peer.ask(cancel), Reply::Done);
    let errno = Errno::ECANCELED;
    assert_eq!(session.peer.reply(cancelled), Reply::AcceptErr(errno));
    let closed = session.peer.send(accept(first));
    let close = Request::CloseListener { listener_id: first };
    assert_eq!(session.peer.ask(close), Reply::Done);
    let errno = Errno::EBADF;
    assert_eq!(session.peer.reply(closed), Reply::AcceptErr(errno));
    for _ in 0..2 {
        let id = session.peer.send(accept(second));
        let _client = TcpStream::connect(local).expect("connects");
        session.peer.accepted(id).close();
    }
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn a_listener_that_waits_for_room_goes_on_when_another_is_closed() {
    let mut config = MonitorConfig::default();
    config.limits.connections = 1;
    let mut session = Session::with(config, common::ARENA);
    let some_turns = |session: &Session| {
        let turns = session.handle.stats().epoll_turns;
        until("some turns", || {
            (session.handle.stats().epoll_turns > turns + 20).then_some(())
        });
    };
    let listeners = [(); 2].map(|()| session.peer.listen_anywhere());
    let accept = |listener_id| Request::Accept { listener_id };
    let id = session.peer.send(accept(listeners[0].0));
    let _client = TcpStream::connect(listeners[0].1).expect("connects");
    let only = session.peer.accepted(id);
    let waiting = listeners.map(|(id, _)| session.peer.send(accept(id)));
    let _clients = listeners.map(|(_, local)| TcpStream::connect(local).expect("connects"));
    some_turns(&session);
    let listener_id = listeners[0].0;
    let close = Request::CloseListener { listener_id };
    assert_eq!(session.peer.ask(close), Reply::Done);
    let closed = Reply::AcceptErr(Errno::EBADF);
    assert_eq!(session.peer.reply(waiting[0]), closed);
    some_turns(&session);
    assert_eq!(session.peer.try_reply(waiting[1]), None);
    only.close();
    session.peer.accepted(waiting[1]).close();
    session.expect_no_pipes();
    session.stop();
}
