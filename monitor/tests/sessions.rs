//! Sessions as wholes: how they end, and how the monitor is driven and woken.

mod common;

use arca_monitor::{Monitor, MonitorConfig, SessionEnd};
use arca_shared::notify::{DOORBELL_BURST, Slot};
use arca_shared::protocol::frame::Frame;
use arca_shared::protocol::message::{Reply, Request};
use arca_shared::ring::Arm;
use common::{DEADLINE, Peer, Session, link, until};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[test]
fn a_violation_resets_connections_and_frees_everything() {
    let mut session = Session::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let _stream = session.peer.connect(address).expect("connects");
    let (mut host, _) = listener.accept().expect("accepts");
    session.peer.send_bytes(&[99, 0, 0, 1, 0, 0, 0]);
    assert!(matches!(session.end(), SessionEnd::Violation(_)));
    let error = std::io::Read::read(&mut host, &mut [0]).expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(session.handle.stats().pipes_allocated, 0);
}

#[test]
fn the_first_doorbell_ends_polling_and_idling_costs_nothing() {
    let session = Session::start();
    let turns = || session.handle.stats().epoll_turns;
    let before = turns();
    until("polling", || (turns() > before + 10).then_some(()));
    session.peer.ring();
    until("the doorbell", || {
        (session.handle.stats().doorbells == 1).then_some(())
    });
    until("the monitor to sleep", || {
        session.peer.area.monitor().is_asleep().then_some(())
    });
    // Nothing is waited for: in so long the slowest ticks would have been 300 turns.
    let before = turns();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(turns(), before);
    session.stop();
}

#[test]
fn a_greeted_peer_is_woken_by_marks_and_wakes_by_marks() {
    let mut session = Session::start();
    session.peer.hello();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let id = session
        .peer
        .send(Request::Connect(common::endpoint(address)));
    session.peer.notify_control();
    let Reply::ConnectOk(ready) = session.peer.reply(id) else {
        panic!("no connection");
    };
    let mut stream = session.peer.join(&ready);
    let slot = Slot::from(stream.pipe.shm_offset());
    let (mut host, _) = listener.accept().expect("accepts");
    // Takes away what is marked by now, when nothing more will be.
    until("the monitor to sleep", || {
        session.peer.area.monitor().is_asleep().then_some(())
    });
    session.peer.area.to_guest().take(|_| {});
    let wakes = session.waker.0.load(Ordering::SeqCst);
    assert_eq!(stream.pipe.incoming().arm_data(0), Ok(Arm::Armed));
    session.peer.area.vcpu(0).prepare_sleep();
    std::io::Write::write_all(&mut host, b"wake up").expect("writes");
    until("the wake", || {
        (session.waker.0.load(Ordering::SeqCst) == wakes + 1).then_some(())
    });
    let mut marked = Vec::new();
    session.peer.area.to_guest().take(|slot| marked.push(slot));
    assert_eq!(marked, [slot]);
    assert_eq!(stream.read_exact(7), b"wake up");
    // The other way: bytes alone are not seen, the mark and the bell are.
    until("the monitor to sleep", || {
        session.peer.area.monitor().is_asleep().then_some(())
    });
    stream.send(b"you too");
    assert!(stream.pipe.outgoing().should_notify_data());
    session.peer.area.to_monitor().mark(slot);
    assert!(session.peer.area.monitor().claim_wake());
    session.peer.ring();
    let mut bytes = [0; 7];
    std::io::Read::read_exact(&mut host, &mut bytes).expect("reads");
    assert_eq!(&bytes, b"you too");
    // Marks of slots without a pipe are ignored.
    session.peer.area.to_monitor().mark(Slot(1 << 13));
    session.peer.notify_control();
    stream.close();
    session.stop();
}

#[test]
fn amid_a_burst_of_doorbells_a_mark_is_found_without_one() {
    found_without_a_doorbell(|session| {
        let first = rung_in_its_sleep(session, 1);
        rung_in_its_sleep(session, 1);
        first
    });
}

#[test]
fn doorbells_that_are_heard_as_one_are_a_burst() {
    found_without_a_doorbell(|session| rung_in_its_sleep(session, 2));
}

/// Rings so often, at once, for a monitor that sleeps; when it began to.
fn rung_in_its_sleep(session: &Session, times: u64) -> Instant {
    until("the monitor to sleep", || {
        let at = Instant::now();
        session.peer.area.monitor().claim_wake().then(|| {
            session.peer.ring_times(times);
            at
        })
    })
}

/// Marks something and does not ring, after `burst`, which says when the last doorbell but
/// one was rung.
fn found_without_a_doorbell(burst: impl Fn(&Session) -> Instant) {
    let mut session = Session::start();
    session.peer.hello();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut stream = session.peer.connect(address).expect("connects");
    let (mut host, _) = listener.accept().expect("accepts");
    host.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    let monitor = session.peer.area.monitor();
    // A machine that is busy may take longer than a burst lasts for it.
    until("a doorbell that may be deferred", || {
        let before_last = burst(&session);
        until("the monitor to sleep", || monitor.is_asleep().then_some(()));
        stream.send(b"!");
        let slot = Slot::from(stream.pipe.shm_offset());
        session.peer.area.to_monitor().mark(slot);
        let may_be_deferred = before_last.elapsed() < Duration::from_nanos(DOORBELL_BURST);
        if !may_be_deferred {
            rung_in_its_sleep(&session, 1);
        }
        std::io::Read::read_exact(&mut host, &mut [0]).expect("the byte, in the end");
        may_be_deferred.then_some(())
    });
    stream.close();
    session.stop();
}

