//! Arca leaves: it closes both of its ends, or its program has ended.

use super::*;
use arca_shared::ring::Close;
use std::net::Shutdown;
use std::time::Instant;

/// The program ends.
fn leave(world: &mut World) -> TurnOutcome {
    world.connection.orphan();
    world.run()
}

#[test]
fn what_arca_left_unread_resets() {
    for read in [3, 4] {
        let mut world = world(1 << 20);
        world.peer.write_all(b"four").expect("open");
        world.arrived(4);
        assert_eq!(world.on(EpollFlags::EPOLLIN), TurnOutcome::Idle);
        assert_eq!(world.arca.read(&mut [0; 9][..read]), Ok(read));
        assert_eq!(leave(&mut world), TurnOutcome::Closed);
        let expected = match read {
            3 => Err(std::io::ErrorKind::ConnectionReset),
            _ => Ok(Vec::new()),
        };
        assert_eq!(rest(&mut world), expected, "{read} bytes were read");
    }
}

#[test]
fn data_that_comes_while_arca_leaves_resets() {
    for late in [true, false] {
        let mut world = world(1 << 20);
        world.connection.ready.writable = false;
        world.arca.write(b"last").expect("room");
        assert_eq!(
            leave(&mut world),
            TurnOutcome::Idle,
            "ring A is not drained"
        );
        assert_eq!(world.connection.undelivered(), 4);
        assert!(world.arca.is_peer_write_closed());
        if late {
            world.peer.write_all(b"late").expect("open");
            world.arrived(4);
            assert_eq!(world.on(EpollFlags::EPOLLIN), TurnOutcome::Closed);
            let end = rest(&mut world);
            assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
        } else {
            assert_eq!(world.on(EpollFlags::EPOLLIN), TurnOutcome::Idle);
            assert_eq!(world.on(EpollFlags::EPOLLOUT), TurnOutcome::Closed);
            assert_eq!(rest(&mut world), Ok(b"last".to_vec()));
        }
    }
}

#[test]
fn a_draft_peer_that_sets_both_flags_leaves_in_order() {
    let mut world = world(1 << 20);
    world.peer.write_all(b"unread").expect("open");
    world.arrived(6);
    assert_eq!(world.on(EpollFlags::EPOLLIN), TurnOutcome::Idle);
    world.connection.ready.writable = false;
    world.arca.write(b"last").expect("room");
    world.arca.close_write();
    world.arca.close_read();
    assert_eq!(world.run(), TurnOutcome::Idle);
    world.peer.write_all(b"late").expect("open");
    world.arrived(4);
    assert_eq!(world.on(EpollFlags::EPOLLIN), TurnOutcome::Idle);
    assert!(world.connection.socket().is_some(), "not reset");
    assert_eq!(world.relay.stats.reset, 0);
}

#[test]
fn one_end_that_stays_open_keeps_the_pipe() {
    let mut first = world(1 << 20);
    first.arca.close_write();
    assert_eq!(first.run(), TurnOutcome::Idle);
    assert!(first.connection.socket().is_some());
    first.connection.end_session(&mut first.relay);
    assert_eq!(first.run(), TurnOutcome::Idle, "Arca still reads");
    first.arca.close_read();
    assert_eq!(first.run(), TurnOutcome::Closed);

    let mut second = world(1 << 20);
    second.arca.close_read();
    assert_eq!(second.run(), TurnOutcome::Idle);
    assert!(second.connection.socket().is_some());
    second.connection.end_session(&mut second.relay);
    assert_eq!(second.run(), TurnOutcome::Idle, "Arca still writes");
    second.arca.close_write();
    assert_eq!(second.run(), TurnOutcome::Closed);
}

#[test]
fn data_that_came_just_before_arca_left_resets() {
    let mut world = world(1 << 20);
    world.connection.ready.writable = false;
    world.arca.write(b"last").expect("room");
    world.peer.write_all(b"late").expect("open");
    world.arrived(4);
    world.connection.on_events(EpollFlags::EPOLLIN);
    assert_eq!(leave(&mut world), TurnOutcome::Closed);
    let end = rest(&mut world);
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
}

