//! A connection that is reset, fails, or ends with its session.

use super::*;
use nix::poll::{PollFd, PollFlags, poll};
use std::os::fd::AsFd;

#[test]
fn an_errno_with_both_flags_is_an_abort() {
    let mut world = world(1 << 20);
    world.arca.outgoing().set_errno(Errno::ECONNRESET.0);
    world.arca.close_write();
    world.arca.close_read();
    assert_eq!(world.run(), TurnOutcome::Closed);
    assert_eq!(rest(&mut world), Err(std::io::ErrorKind::ConnectionReset));
    assert_eq!(world.relay.stats.reset, 1);
}

#[test]
fn an_abort_that_comes_while_a_turn_is_under_way_is_one() {
    let mut world = world(1 << 20);
    world.arca.outgoing().set_errno(Errno::ECONNRESET.0);
    world.arca.close_write();
    // The turn began before that.
    let more = world.connection.run_uplink(&mut world.relay);
    assert_eq!(more, Ok(false));
    assert_eq!(rest(&mut world), Err(std::io::ErrorKind::ConnectionReset));
}

#[test]
fn what_an_arca_writes_that_looks_at_no_flag_is_dropped() {
    let mut world = world(1 << 20);
    world.connection.uplink = Uplink::Discarding;
    for _ in 0..3 {
        world.arca.write(&[7; CAPACITY]).expect("room");
        assert_eq!(world.run(), TurnOutcome::Idle);
        assert_eq!(world.arca.outgoing().free(), Ok(CAPACITY));
    }
    assert_eq!(world.relay.stats.bytes_to_tcp, 0);
}

#[test]
fn an_arca_that_only_writes_is_told_that_its_peer_has_reset() {
    let mut world = world(1 << 20);
    world.arca.close_read();
    assert_eq!(world.run(), TurnOutcome::Idle);
    socket2::SockRef::from(&world.peer)
        .set_linger(Some(Duration::ZERO))
        .expect("a socket");
    let World {
        mut relay,
        mut connection,
        mut arca,
        peer,
    } = world;
    drop(peer);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !arca.is_peer_read_closed() {
        connection.on_events(EpollFlags::EPOLLIN | EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
        assert_eq!(connection.run(&mut relay), TurnOutcome::Idle);
        assert!(std::time::Instant::now() < deadline, "no reset");
    }
    assert_eq!(arca.incoming().errno(), Errno::ECONNRESET.0);
    assert_eq!(connection.uplink, Uplink::Discarding);
    assert_eq!(relay.stats.reset, 1);
    arca.close_write();
    assert_eq!(connection.run(&mut relay), TurnOutcome::Closed);
}

#[test]
fn a_session_that_ends_says_so_where_an_end_is_open() {
    type Before = fn(&mut World);
    let befores: [(Before, u32); 4] = [
        (|_| {}, Errno::ECONNABORTED.0),
        (|world| world.arca.close_write(), Errno::ECONNABORTED.0),
        (|world| world.arca.close_read(), Errno::ECONNABORTED.0),
        // Both of the monitor's ends are closed by then.
        (
            |world| {
                world.arca.outgoing().set_errno(Errno::ECONNRESET.0);
                world.arca.close_write();
            },
            0,
        ),
    ];
    for (index, (before, errno)) in befores.into_iter().enumerate() {
        let mut world = world(1 << 20);
        before(&mut world);
        assert_eq!(world.run(), TurnOutcome::Idle);
        world.connection.end_session(&mut world.relay);
        assert_eq!(world.arca.incoming().errno(), errno, "{index}");
        assert!(world.arca.is_peer_write_closed() && world.arca.is_peer_read_closed());
    }
}

#[test]
fn what_went_through_the_rings_is_what_was_touched() {
    let mut world = world_with(1 << 20, (16 << 10) - 24);
    world.arca.write(b"last").expect("room");
    world.arca.close_write();
    world.arca.close_read();
    assert_eq!(world.run(), TurnOutcome::Closed);
    // The beginning of each half of the region.
    assert_eq!(world.connection.into_region().touched(), 2 * 4096);
}

#[test]
fn what_came_before_a_reset_is_read_to_its_end() {
    let mut world = world(1 << 20);
    world.peer.write_all(&[8; 5000]).expect("open");
    world.arrived(5000);
    socket2::SockRef::from(&world.peer)
        .set_linger(Some(Duration::ZERO))
        .expect("a socket");
    let World {
        mut relay,
        mut connection,
        mut arca,
        peer,
    } = world;
    drop(peer);
    let socket = connection.socket().expect("open").as_fd();
    // Nothing but errors is waited for.
    let mut polled = [PollFd::new(socket, PollFlags::empty())];
    assert_eq!(poll(&mut polled, 20_000u16), Ok(1), "no reset");
    connection.on_events(EpollFlags::EPOLLIN | EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
    assert_eq!(connection.run(&mut relay), TurnOutcome::Idle);
    assert_eq!(
        relay.stats.bytes_from_tcp, CAPACITY as u64,
        "ring B is full"
    );
    assert_eq!(arca.incoming().errno(), 0);
    assert_eq!(arca.read(&mut [0; 5000]), Ok(CAPACITY));
    assert_eq!(connection.run(&mut relay), TurnOutcome::Idle);
    assert_eq!(relay.stats.bytes_from_tcp, 5000);
    assert_eq!(arca.incoming().errno(), Errno::ECONNRESET.0);
    assert_eq!(arca.read(&mut [0; 5000]), Ok(5000 - CAPACITY));
}