#[test]
fn the_monitor_can_be_driven_step_by_step() {
    let (link, arena, _) = link(common::ARENA);
    let mut peer = Peer::new(&link, arena);
    let mut monitor = Monitor::new(link, MonitorConfig::default()).expect("a monitor");
    peer.send(Request::Hello {
        version: 1,
        features: 0,
    });
    assert_eq!(monitor.serve_one(), Ok(true));
    assert!(matches!(peer.reply(1), Reply::HelloOk { .. }));
    let address =
        arca_shared::protocol::message::Address("127.0.0.1:0".parse().expect("an address"));
    let id = peer.send(Request::ListenAt {
        address,
        backlog: 0,
    });
    assert_eq!(monitor.serve_one(), Ok(true));
    let Reply::Listening { listener_id, local } = peer.reply(id) else {
        panic!("no listener");
    };
    assert_eq!(monitor.poll_accepts(), Ok(0));
    let accept = peer.send(Request::Accept { listener_id });
    assert_eq!(monitor.serve_one(), Ok(true));
    let mut client = TcpStream::connect(local.0).expect("connects");
    let answered = until("the accept", || {
        Some(monitor.poll_accepts().expect("no violation")).filter(|&n| n > 0)
    });
    assert_eq!(answered, 1);
    let mut stream = peer.accepted(accept);
    std::io::Write::write_all(&mut client, b"step").expect("writes");
    until("the bytes", || {
        let progress = monitor.pump_once().expect("no violation");
        (stream.pipe.incoming().available() == Ok(4)).then_some(progress)
    });
    assert_eq!(stream.read_exact(4), b"step");
    // A request of one's own making.
    let frame = Request::Connect(common::endpoint(local.0)).to_frame(42);
    match monitor.dispatch_request(&frame) {
        Ok(arca_monitor::Dispatch::Reply(Reply::ConnectOk(_))) => {}
        other => panic!("{other:?}"),
    }
    let bad = Frame::build(0, 1, |_| 0);
    assert!(monitor.dispatch_request(&bad).is_err());
    let handle = monitor.handle();
    handle.stop();
    assert_eq!(monitor.serve_one(), Ok(false));
    assert_eq!(monitor.event_loop(), SessionEnd::Stopped);
}

#[test]
fn a_driver_that_only_pumps_serves_everything() {
    let (link, arena, _) = link(common::ARENA);
    let mut peer = Peer::new(&link, arena);
    let mut monitor = Monitor::new(link, MonitorConfig::default()).expect("a monitor");
    let service = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = service.local_addr().expect("an address");
    let id = peer.send(Request::Connect(common::endpoint(address)));
    let reply = until("the connect", || {
        monitor.pump_once().expect("no violation");
        peer.try_reply(id)
    });
    let Reply::ConnectOk(ready) = reply else {
        panic!("{reply:?}");
    };
    let mut stream = peer.join(&ready);
    let (mut host, _) = service.accept().expect("accepts");
    assert_eq!(stream.pipe.write(b"pump"), Ok(4));
    assert!(monitor.pump_once().expect("no violation").moved);
    let mut bytes = [0; 4];
    std::io::Read::read_exact(&mut host, &mut bytes).expect("reads");
    assert_eq!(&bytes, b"pump");
    // An accept too.
    let (listener_id, local) = {
        let address =
            arca_shared::protocol::message::Address("127.0.0.1:0".parse().expect("an address"));
        let backlog = 0;
        let id = peer.send(Request::ListenAt { address, backlog });
        monitor.pump_once().expect("no violation");
        match peer.reply(id) {
            Reply::Listening { listener_id, local } => (listener_id, local.0),
            other => panic!("{other:?}"),
        }
    };
    let accept = peer.send(Request::Accept { listener_id });
    let _client = TcpStream::connect(local).expect("connects");
    let reply = until("the accept", || {
        monitor.pump_once().expect("no violation");
        peer.try_reply(accept)
    });
    assert!(matches!(reply, Reply::IncomingConnection(_)), "{reply:?}");
    // A request that is none is found too.
    peer.send_bytes(&[0, 0, 0, 1, 0, 0, 0]);
    assert!(monitor.pump_once().is_err());
}

#[test]
fn a_peer_that_never_reads_delays_a_stop_only_so_long() {
    let config = MonitorConfig {
        drain: Duration::from_millis(200),
        ..MonitorConfig::default()
    };
    let mut session = Session::with(config, common::ARENA);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut stream = session.peer.connect(address).expect("connects");
    let (_host, _) = listener.accept().expect("accepts");
    stream.fill(&session);
    let began = Instant::now();
    session.handle.stop();
    let end = session.end();
    assert!(
        matches!(end, SessionEnd::Undelivered(lost) if lost.connections == 1 && lost.bytes > 0),
        "{end:?}"
    );
    assert!(began.elapsed() >= Duration::from_millis(200));
}
