//! Sessions and listeners: what is asked of the monitor, and what its answers
//! mean.

use super::*;
use crate::ring::RingError;

#[test]
fn a_session_says_hello_and_rings() {
    let peer = Peer::simple();
    let _session = ArcaSession::open(&peer.reactor, peer.control).expect("a place");
    let hello = Request::Hello {
        version: 1,
        features: 0b111_1111,
    };
    assert_eq!(peer.requests(), [(1, hello)]);
    assert_eq!(peer.hal.events(), [Event::Doorbell]);
}

#[test]
fn a_session_keeps_its_reactor() {
    let peer = Peer::simple();
    assert!(Arc::ptr_eq(peer.session().reactor(), &peer.reactor));
}

#[test]
fn a_connection_has_the_addresses_that_the_monitor_told() {
    let Connected { peer, stream, .. } = connected(64);
    assert_eq!(stream.local_addr(), LOCAL.into());
    assert_eq!(stream.peer_addr(), REMOTE.into());
    assert_eq!(peer.requests(), []);
    let stream = stream.into_async();
    assert_eq!(stream.local_addr(), LOCAL.into());
    assert_eq!(stream.peer_addr(), REMOTE.into());
}

#[test]
fn a_connect_fails_with_what_the_monitor_says() {
    let peer = Peer::simple();
    let session = peer.session();
    let request = Request::ConnectTo(address(REMOTE));
    for (reply, error) in [
        (
            Reply::ConnectErr(Errno::ECONNREFUSED),
            Errno::ECONNREFUSED.into(),
        ),
        (Reply::Failed(Errno::EACCES), Errno::EACCES.into()),
        (
            Reply::Unsupported { message_type: 19 },
            Errno::ENOSYS.into(),
        ),
        (
            Reply::Done,
            Error::Protocol("a reply does not belong to its request"),
        ),
    ] {
        answer(&peer, request, reply);
        assert_eq!(session.connect(remote()).err(), Some(error));
    }
    let (mut place, _) = peer.pipe(64);
    place.shm_offset = u64::MAX - 7;
    answer(&peer, request, Peer::connected(place));
    assert_eq!(
        session.connect(remote()).err(),
        Some(Error::Protocol("a pipe's place is not in the arena"))
    );
}

#[test]
fn a_connect_is_given_up_when_its_time_has_passed() {
    let peer = Peer::simple();
    let session = peer.session();
    let zero = session.connect_timeout(remote(), Duration::ZERO);
    assert_eq!(zero.err(), Some(Errno::EINVAL.into()));
    assert_eq!(peer.requests(), []);
    peer.hal.clock.store(7, Ordering::Relaxed);
    let late = session.connect_timeout(remote(), Duration::from_nanos(50));
    assert_eq!(late.err(), Some(Errno::ETIMEDOUT.into()));
    assert_eq!(peer.hal.events(), [Event::Park(Some(57))]);
    assert_eq!(
        peer.requests(),
        [
            (2, Request::ConnectTo(address(REMOTE))),
            (0, Request::Cancel { request_id: 2 }),
        ]
    );
    let (place, _theirs) = peer.pipe(64);
    answer(
        &peer,
        Request::ConnectTo(address(REMOTE)),
        Peer::connected(place),
    );
    let in_time = session.connect_timeout(remote(), Duration::MAX);
    assert_eq!(in_time.map(|stream| stream.peer_addr()), Ok(remote()));
}

#[test]
fn a_host_is_connected_to_by_name() {
    let peer = Peer::simple();
    let session = peer.session();
    let name = Name::new("host").expect("a name");
    let (place, _theirs) = peer.pipe(64);
    answer(
        &peer,
        Request::ConnectName { port: 80, name },
        Peer::connected(place),
    );
    let stream = session.connect_name("host", 80);
    assert_eq!(stream.map(|stream| stream.peer_addr()), Ok(remote()));
    assert_eq!(
        session.connect_name("", 80).err(),
        Some(Errno::EINVAL.into())
    );
    assert_eq!(peer.requests(), []);
}

#[test]
fn a_host_is_resolved_by_its_name() {
    let peer = Peer::simple();
    let session = peer.session();
    let name = Name::new("host").expect("a name");
    let request = Request::Resolve { port: 80, name };
    let (first, other) = (address(REMOTE), Some(address(LOCAL)));
    answer(&peer, request, Reply::Resolved { first, other });
    let resolved = session.resolve("host", 80);
    assert_eq!(resolved, Ok((REMOTE.into(), Some(LOCAL.into()))));
    answer(&peer, request, Reply::Failed(Errno::ENOENT));
    assert_eq!(session.resolve("host", 80), os(Errno::ENOENT));
    assert_eq!(session.resolve("", 80), os(Errno::EINVAL));
    let message_type = request.code();
    answer(&peer, request, Reply::Unsupported { message_type });
    assert_eq!(session.resolve("host", 80), os(Errno::ENOSYS));
}

