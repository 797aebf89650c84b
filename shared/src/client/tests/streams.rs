//! Blocking streams.

use super::*;

/// While the caller is parked, does that with the monitor's end and signals it.
fn meanwhile(
    connected: Connected,
    step: impl FnOnce(&mut BidirectionalPipe) + Send + 'static,
) -> (Arc<Peer>, ArcaTcpStream) {
    let Connected {
        peer,
        stream,
        mut theirs,
        ..
    } = connected;
    let (other, place) = (peer.clone(), stream.core.end.place());
    peer.hal.while_parked(move || {
        step(&mut theirs);
        other.signal(place);
    });
    (peer, stream)
}

#[test]
fn a_stream_reads_and_writes() {
    let (_peer, stream) = meanwhile(connected(64), |theirs| {
        let mut buffer = [0; 8];
        assert_eq!(theirs.read(&mut buffer), Ok(3));
        assert_eq!(&buffer[..3], b"out");
        theirs.write(b"back").expect("room");
    });
    assert_eq!(stream.write(b"out"), Ok(3));
    let mut buffer = [0; 8];
    assert_eq!(stream.peek(&mut buffer), Ok(4));
    assert_eq!(&buffer[..4], b"back");
    buffer.fill(0);
    assert_eq!(stream.read(&mut buffer), Ok(4));
    assert_eq!(&buffer[..4], b"back");
}

#[test]
fn a_stream_that_may_not_wait_does_not() {
    let Connected {
        peer,
        stream,
        mut theirs,
        ..
    } = connected(64);
    let other = stream.try_clone();
    other.set_nonblocking(true);
    assert_eq!(stream.read(&mut [0; 8]), os(Errno::EAGAIN));
    assert_eq!(stream.peek(&mut [0; 8]), os(Errno::EAGAIN));
    assert_eq!(stream.write(&[7; 70]), Ok(64));
    assert_eq!(stream.write(&[7; 70]), os(Errno::EAGAIN));
    theirs.write(b"back").expect("room");
    assert_eq!(stream.peek(&mut [0; 8]), Ok(4));
    assert_eq!(stream.read(&mut [0; 8]), Ok(4));
    assert_eq!(peer.hal.events(), []);
    stream.set_nonblocking(false);
    stream
        .set_read_timeout(Some(Duration::from_nanos(5)))
        .expect("not zero");
    assert_eq!(stream.read(&mut [0; 8]), os(Errno::EAGAIN));
    assert_eq!(peer.hal.events(), [Event::Park(Some(5))]);
}

#[test]
fn each_direction_has_a_timeout_of_its_own() {
    let Connected { peer, stream, .. } = connected(64);
    assert_eq!(
        (stream.read_timeout(), stream.write_timeout()),
        (None, None)
    );
    let zero = Some(Duration::ZERO);
    assert_eq!(stream.set_read_timeout(zero), os(Errno::EINVAL));
    assert_eq!(stream.set_write_timeout(zero), os(Errno::EINVAL));
    assert_eq!(
        (stream.read_timeout(), stream.write_timeout()),
        (None, None)
    );
    let (long, short) = (Duration::from_nanos(70), Duration::from_nanos(50));
    assert_eq!(stream.set_read_timeout(Some(long)), Ok(()));
    assert_eq!(stream.set_write_timeout(Some(short)), Ok(()));
    assert_eq!(
        (stream.read_timeout(), stream.write_timeout()),
        (Some(long), Some(short))
    );
    assert_eq!(stream.read(&mut [0; 8]), os(Errno::EAGAIN));
    assert_eq!(peer.hal.events(), [Event::Park(Some(70))]);
    assert_eq!(stream.peek(&mut [0; 8]), os(Errno::EAGAIN));
    assert_eq!(peer.hal.events(), [Event::Park(Some(140))]);
    assert_eq!(stream.write_all(&[7; 70]), os(Errno::EAGAIN));
    assert_eq!(peer.hal.events(), [Event::Park(Some(190))]);
    assert_eq!(stream.set_read_timeout(Some(Duration::MAX)), Ok(()));
    assert_eq!(stream.read_timeout(), Some(Duration::from_nanos(u64::MAX)));
    assert_eq!(stream.set_read_timeout(None), Ok(()));
    assert_eq!(stream.read_timeout(), None);
}

