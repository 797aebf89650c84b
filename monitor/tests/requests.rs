//! Requests and their replies, one by one.

mod common;

use arca_monitor::{MonitorConfig, PipeSizes};
use arca_shared::errno::Errno;
use arca_shared::protocol::message::{
    Address, Name, Reply, Request, SocketOption, Target, feature,
};
use common::{Session, UNKNOWN_CODE, endpoint, service, until};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};

fn address(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

/// A listener whose backlog is full: it answers no further connect.
fn full_backlog() -> (socket2::Socket, TcpStream, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    socket.bind(&address("127.0.0.1:0").into()).expect("binds");
    socket.listen(0).expect("listens");
    let local = socket.local_addr().expect("an address");
    let local = local.as_socket().expect("IPv4");
    let first = TcpStream::connect(local).expect("connects");
    (socket, first, local)
}

#[test]
fn connects_on_their_way_are_limited() {
    let mut config = MonitorConfig::default();
    config.limits.connects = 1;
    let mut session = Session::with(config, common::ARENA);
    let (_socket, _first, full) = full_backlog();
    let slow = session.peer.send(Request::Connect(endpoint(full)));
    assert_eq!(session.peer.connect(full).err(), Some(Errno::EAGAIN));
    // One that is there at once is not on its way.
    let (_service, quick) = service();
    session.peer.connect(quick).expect("connects").close();
    assert_eq!(session.peer.try_reply(slow), None);
    session.handle.stop();
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn a_published_port_is_bound_where_the_user_says() {
    let mut config = MonitorConfig::default();
    let host = address("127.10.1.1:20001");
    config.policy.publish.push((host, 7000));
    let mut session = Session::with(config, common::ARENA);
    let listener_id = session
        .peer
        .listen(address("10.9.9.9:7000"))
        .expect("listens");
    let accept = session.peer.send(Request::Accept { listener_id });
    let _client = TcpStream::connect(host).expect("connects");
    session.peer.accepted(accept).close();
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn errors_carry_their_errno() {
    let mut session = Session::start();
    let (_listener, taken) = service();
    let peer = &mut session.peer;
    assert_eq!(peer.listen(taken), Err(Errno::EADDRINUSE));
    let nowhere = address("127.10.1.2:1");
    assert_eq!(peer.connect(nowhere).err(), Some(Errno::ECONNREFUSED));
    assert_eq!(
        peer.connect(address("10.1.2.3:80")).err(),
        Some(Errno::EACCES)
    );
    assert_eq!(peer.listen(address("10.1.2.3:80")), Err(Errno::EACCES));
    let accept = Request::Accept { listener_id: 77 };
    assert_eq!(peer.ask(accept), Reply::AcceptErr(Errno::EBADF));
    assert_eq!(session.handle.stats().refused, 2);
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn a_wildcard_is_narrowed_to_loopback() {
    let mut session = Session::start();
    for (asked, got) in [("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "::1")] {
        let request = Request::ListenAt {
            address: Address(address(asked)),
            backlog: 5,
        };
        match session.peer.ask(request) {
            Reply::Listening { local, .. } => assert_eq!(local.0.ip().to_string(), got),
            other => panic!("{other:?}"),
        }
    }
    session.stop();
}

#[test]
fn a_waiting_accept_holds_nothing_up_and_cancels() {
    let mut session = Session::start();
    let (_service, address) = service();
    let (listener_id, local) = session.peer.listen_anywhere();
    let accept = Request::Accept { listener_id };
    let first = session.peer.send(accept);
    let second = session.peer.send(accept);
    session.peer.connect(address).expect("connects").close();
    // The first is given up; the connection goes to the second.
    let cancel = Request::Cancel { request_id: first };
    assert_eq!(session.peer.ask(cancel), Reply::Done);
    assert_eq!(
        session.peer.reply(first),
        Reply::AcceptErr(Errno::ECANCELED)
    );
    let _client = TcpStream::connect(local).expect("connects");
    session.peer.accepted(second).close();
    // One that was answered already is not answered again.
    let cancel = Request::Cancel { request_id: second };
    assert_eq!(session.peer.ask(cancel), Reply::Done);
    assert_eq!(session.peer.try_reply(second), None);
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn a_slow_connect_holds_nothing_up_and_cancels() {
    let mut session = Session::start();
    let (_socket, _first, full) = full_backlog();
    let slow = session.peer.send(Request::Connect(endpoint(full)));
    let (_service, quick) = service();
    for _ in 0..100 {
        session.peer.connect(quick).expect("connects").close();
    }
    assert_eq!(session.peer.try_reply(slow), None);
    let cancel = Request::Cancel { request_id: slow };
    assert_eq!(session.peer.ask(cancel), Reply::Done);
    assert_eq!(
        session.peer.reply(slow),
        Reply::ConnectErr(Errno::ECANCELED)
    );
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn stale_ids_are_told_from_their_successors() {
    let mut session = Session::start();
    let (old, _) = session.peer.listen_anywhere();
    let close = Request::CloseListener { listener_id: old };
    let pending = session.peer.send(Request::Accept { listener_id: old });
    assert_eq!(session.peer.ask(close), Reply::Done);
    assert_eq!(session.peer.reply(pending), Reply::AcceptErr(Errno::EBADF));
    assert_eq!(session.peer.ask(close), Reply::Failed(Errno::EBADF));
    let (new, _) = session.peer.listen_anywhere();
    assert_ne!(old, new);
    let accept = Request::Accept { listener_id: old };
    assert_eq!(session.peer.ask(accept), Reply::AcceptErr(Errno::EBADF));

    let (_service, address) = service();
    let stream = session.peer.connect(address).expect("connects");
    let id = stream.id;
    stream.close();
    session.expect_no_pipes();
    let stream = session.peer.connect(address).expect("connects");
    assert_ne!(stream.id, id);
    let ask = Request::Addresses(Target::Connection(id));
    assert_eq!(session.peer.ask(ask), Reply::Failed(Errno::EBADF));
    stream.close();
    session.stop();
}

#[test]
fn a_request_id_used_twice_is_answered_twice_and_the_oldest_is_cancelled() {
    let mut session = Session::start();
    let (listener_id, _) = session.peer.listen_anywhere();
    let other = session.peer.listen_anywhere().0;
    session
        .peer
        .send_frame(&Request::Accept { listener_id }.to_frame(500));
    session
        .peer
        .send_frame(&Request::Accept { listener_id: other }.to_frame(500));
    assert_eq!(
        session.peer.ask(Request::Cancel { request_id: 500 }),
        Reply::Done
    );
    assert_eq!(session.peer.reply(500), Reply::AcceptErr(Errno::ECANCELED));
    let close = Request::CloseListener { listener_id: other };
    assert_eq!(session.peer.ask(close), Reply::Done);
    assert_eq!(session.peer.reply(500), Reply::AcceptErr(Errno::EBADF));
    session.stop();
}

#[test]
fn names_and_both_families_connect() {
    let mut session = Session::start();
    let (service4, v4) = service();
    let service6 = TcpListener::bind("[::1]:0").expect("IPv6 loopback");
    let v6 = service6.local_addr().expect("an address");
    let name = |text: &str, port| Request::ConnectName {
        port,
        name: Name::new(text).expect("a name"),
    };
    let requests = [
        (Request::ConnectTo(Address(v4)), v4),
        (Request::ConnectTo(Address(v6)), v6),
        (name("localhost", v4.port()), v4),
        (name("::1", v6.port()), v6),
        (name("127.0.0.1", v4.port()), v4),
    ];
    for (request, wanted) in requests {
        match session.peer.ask(request) {
            Reply::Connected { ready, local, peer } => {
                assert_eq!(peer.0, wanted);
                let service = if wanted == v4 { &service4 } else { &service6 };
                let (_, from) = service.accept().expect("accepts");
                assert_eq!(local.0, from);
                let target = Target::Connection(ready.connection_id);
                let addresses = session.peer.ask(Request::Addresses(target));
                let peer = Some(peer);
                assert_eq!(addresses, Reply::AddressesOk { local, peer });
                session.peer.join(&ready).close();
            }
            other => panic!("{request:?}: {other:?}"),
        }
    }
    let unknown = session.peer.ask(name("no-such-host.invalid", 80));
    assert_eq!(unknown, Reply::ConnectErr(Errno(2)));
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn names_are_resolved_without_a_connect() {
    let mut session = Session::start();
    let mut resolve = |text: &str| {
        let name = Name::new(text).expect("a name");
        session.peer.ask(Request::Resolve { port: 7, name })
    };
    for (text, wanted) in [("127.0.0.9", "127.0.0.9:7"), ("[::1]", "[::1]:7")] {
        let first = Address(address(wanted));
        assert_eq!(resolve(text), Reply::Resolved { first, other: None });
    }
    match resolve("localhost") {
        Reply::Resolved { first, other } => {
            let found: Vec<SocketAddr> = [Some(first), other]
                .into_iter()
                .flatten()
                .map(|a| a.0)
                .collect();
            assert!(found.contains(&address("127.0.0.1:7")), "{found:?}");
            assert!(found.iter().all(|a| a.ip().is_loopback() && a.port() == 7));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(resolve("no-such-host.invalid"), Reply::Failed(Errno(2)));
    session.expect_no_pipes();
    session.stop();
}

const TERMINATE: i32 = 15;
const HANG_UP: i32 = 1;

fn signals(all: &[i32]) -> Request {
    let signals = all.iter().fold(0, |bits, signal| bits | 1 << signal);
    Request::AwaitSignal { signals }
}

#[test]
fn a_signal_is_the_programs_once_it_has_asked_for_it() {
    let mut session = Session::start();
    assert!(!session.handle.signal(TERMINATE), "nobody has asked");
    let both = session.peer.send(signals(&[TERMINATE, HANG_UP]));
    let one = session.peer.send(signals(&[TERMINATE]));
    // What is in the ring is taken in order.
    let none = session.peer.ask(Request::AwaitSignal { signals: 0 });
    assert_eq!(none, Reply::Failed(Errno::EINVAL));
    for signal in [-1, 0, 2, 9, 31, 32, 64] {
        assert!(!session.handle.signal(signal), "{signal} was not asked for");
    }
    assert!(session.handle.signal(HANG_UP));
    assert_eq!(session.peer.reply(both), Reply::SignalCame { signal: 1 });
    assert_eq!(session.peer.try_reply(one), None);
    // One that nobody waits for is kept for the next.
    assert!(session.handle.signal(HANG_UP));
    assert!(session.handle.signal(TERMINATE));
    assert_eq!(session.peer.reply(one), Reply::SignalCame { signal: 15 });
    let kept = session.peer.ask(signals(&[TERMINATE, HANG_UP]));
    assert_eq!(kept, Reply::SignalCame { signal: 1 });
    session.stop();
}

#[test]
fn a_signal_answers_all_that_wait_for_it() {
    let mut session = Session::start();
    let waiting: Vec<u32> = (0..3)
        .map(|_| session.peer.send(signals(&[TERMINATE])))
        .collect();
    let none = session.peer.ask(Request::AwaitSignal { signals: 1 << 9 });
    assert_eq!(none, Reply::Failed(Errno::EINVAL), "SIGKILL");
    assert!(session.handle.signal(TERMINATE));
    for id in waiting {
        assert_eq!(session.peer.reply(id), Reply::SignalCame { signal: 15 });
    }
    session.stop();
}

#[test]
fn a_wait_for_a_signal_is_given_up_and_the_signal_kept() {
    let mut session = Session::start();
    let waiting = session.peer.send(signals(&[TERMINATE]));
    let cancel = Request::Cancel {
        request_id: waiting,
    };
    assert_eq!(session.peer.ask(cancel), Reply::Done);
    assert_eq!(session.peer.reply(waiting), Reply::Failed(Errno::ECANCELED));
    assert!(session.handle.signal(TERMINATE), "still the program's");
    let next = session.peer.ask(signals(&[TERMINATE]));
    assert_eq!(next, Reply::SignalCame { signal: 15 });
    session.handle.stop();
    session.end();
    assert!(!session.handle.signal(TERMINATE), "the session is over");
}

#[test]
fn brackets_are_for_ipv6_addresses() {
    let mut session = Session::start();
    let (_service4, v4) = service();
    let service6 = TcpListener::bind("[::1]:0").expect("IPv6 loopback");
    let v6 = service6.local_addr().expect("an address");
    let mut connect = |text: &str, port| {
        let name = Name::new(text).expect("a name");
        session.peer.ask(Request::ConnectName { port, name })
    };
    for text in ["[::1]", "::1"] {
        let reply = connect(text, v6.port());
        assert!(
            matches!(reply, Reply::Connected { .. }),
            "{text}: {reply:?}"
        );
    }
    for text in ["[127.0.0.1]", "[127.0.0.1", "127.0.0.1]", "[[127.0.0.1]]"] {
        assert_eq!(
            connect(text, v4.port()),
            Reply::ConnectErr(Errno(2)),
            "{text}"
        );
    }
    for text in ["[::1", "::1]", "[[::1]]", "[]"] {
        assert_eq!(
            connect(text, v6.port()),
            Reply::ConnectErr(Errno(2)),
            "{text}"
        );
    }
    session.stop();
}

#[test]
fn an_accept_tells_both_addresses() {
    let mut session = Session::start();
    let (listener_id, local) = session.peer.listen_anywhere();
    let id = session.peer.send(Request::AcceptFrom { listener_id });
    let client = TcpStream::connect(local).expect("connects");
    match session.peer.reply(id) {
        Reply::Accepted {
            ready,
            local: at,
            peer,
        } => {
            assert_eq!(at.0, local);
            assert_eq!(peer.0, client.local_addr().expect("an address"));
            assert_eq!(ready.listener_id, listener_id);
            session.peer.join(&ready).close();
        }
        other => panic!("{other:?}"),
    }
    let target = Target::Listener(listener_id);
    let wanted = Reply::AddressesOk {
        local: Address(local),
        peer: None,
    };
    assert_eq!(session.peer.ask(Request::Addresses(target)), wanted);
    session.stop();
}

#[test]
fn an_unknown_code_is_answered_after_a_hello() {
    let mut session = Session::start();
    session.peer.hello();
    session.peer.ring();
    let frame = arca_shared::protocol::frame::Frame::build(UNKNOWN_CODE, 900, |_| 3);
    session.peer.send_frame(&frame);
    session.peer.notify_control();
    let wanted = Reply::Unsupported {
        message_type: UNKNOWN_CODE,
    };
    assert_eq!(session.peer.reply(900), wanted);
    session.stop();
}

#[test]
fn a_hello_of_less_gets_less() {
    let mut session = Session::start();
    let hello = Request::Hello {
        version: 7,
        features: feature::ERRNO | 1 << 60,
    };
    let features = feature::ERRNO;
    let wanted = Reply::HelloOk {
        version: 1,
        features,
    };
    assert_eq!(session.peer.ask(hello), wanted);
    session.stop();
}

#[test]
fn limits_are_kept() {
    let mut config = MonitorConfig::default();
    config.limits.connections = 2;
    config.limits.listeners = 1;
    config.limits.accepts = 2;
    let mut session = Session::with(config, common::ARENA);
    let (_service, address) = service();
    let (listener_id, local) = session.peer.listen_anywhere();
    let anywhere = "127.0.0.1:0".parse().expect("an address");
    assert_eq!(session.peer.listen(anywhere), Err(Errno::ENFILE));
    let one = session.peer.connect(address).expect("connects");
    let two = session.peer.connect(address).expect("connects");
    assert_eq!(session.peer.connect(address).err(), Some(Errno::ENFILE));
    let accept = Request::Accept { listener_id };
    let waiting = session.peer.send(accept);
    session.peer.send(accept);
    assert_eq!(session.peer.ask(accept), Reply::AcceptErr(Errno::EAGAIN));
    // The accept waits for a connection to end, and is not lost.
    let mut client = TcpStream::connect(local).expect("connects");
    client.write_all(b"hello").expect("writes");
    assert_eq!(session.peer.connect(address).err(), Some(Errno::ENFILE));
    assert_eq!(session.peer.try_reply(waiting), None);
    one.close();
    let mut stream = session.peer.accepted(waiting);
    assert_eq!(stream.read_exact(5), b"hello");
    stream.close();
    two.close();
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn a_full_arena_delays_accepts_and_fails_connects() {
    let config = MonitorConfig {
        pipe_sizes: PipeSizes {
            largest: 256 << 10,
            smallest: 256 << 10,
        },
        ..MonitorConfig::default()
    };
    let mut session = Session::with(config, 1 << 20);
    let (_service, address) = service();
    let mut streams = Vec::new();
    loop {
        match session.peer.connect(address) {
            Ok(stream) => streams.push(stream),
            Err(errno) => {
                assert_eq!(errno, Errno::ENOBUFS);
                break;
            }
        }
    }
    assert!(!streams.is_empty());
    let (listener_id, local) = session.peer.listen_anywhere();
    let waiting = session.peer.send(Request::Accept { listener_id });
    let _client = TcpStream::connect(local).expect("connects");
    assert_eq!(session.peer.connect(address).err(), Some(Errno::ENOBUFS));
    assert_eq!(session.peer.try_reply(waiting), None);
    streams.pop().expect("one").close();
    session.peer.accepted(waiting).close();
    for stream in streams {
        stream.close();
    }
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn replies_that_are_not_read_hold_requests_back_and_lose_none() {
    // A small arena has a small control pipe.
    let mut session = Session::with(MonitorConfig::default(), 1 << 20);
    let target = Target::Connection(1);
    let option = SocketOption::NoDelay as u8;
    let request = Request::GetOption { target, option };
    let mut ids = Vec::new();
    let mut served = 0;
    until("requests to be held back", || {
        let before = served;
        while request
            .to_frame(ids.len() as u32 + 1)
            .put(session.peer.control.outgoing())
            .is_ok()
        {
            ids.push(ids.len() as u32 + 1);
        }
        // A turn that began after the ring was filled has found it so.
        let turns = session.handle.stats().epoll_turns;
        until("a whole turn", || {
            (session.handle.stats().epoll_turns >= turns + 2).then_some(())
        });
        served = session.handle.stats().frames_in;
        (served == before).then_some(())
    });
    assert!((served as usize) < ids.len());
    for id in ids {
        assert_eq!(session.peer.reply(id), Reply::Failed(Errno::EBADF));
    }
    session.stop();
}