#[test]
fn a_signal_is_waited_for() {
    let peer = Peer::simple();
    let session = peer.session();
    let request = Request::AwaitSignal { signals: 1 << 15 };
    answer(&peer, request, Reply::SignalCame { signal: 15 });
    let waited = session.reactor().block_on(session.signal(1 << 15));
    assert_eq!(waited, Ok(15));
}

/// A listener with id 5 at [`LOCAL`].
fn listener(peer: &Arc<Peer>, session: &ArcaSession) -> ArcaTcpListener {
    let request = Request::ListenAt {
        address: address(LOCAL),
        backlog: 0,
    };
    let reply = Reply::Listening {
        listener_id: 5,
        local: address(LOCAL),
    };
    answer(peer, request, reply);
    session.bind(LOCAL.into()).expect("binds")
}

#[test]
fn a_listener_is_bound_where_the_monitor_says() {
    let peer = Peer::simple();
    let session = peer.session();
    let bound = listener(&peer, &session);
    assert_eq!(bound.local_addr(), LOCAL.into());
    let request = |backlog| Request::ListenAt {
        address: address(REMOTE),
        backlog,
    };
    answer(&peer, request(0), Reply::ListenErr(Errno::EADDRINUSE));
    let refused = session.bind(remote());
    assert_eq!(refused.err(), Some(Errno::EADDRINUSE.into()));
    answer(&peer, request(9), Reply::Failed(Errno::EACCES));
    let refused = session
        .reactor()
        .block_on(session.bind_with_backlog(remote(), 9));
    assert_eq!(refused.err(), Some(Errno::EACCES.into()));
}

#[test]
fn a_listener_gives_what_comes_in() {
    let peer = Peer::simple();
    let session = peer.session();
    let listener = listener(&peer, &session);
    let request = Request::AcceptFrom { listener_id: 5 };
    let next = |at: usize| {
        let (place, _) = peer.pipe(64);
        answer(&peer, request, Peer::accepted(5, place));
        let (stream, from) = match at {
            0 => listener.accept(),
            1 => session.accept(&listener),
            2 => session.reactor().block_on(listener.accept_async()),
            _ => {
                let stream = listener.incoming().next().expect("without end");
                stream.map(|stream| (stream, remote()))
            }
        }
        .expect("accepts");
        assert_eq!(from, remote());
        assert_eq!(stream.peer_addr(), remote());
        assert_eq!(stream.shm_offset().0, place.shm_offset);
        // It waits before it asks for the next.
        session.reactor().turn();
    };
    (0..4).for_each(next);
    for (reply, error) in [
        (Reply::AcceptErr(Errno::EBADF), Errno::EBADF.into()),
        (Reply::Failed(Errno::EMFILE), Errno::EMFILE.into()),
    ] {
        answer(&peer, request, reply);
        assert_eq!(listener.accept().err(), Some(error));
    }
}

#[test]
fn an_accept_that_may_not_wait_is_cancelled_at_once() {
    let peer = Peer::simple();
    let session = peer.session();
    let listener = listener(&peer, &session);
    listener.set_nonblocking(true);
    let (place, _theirs) = peer.pipe(64);
    for reply in [
        Reply::AcceptErr(Errno::ECANCELED),
        Reply::AcceptErr(Errno::EBADF),
        Peer::accepted(5, place),
    ] {
        let other = peer.clone();
        peer.hal.while_parked(move || {
            let requests = other.requests();
            let id = requests[0].0;
            let cancel = Request::Cancel { request_id: id };
            let accept = Request::AcceptFrom { listener_id: 5 };
            assert_eq!(requests, [(id, accept), (0, cancel)]);
            other.reply(id, reply);
        });
        let accepted = listener.accept().map(|(_, from)| from);
        let expected = match reply {
            Reply::AcceptErr(Errno::ECANCELED) => os(Errno::EAGAIN),
            Reply::AcceptErr(errno) => os(errno),
            _ => Ok(remote()),
        };
        assert_eq!(accepted, expected);
        session.reactor().turn();
    }
    listener.set_nonblocking(false);
    answer(
        &peer,
        Request::AcceptFrom { listener_id: 5 },
        Reply::AcceptErr(Errno::ECANCELED),
    );
    assert_eq!(listener.accept().err(), Some(Errno::ECANCELED.into()));
}

#[test]
fn a_listener_closes_when_dropped() {
    let peer = Peer::simple();
    let session = peer.session();
    let listener = listener(&peer, &session);
    assert_eq!(
        std::format!("{listener:?}"),
        "TcpListener { local: 127.0.0.1:1000, listener: 5 }"
    );
    let other = listener.try_clone();
    drop(listener);
    assert_eq!(peer.requests(), [], "another handle is left");
    assert_eq!(other.local_addr(), LOCAL.into());
    drop(other);
    let close = Request::CloseListener { listener_id: 5 };
    assert_eq!(peer.requests(), [(0, close)]);
}