#[test]
fn a_buffer_is_filled_or_the_end_is_unexpected() {
    let mut connected = connected(64);
    connected.theirs.write(b"first ").expect("room");
    let (_peer, stream) = meanwhile(connected, |theirs| {
        theirs.write(b"then the rest").expect("room");
        theirs.close_write();
    });
    let mut buffer = [0; 10];
    assert_eq!(stream.read_exact(&mut []), Ok(()));
    assert_eq!(stream.read_exact(&mut buffer), Ok(()));
    assert_eq!(&buffer, b"first then");
    assert_eq!(stream.read_exact(&mut buffer), Err(Error::UnexpectedEof));
    assert_eq!(&buffer[..9], b" the rest");
}

#[test]
fn all_of_a_buffer_is_written() {
    let (_peer, stream) = meanwhile(connected(64), |theirs| {
        let mut buffer = [0; 99];
        assert_eq!(theirs.read(&mut buffer), Ok(64));
        assert_eq!(buffer[..64], core::array::from_fn::<_, 64, _>(|i| i as u8));
    });
    let bytes: [u8; 70] = core::array::from_fn(|i| i as u8);
    assert_eq!(stream.write_all(&bytes), Ok(()));
    assert_eq!(stream.write_all(&[]), Ok(()));
}

#[test]
fn the_drafts_send_and_recv_close_at_the_end() {
    let Connected {
        stream, mut theirs, ..
    } = connected(64);
    assert_eq!(stream.send(b"sent"), Ok(()));
    assert!(!theirs.is_peer_write_closed());
    theirs.write(b"received").expect("room");
    let mut buffer = [0; 8];
    assert_eq!(stream.recv(&mut buffer), Ok(8));
    assert_eq!(&buffer, b"received");
    assert!(!theirs.is_peer_read_closed(), "the buffer was filled");
    theirs.write(b"end").expect("room");
    theirs.close_write();
    assert_eq!(stream.recv(&mut buffer), Ok(3));
    assert!(theirs.is_peer_read_closed());
    assert!(!theirs.is_peer_write_closed());
    theirs.close_read();
    assert!(stream.send(b"more").is_err());
    assert!(theirs.is_peer_write_closed());
}

#[test]
fn a_send_that_may_be_tried_again_closes_nothing() {
    let Connected {
        stream, mut theirs, ..
    } = connected(64);
    stream.set_nonblocking(true);
    assert_eq!(stream.send(&[7; 70]), os(Errno::EAGAIN));
    assert!(!theirs.is_peer_write_closed());
}

#[test]
fn what_is_shut_down_is_closed_and_nothing_else() {
    for (how, read, write) in [
        (Shutdown::Read, true, false),
        (Shutdown::Write, false, true),
        (Shutdown::Both, true, true),
    ] {
        let Connected {
            stream, mut theirs, ..
        } = connected(64);
        assert_eq!(stream.shutdown(how), Ok(()));
        assert_eq!(theirs.is_peer_read_closed(), read);
        assert_eq!(theirs.is_peer_write_closed(), write);
        drop(stream);
        assert_eq!(theirs.incoming().errno(), 0);
    }
}

/// Ends a connection with a reset, as the monitor does.
fn reset(theirs: &mut BidirectionalPipe) {
    theirs.outgoing().set_errno(Errno::ECONNRESET.0);
    theirs.close_write();
    theirs.close_read();
}

#[test]
fn a_failed_connection_is_not_connected() {
    let Connected {
        stream, mut theirs, ..
    } = connected(64);
    assert_eq!(stream.take_error(), None);
    reset(&mut theirs);
    assert_eq!(stream.shutdown(Shutdown::Both), os(Errno::ENOTCONN));
    let stream = stream.into_async();
    assert_eq!(stream.shutdown(Shutdown::Both), os(Errno::ENOTCONN));
    let stream = stream.into_sync();
    assert_eq!(stream.take_error(), Some(Errno::ECONNRESET));
    assert_eq!(stream.take_error(), None);
}

#[test]
fn an_abort_resets() {
    for through in [0, 1] {
        let Connected {
            stream, mut theirs, ..
        } = connected(64);
        match through {
            0 => stream.abort(),
            _ => stream.into_async().abort(),
        }
        assert!(theirs.is_peer_read_closed() && theirs.is_peer_write_closed());
        assert_eq!(theirs.incoming().errno(), Errno::ECONNRESET.0);
    }
}

