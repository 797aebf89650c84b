//! What Arca had written before it left, or ended: delivered as Linux would deliver
//! it, and given up when Linux would give it up.

mod common;

use arca_monitor::{MonitorConfig, SessionEnd};
use arca_shared::errno::Errno;
use arca_shared::protocol::message::{Reply, Request, SocketOption, Target};
use common::{Session, Stream, digest, until};
use socket2::SockRef;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// A peer that has connected, of whom little fits into its kernel, and has not read.
fn peer(session: &mut Session) -> (Stream, TcpStream, SocketAddr, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    SockRef::from(&listener)
        .set_recv_buffer_size(4096)
        .expect("set");
    let address = listener.local_addr().expect("an address");
    let stream = session.peer.connect(address).expect("connects");
    let (host, _) = listener.accept().expect("accepts");
    host.set_read_timeout(Some(common::DEADLINE)).expect("set");
    (stream, host, address, listener)
}

/// Writes until neither ring nor socket takes more; what was written.
fn fill(stream: &mut Stream, session: &Session) -> Vec<u8> {
    let source = common::pattern(16 << 20, 5);
    let mut written = 0;
    let state = || {
        let stats = session.handle.stats();
        (stats.bytes_to_tcp, stats.epoll_turns)
    };
    let (mut sent, mut turns) = state();
    until("everything to be full", || {
        let wrote = stream.pipe.write(&source[written..]).unwrap_or(0);
        written += wrote;
        let (now_sent, now_turns) = state();
        if wrote > 0 || now_sent != sent {
            (sent, turns) = (now_sent, now_turns);
        }
        (now_turns > turns + 20).then_some(())
    });
    source[..written].to_vec()
}

/// Looks at the clock until so much time has passed.
fn pass(time: Duration) {
    let began = Instant::now();
    until("time to pass", || (began.elapsed() >= time).then_some(()));
}

#[test]
fn a_peer_that_never_reads_is_given_up_and_the_next_is_served() {
    let mut config = MonitorConfig {
        orphan_timeout: Duration::from_millis(1500),
        ..MonitorConfig::default()
    };
    config.limits.connections = 1;
    let mut session = Session::with(config, common::ARENA);
    let (mut stream, host, address, _listener) = peer(&mut session);
    fill(&mut stream, &session);
    stream.close();
    let next = session.peer.connect(address).err();
    assert_eq!(next, Some(Errno::ENFILE), "its place is taken for a while");
    session.expect_no_pipes();
    let stats = session.handle.stats();
    assert_eq!(stats.given_up, 1);
    assert!(stats.undelivered > 0);
    let next = session.peer.connect(address).expect("there is room");
    next.close();
    drop(host);
    session.expect_no_pipes();
    // What was lost before the end is none of the end's.
    session.handle.finish();
    assert_eq!(session.end(), SessionEnd::Stopped);
}

#[test]
fn a_peer_is_given_up_as_soon_as_the_program_wants() {
    let mut session = Session::start();
    let (mut stream, _host, ..) = peer(&mut session);
    let set = Request::SetOption {
        target: Target::Connection(stream.id),
        option: SocketOption::UserTimeout as u8,
        value: 1000,
    };
    assert_eq!(session.peer.ask(set), Reply::Done);
    fill(&mut stream, &session);
    // The program has its connection open: to it the error belongs.
    let (_, errno) = stream.read_to_end();
    assert_eq!(errno, Errno::ETIMEDOUT.0);
    stream.close();
    session.expect_no_pipes();
    let (mut stream, _host, ..) = peer(&mut session);
    let set = Request::SetOption {
        target: Target::Connection(stream.id),
        option: SocketOption::UserTimeout as u8,
        value: 1000,
    };
    assert_eq!(session.peer.ask(set), Reply::Done);
    fill(&mut stream, &session);
    // The orphan timeout is longer, and does not put it off.
    stream.close();
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn a_peer_that_takes_something_now_and_then_is_waited_for() {
    let config = MonitorConfig {
        orphan_timeout: Duration::from_millis(2500),
        ..MonitorConfig::default()
    };
    let mut session = Session::with(config, common::ARENA);
    let (mut stream, mut host, ..) = peer(&mut session);
    let written = fill(&mut stream, &session);
    stream.close();
    let (mut got, mut piece) = (Vec::new(), [0; 8192]);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        let len = host.read(&mut piece).expect("it is waited for");
        got.extend(&piece[..len]);
        pass(Duration::from_millis(100));
    }
    host.read_to_end(&mut got).expect("an orderly end");
    assert_eq!(digest(&got), digest(&written));
    session.expect_no_pipes();
    assert_eq!(session.handle.stats().given_up, 0);
    session.stop();
}

#[test]
fn what_a_guest_that_ended_in_order_wrote_is_delivered_however_late_it_is_read() {
    // Neither of them is for a guest that ended in order.
    let config = MonitorConfig {
        drain: Duration::ZERO,
        drain_limit: Duration::ZERO,
        ..MonitorConfig::default()
    };
    let mut session = Session::with(config, common::ARENA);
    let (mut stream, mut host, ..) = peer(&mut session);
    let written = fill(&mut stream, &session);
    session.handle.finish();
    // The notice comes after a second.
    pass(Duration::from_millis(1200));
    let reader = thread::spawn(move || {
        let mut got = Vec::new();
        host.read_to_end(&mut got).expect("an orderly end");
        got
    });
    assert_eq!(session.end(), SessionEnd::Stopped);
    let got = reader.join().expect("no panic");
    assert_eq!((got.len(), digest(&got)), (written.len(), digest(&written)));
}

#[test]
fn what_is_given_up_after_the_end_is_told() {
    let config = MonitorConfig {
        orphan_timeout: Duration::from_millis(300),
        ..MonitorConfig::default()
    };
    let mut session = Session::with(config, common::ARENA);
    let (mut stream, mut host, ..) = peer(&mut session);
    let written = fill(&mut stream, &session).len() as u64;
    session.handle.finish();
    let SessionEnd::Undelivered(lost) = session.end() else {
        panic!("all was delivered to a peer that does not read");
    };
    let sent = session.handle.stats().bytes_to_tcp;
    assert_eq!((lost.connections, lost.bytes), (1, written - sent));
    // What it has is not taken for the whole.
    let got = host.read_to_end(&mut Vec::new());
    assert!(got.is_err(), "{got:?} of {written}");
}

#[test]
fn a_wait_for_peers_ends_with_a_stop_and_with_an_abort() {
    let ends: [fn(&Session); 2] = [|s| s.handle.stop(), |s| s.handle.abort()];
    for end in ends {
        let config = MonitorConfig {
            drain: Duration::from_millis(100),
            ..MonitorConfig::default()
        };
        let mut session = Session::with(config, common::ARENA);
        let (mut stream, _host, ..) = peer(&mut session);
        let written = fill(&mut stream, &session).len() as u64;
        session.handle.finish();
        until("the guest to count as gone", || {
            (session.handle.stats().epoll_turns > 0).then_some(())
        });
        end(&session);
        let SessionEnd::Undelivered(lost) = session.end() else {
            panic!("all was delivered to a peer that does not read");
        };
        let sent = session.handle.stats().bytes_to_tcp;
        assert_eq!((lost.connections, lost.bytes), (1, written - sent));
    }
}