#[test]
fn a_program_that_ends_leaves_whichever_end_it_had_closed() {
    let ends: [fn(&mut BidirectionalPipe); 2] = [
        |arca| arca.close_write(),
        |arca| {
            arca.close_read();
        },
    ];
    for close in ends {
        let mut world = world(1 << 20);
        world.peer.write_all(b"unread").expect("open");
        world.arrived(6);
        assert_eq!(world.on(EpollFlags::EPOLLIN), TurnOutcome::Idle);
        close(&mut world.arca);
        assert_eq!(world.run(), TurnOutcome::Idle, "one end is open");
        assert_eq!(world.relay.stats.reset, 0);
        assert_eq!(leave(&mut world), TurnOutcome::Closed);
        assert_eq!(world.relay.stats.reset, 1, "bytes are unread");
    }
}

#[test]
fn a_close_of_either_end_says_how_both_are_meant() {
    for (writer, reader, resets) in [
        (Close::Shutdown, Close::Shutdown, false),
        (Close::Shutdown, Close::Connection, true),
        (Close::Connection, Close::Shutdown, true),
        (Close::Connection, Close::Connection, true),
    ] {
        let mut world = world(1 << 20);
        world.relay.said_hello = true;
        world.peer.write_all(b"unread").expect("open");
        world.arrived(6);
        assert_eq!(world.on(EpollFlags::EPOLLIN), TurnOutcome::Idle);
        world.arca.outgoing().close_by(writer);
        world.arca.incoming().close_by(reader);
        assert_eq!(world.run(), TurnOutcome::Closed);
        let reset = world.relay.stats.reset > 0;
        assert_eq!(reset, resets, "{writer:?}, {reader:?}");
    }
}

#[test]
fn what_was_shut_down_is_delivered_whatever_linger_says_of_a_close() {
    // Once with the end of the peer's stream received, and once without.
    for ended in [true, false] {
        let mut world = world(1 << 20);
        world.relay.said_hello = true;
        world.connection.linger = 1;
        if ended {
            world.peer.shutdown(Shutdown::Write).expect("open");
            let deadline = Instant::now() + Duration::from_secs(20);
            while world.connection.downlink == Downlink::Open {
                assert!(Instant::now() < deadline, "no end arrives");
                world.on(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP);
            }
        }
        assert_eq!(world.connection.peer_ended, ended);
        world.arca.write(b"last").expect("room");
        world.arca.outgoing().close_by(Close::Shutdown);
        world.arca.incoming().close_by(Close::Shutdown);
        assert_eq!(world.run(), TurnOutcome::Closed);
        assert_eq!(rest(&mut world), Ok(b"last".to_vec()), "ended: {ended}");
        assert_eq!(world.relay.stats.reset, 0);
    }
}

#[test]
fn an_arca_that_reads_no_more_has_not_left() {
    let mut world = world(1 << 20);
    world.arca.close_read();
    assert_eq!(world.run(), TurnOutcome::Idle);
    // What comes now is dropped, and Arca goes on to write.
    world.peer.write_all(b"late").expect("open");
    world.arrived(4);
    assert_eq!(world.on(EpollFlags::EPOLLIN), TurnOutcome::Idle);
    world.arca.write(b"more").expect("room");
    assert_eq!(world.run(), TurnOutcome::Idle);
    let mut bytes = [0; 4];
    world.peer.read_exact(&mut bytes).expect("not reset");
    assert_eq!(&bytes, b"more");
    assert_eq!(world.relay.stats.reset, 0);
}

#[test]
fn the_kernel_bounds_a_wait_for_the_peer_once_arca_has_left() {
    let limit = |world: &World| {
        let socket = world.connection.socket().expect("open");
        socket.tcp_user_timeout().expect("a socket")
    };
    let mut world = world(1 << 20);
    world.connection.ready.writable = false;
    world.arca.write(b"last").expect("room");
    assert_eq!(world.run(), TurnOutcome::Idle);
    assert_eq!(limit(&world), None, "Arca waits itself");
    assert_eq!(leave(&mut world), TurnOutcome::Idle);
    assert_eq!(limit(&world), Some(world.relay.orphan_timeout));
}

#[test]
fn a_pipe_outlives_the_streams_until_its_socket_is_closed() {
    let mut world = world(1 << 20);
    world.connection.uplink = Uplink::Done;
    world.connection.downlink = Downlink::Done;
    world.arca.close_write();
    world.arca.close_read();
    assert!(!world.connection.is_over());
    assert_eq!(world.run(), TurnOutcome::Closed);
}