#[test]
fn a_connection_lives_as_long_as_any_handle() {
    let Connected {
        stream, mut theirs, ..
    } = connected(64);
    let other = stream.try_clone();
    drop(stream);
    assert!(!theirs.is_peer_write_closed());
    drop(other);
    assert!(theirs.is_peer_write_closed() && theirs.is_peer_read_closed());
}

/// Asks for the value of an option, and answers.
fn get<T>(
    connected: &Connected,
    option: SocketOption,
    value: u64,
    ask: impl FnOnce(&ArcaTcpStream) -> T,
) -> T {
    let request = Request::GetOption {
        target: Target::Connection(77),
        option: option as u8,
    };
    answer(&connected.peer, request, Reply::OptionValue(value));
    ask(&connected.stream)
}

/// Sets options to these values, one after the other, and each is done.
fn set(
    connected: &Connected,
    options: &[(SocketOption, u64)],
    ask: impl FnOnce(&ArcaTcpStream) -> Result<(), Error>,
) {
    for &(option, value) in options {
        let request = Request::SetOption {
            target: Target::Connection(77),
            option: option as u8,
            value,
        };
        answer(&connected.peer, request, Reply::Done);
    }
    assert_eq!(ask(&connected.stream), Ok(()));
}

#[test]
fn options_are_those_of_the_connection() {
    use SocketOption::{KeepAlive, KeepIdle, Linger, NoDelay, Ttl};
    let c = connected(64);
    assert_eq!(get(&c, NoDelay, 0, |s| s.nodelay()), Ok(false));
    assert_eq!(get(&c, NoDelay, 1, |s| s.nodelay()), Ok(true));
    assert_eq!(get(&c, NoDelay, 4, |s| s.nodelay()), Ok(true));
    assert_eq!(get(&c, Ttl, 64, |s| s.ttl()), Ok(64));
    assert_eq!(get(&c, Ttl, 1 << 40, |s| s.ttl()), Ok(u32::MAX));
    assert_eq!(get(&c, Linger, 9, |s| s.option(Linger)), Ok(9));
    assert_eq!(get(&c, Linger, 0, |s| s.linger()), Ok(None));
    let seconds = get(&c, Linger, 9, |s| s.linger());
    assert_eq!(seconds, Ok(Some(Duration::from_secs(8))));
    assert_eq!(get(&c, KeepAlive, 0, |s| s.keepalive()), Ok(None));
    let request = Request::GetOption {
        target: Target::Connection(77),
        option: KeepAlive as u8,
    };
    answer(&c.peer, request, Reply::OptionValue(1));
    let idle = get(&c, KeepIdle, 30, |s| s.keepalive());
    assert_eq!(idle, Ok(Some(Duration::from_secs(30))));
}

#[test]
fn options_are_set_as_the_wire_says_them() {
    use SocketOption::{KeepAlive, KeepIdle, Linger, NoDelay, Ttl};
    let seconds = |seconds| Some(Duration::from_secs_f64(seconds));
    let c = connected(64);
    set(&c, &[(NoDelay, 1)], |s| s.set_nodelay(true));
    set(&c, &[(NoDelay, 0)], |s| s.set_nodelay(false));
    set(&c, &[(Ttl, 9)], |s| s.set_ttl(9));
    set(&c, &[(Linger, 5)], |s| s.set_option(Linger, 5));
    set(&c, &[(Linger, 0)], |s| s.set_linger(None));
    set(&c, &[(Linger, 1)], |s| s.set_linger(seconds(0.0)));
    set(&c, &[(Linger, 31)], |s| s.set_linger(seconds(30.9)));
    set(&c, &[(KeepAlive, 0)], |s| s.set_keepalive(None));
    let idle = [(KeepIdle, 30), (KeepAlive, 1)];
    set(&c, &idle, |s| s.set_keepalive(seconds(30.9)));
    let idle = [(KeepIdle, 1), (KeepAlive, 1)];
    set(&c, &idle, |s| s.set_keepalive(seconds(0.1)));
    let request = Request::SetOption {
        target: Target::Connection(77),
        option: Ttl as u8,
        value: 0,
    };
    answer(&c.peer, request, Reply::Failed(Errno::EINVAL));
    assert_eq!(c.stream.set_ttl(0), os(Errno::EINVAL));
    answer(&c.peer, request, Reply::OptionValue(1));
    assert_eq!(
        c.stream.set_ttl(0),
        Err(Error::Protocol("a reply does not belong to its request"))
    );
}