#[test]
fn an_option_of_a_listener_is_asked_for_by_its_id() {
    let peer = Peer::simple();
    let session = peer.session();
    let listener = listener(&peer, &session);
    let get = |option: SocketOption| Request::GetOption {
        target: Target::Listener(5),
        option: option as u8,
    };
    answer(&peer, get(SocketOption::Ttl), Reply::OptionValue(64));
    assert_eq!(listener.ttl(), Ok(64));
    answer(&peer, get(SocketOption::Ttl), Reply::OptionValue(1 << 40));
    assert_eq!(listener.ttl(), Ok(u32::MAX));
    let set = Request::SetOption {
        target: Target::Listener(5),
        option: SocketOption::Ttl as u8,
        value: 9,
    };
    answer(&peer, set, Reply::Done);
    assert_eq!(listener.set_ttl(9), Ok(()));
    answer(&peer, set, Reply::Failed(Errno::EINVAL));
    assert_eq!(listener.set_ttl(9), os(Errno::EINVAL));
    for (value, on) in [(0, false), (1, true)] {
        answer(&peer, get(SocketOption::NoDelay), Reply::OptionValue(value));
        assert_eq!(listener.nodelay(), Ok(on));
        let set = Request::SetOption {
            target: Target::Listener(5),
            option: SocketOption::NoDelay as u8,
            value,
        };
        answer(&peer, set, Reply::Done);
        assert_eq!(listener.set_nodelay(on), Ok(()));
    }
    answer(&peer, get(SocketOption::Error), Reply::OptionValue(0));
    assert_eq!(listener.take_error(), Ok(None));
    answer(&peer, get(SocketOption::Error), Reply::OptionValue(104));
    assert_eq!(listener.take_error(), Ok(Some(Errno::ECONNRESET.into())));
    answer(&peer, get(SocketOption::Error), Reply::Failed(Errno::EBADF));
    assert_eq!(listener.take_error(), os(Errno::EBADF));
}

#[test]
fn standard_streams_are_pipes_of_their_own() {
    let peer = Peer::simple();
    let (place, mut theirs) = peer.pipe(64);
    let writer = StandardWriter::join(&peer.reactor, place).expect("a place");
    assert_eq!(writer.try_write(&[7; 40]), Ok(40));
    assert_eq!(writer.write_all(&[8; 24]), Ok(()));
    assert_eq!(writer.try_write(&[9; 1]), os(Errno::EAGAIN));
    let mut buffer = [0; 99];
    assert_eq!(theirs.read(&mut buffer), Ok(64));
    assert_eq!(buffer[39..41], [7, 8]);
    let other = peer.clone();
    peer.hal.while_parked(move || {
        assert_eq!(theirs.read(&mut [0; 60]), Ok(60));
        theirs.close_read();
        other.signal(place);
    });
    // The rest is written once there is room, and then nobody reads.
    assert_eq!(writer.write_all(&[7; 65]), os(Errno::EPIPE));
    writer.close();
    assert_eq!(writer.try_write(b"x"), os(Errno::EPIPE));

    let (place, mut theirs) = peer.pipe(64);
    let writer = StandardWriter::join(&peer.reactor, place).expect("a place");
    writer.close();
    assert!(theirs.is_peer_write_closed());

    let (place, mut theirs) = peer.pipe(64);
    let mut reader = StandardReader::join(&peer.reactor, place).expect("a place");
    theirs.write(b"in").expect("room");
    assert_eq!(reader.read(&mut [0; 8]), Ok(2));
    // Nothing was asked for that was there already.
    assert_eq!(theirs.read(&mut buffer), Err(RingError::WouldBlock));
    let other = peer.clone();
    peer.hal.while_parked(move || {
        let mut request = [0; 9];
        assert_eq!(theirs.read(&mut request), Ok(4));
        assert_eq!(request[..4], [7, 0, 0, 0]);
        theirs.outgoing().set_errno(Errno::EISDIR.0);
        theirs.close_write();
        other.signal(place);
    });
    assert_eq!(reader.read(&mut [0; 7]), os(Errno::EISDIR));
    assert_eq!(reader.read(&mut [0; 7]), Ok(0));
}

#[test]
fn a_flush_waits_until_all_is_taken_and_says_why_it_will_not_be() {
    let peer = Peer::simple();
    let (place, mut theirs) = peer.pipe(64);
    let writer = StandardWriter::join(&peer.reactor, place).expect("a place");
    assert_eq!(writer.flush(), Ok(()));
    assert_eq!(writer.write_all(&[7; 40]), Ok(()));
    let other = peer.clone();
    peer.hal.while_parked(move || {
        // Not all of it, then the rest.
        assert_eq!(theirs.read(&mut [0; 39]), Ok(39));
        other.signal(place);
        assert_eq!(theirs.read(&mut [0; 39]), Ok(1));
        other.signal(place);
    });
    assert_eq!(writer.flush(), Ok(()));

    let (place, mut theirs) = peer.pipe(64);
    let writer = StandardWriter::join(&peer.reactor, place).expect("a place");
    assert_eq!(writer.write_all(&[7; 40]), Ok(()));
    let other = peer.clone();
    peer.hal.while_parked(move || {
        theirs.outgoing().set_errno(Errno::ENOSPC.0);
        theirs.close_read();
        other.signal(place);
    });
    assert_eq!(writer.flush(), os(Errno::ENOSPC));
    assert_eq!(writer.flush(), os(Errno::EPIPE));
}
