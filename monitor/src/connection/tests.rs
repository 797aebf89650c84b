//! Tests of a connection, turn by turn: the test is the peer, Arca and epoll.

use super::*;
use crate::testing::test_arena;
use crate::wake::notifier::{GuestNotifier, VcpuWaker};
use crate::wake::policy::WakePolicy;
use arca_shared::memory::BuddyAllocator;
use arca_shared::pipe::{RingSize, Side};
use arca_shared::ring::Arm;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

mod ending;
mod leaving;

struct Nobody;

impl VcpuWaker for Nobody {
    fn wake(&self, _: usize) {}
}

/// Capacity of the rings, in bytes.
const CAPACITY: usize = 4072;

struct World {
    relay: Relay,
    connection: Connection,
    arca: BidirectionalPipe,
    peer: TcpStream,
}

/// A connection on the loopback, whose turns have that budget.
fn world(budget: usize) -> World {
    world_with(budget, CAPACITY)
}

/// As [`world`], with rings of that capacity.
fn world_with(budget: usize, capacity: usize) -> World {
    let allocator = BuddyAllocator::new(test_arena(1 << 20));
    let notifier =
        GuestNotifier::new(&allocator, Arc::new(Nobody), 1).expect("a fresh arena has room");
    let (policy, timeout) = (WakePolicy::new(Duration::ZERO), Duration::from_secs(60));
    let relay = Relay::new(Arc::new(notifier), policy, budget, timeout);
    let size = RingSize::new(capacity as u64).expect("tests ask for sizes that rings have");
    let region = PipeRegion::allocate(&allocator, size).expect("a fresh arena has room");
    let join = |side| BidirectionalPipe::join(allocator.arena(), region.place(), side);
    let [ours, arca] = [Side::B, Side::A].map(|side| join(side).expect("it was made just now"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("the host has a free port");
    let address = listener.local_addr().expect("it is bound");
    let socket = TcpStream::connect(address).expect("somebody listens there");
    socket.set_nonblocking(true).expect("it is open");
    let (peer, _) = listener.accept().expect("a client has connected");
    let timeout = Some(Duration::from_secs(20));
    peer.set_read_timeout(timeout)
        .expect("it is open, and the time is not zero");
    World {
        relay,
        connection: Connection::new(7, socket.into(), ours, region, false),
        arca,
        peer,
    }
}

impl World {
    fn run(&mut self) -> TurnOutcome {
        self.connection.run(&mut self.relay)
    }

    /// Reports these events, and gives the connection its turn.
    fn on(&mut self, events: EpollFlags) -> TurnOutcome {
        self.connection.on_events(events);
        self.run()
    }

    /// Waits until the kernel has something for the connection to read.
    fn arrived(&self, len: usize) {
        let socket = self
            .connection
            .socket()
            .expect("tests ask before it is closed");
        let mut buffer = vec![std::mem::MaybeUninit::uninit(); len];
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while socket.peek(&mut buffer).unwrap_or(0) < len {
            assert!(std::time::Instant::now() < deadline, "nothing arrives");
            std::thread::yield_now();
        }
    }

    /// Whether the guest was notified since the last time.
    fn told(&mut self) -> bool {
        let mut told = false;
        let area = self.relay.notifier.area().clone();
        area.to_guest().take(|_| told = true);
        told
    }
}

#[test]
fn what_epoll_says_is_remembered() {
    use EpollFlags as E;
    for (events, readable, writable, read_until_eof, failed) in [
        (E::empty(), false, false, false, false),
        (E::EPOLLIN, true, false, false, false),
        (E::EPOLLOUT, false, true, false, false),
        (E::EPOLLPRI, false, false, true, false),
        (E::EPOLLRDHUP, true, false, true, false),
        (E::EPOLLHUP, true, true, true, false),
        (E::EPOLLERR, true, true, true, true),
        (E::EPOLLIN | E::EPOLLOUT, true, true, false, false),
        (E::EPOLLIN | E::EPOLLRDHUP, true, false, true, false),
        (E::EPOLLHUP | E::EPOLLERR, true, true, true, true),
        (
            E::EPOLLIN | E::EPOLLPRI | E::EPOLLRDHUP,
            true,
            false,
            true,
            false,
        ),
    ] {
        let mut world = world(1 << 20);
        let connection = &mut world.connection;
        assert!(
            connection.ready.writable,
            "a fresh socket can be written to"
        );
        connection.ready.writable = false;
        // Twice, and then nothing: what was said stays.
        for events in [events, events, E::empty()] {
            connection.on_events(events);
            let ready = &connection.ready;
            assert_eq!(
                (
                    ready.readable,
                    ready.writable,
                    ready.read_until_eof,
                    ready.failed
                ),
                (readable, writable, read_until_eof, failed),
                "{events:?}"
            );
        }
    }
}

#[test]
fn bytes_go_through_and_are_counted() {
    let mut world = world(1 << 20);
    assert_eq!(world.run(), TurnOutcome::Idle);
    assert_eq!(world.relay.stats.ring_empty, 1);
    world.arca.write(b"to the peer").expect("the ring is empty");
    assert!(
        world.arca.outgoing().should_notify_data(),
        "it was asked for"
    );
    assert_eq!(world.connection.undelivered(), 11);
    assert_eq!(world.run(), TurnOutcome::Idle);
    assert_eq!(world.connection.undelivered(), 0);
    let mut buffer = [0; 11];
    world.peer.read_exact(&mut buffer).expect("bytes");
    assert_eq!(&buffer, b"to the peer");
    assert_eq!(world.relay.stats.bytes_to_tcp, 11);
    world.peer.write_all(b"to arca").expect("open");
    world.arrived(7);
    // Nothing is received before epoll says so.
    assert_eq!(world.run(), TurnOutcome::Idle);
    assert_eq!(world.arca.incoming().available(), Ok(0));
    assert_eq!(world.arca.incoming().arm_data(0), Ok(Arm::Armed));
    assert!(!world.told());
    assert_eq!(world.on(EpollFlags::EPOLLIN), TurnOutcome::Idle);
    assert!(world.told());
    assert_eq!(world.arca.read(&mut buffer), Ok(7));
    assert_eq!(&buffer[..7], b"to arca");
    assert_eq!(world.relay.stats.bytes_from_tcp, 7);
    assert!(!world.connection.ready.readable, "a short count");
    assert_eq!(world.relay.stats.reset, 0);
}

#[test]
fn nothing_is_sent_while_the_socket_takes_nothing() {
    let mut world = world(1 << 20);
    world.connection.ready.writable = false;
    world.arca.write(b"later").expect("room");
    assert_eq!(world.run(), TurnOutcome::Idle);
    assert_eq!(world.relay.stats.bytes_to_tcp, 0);
    assert_eq!(world.on(EpollFlags::EPOLLOUT), TurnOutcome::Idle);
    assert_eq!(world.relay.stats.bytes_to_tcp, 5);
}

#[test]
fn a_turn_moves_no_more_than_its_budget() {
    let mut world = world(1000);
    world.arca.write(&[7; 1700]).expect("room");
    assert_eq!(world.run(), TurnOutcome::MoreToDo);
    assert_eq!(world.relay.stats.bytes_to_tcp, 1000);
    // Less than half a budget is left: it is not used up for a few bytes.
    assert_eq!(world.run(), TurnOutcome::MoreToDo);
    assert_eq!(world.relay.stats.bytes_to_tcp, 1700);
    assert_eq!(world.run(), TurnOutcome::Idle);
    world.peer.write_all(&[8; 1700]).expect("open");
    world.arrived(1700);
    assert_eq!(world.on(EpollFlags::EPOLLIN), TurnOutcome::MoreToDo);
    assert_eq!(world.relay.stats.bytes_from_tcp, 1000);
    assert_eq!(world.run(), TurnOutcome::Idle);
    assert_eq!(world.relay.stats.bytes_from_tcp, 1700);
    // Both directions may want another turn.
    world.arca.write(&[7; 1700]).expect("room");
    world.peer.write_all(&[8; 1700]).expect("open");
    world.arrived(1700);
    assert_eq!(world.on(EpollFlags::EPOLLIN), TurnOutcome::MoreToDo);
}

#[test]
fn a_full_ring_holds_the_socket_back_until_there_is_room() {
    let mut world = world(1 << 20);
    world.peer.write_all(&[8; 5000]).expect("open");
    world.arrived(5000);
    assert_eq!(world.on(EpollFlags::EPOLLIN), TurnOutcome::Idle);
    assert_eq!(world.relay.stats.bytes_from_tcp, CAPACITY as u64);
    assert_eq!(world.relay.stats.ring_full, 1);
    assert!(world.connection.ready.readable);
    assert_eq!(world.arca.read(&mut [0; 3000]), Ok(3000));
    assert!(
        world.arca.incoming().should_notify_room(1),
        "it was asked for"
    );
    assert_eq!(world.run(), TurnOutcome::Idle);
    assert_eq!(world.relay.stats.bytes_from_tcp, 5000);
}

#[test]
fn arca_is_told_of_half_a_ring_of_room() {
    let mut world = world(1 << 20);
    world.connection.ready.writable = false;
    world.arca.write(&[7; CAPACITY]).expect("room");
    assert_eq!(world.arca.outgoing().arm_room(1), Ok(Arm::Armed));
    assert_eq!(world.run(), TurnOutcome::Idle);
    assert!(!world.told());
    assert_eq!(world.on(EpollFlags::EPOLLOUT), TurnOutcome::Idle);
    assert!(world.told());
}

#[test]
fn arca_that_waits_for_room_is_not_told_of_less_than_half_a_ring() {
    let mut world = world(1000);
    world.arca.write(&[7; CAPACITY]).expect("room");
    assert_eq!(world.arca.outgoing().arm_room(1), Ok(Arm::Armed));
    let mut sent = 0;
    for told in [false, false, true] {
        assert_eq!(world.run(), TurnOutcome::MoreToDo);
        sent += 1000;
        assert_eq!(world.relay.stats.bytes_to_tcp, sent);
        assert_eq!(world.told(), told, "{sent} of {CAPACITY} bytes are free");
    }
}

#[test]
fn both_streams_end_in_order() {
    let mut world = world(1 << 20);
    world.arca.write(b"last").expect("room");
    world.arca.close_write();
    assert_eq!(world.run(), TurnOutcome::Idle);
    let mut bytes = Vec::new();
    world.peer.read_to_end(&mut bytes).expect("an end");
    assert_eq!(bytes, b"last");
    assert_eq!(world.connection.uplink, Uplink::Done);
    assert!(world.arca.is_peer_read_closed() && !world.arca.is_peer_write_closed());
    assert!(world.told());
    world.peer.write_all(b"back").expect("open");
    world
        .peer
        .shutdown(std::net::Shutdown::Write)
        .expect("open");
    world.arrived(4);
    let ended = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
    assert_eq!(world.on(ended), TurnOutcome::Idle);
    // A draft peer is notified of the end once it has read everything.
    assert!(!world.arca.is_peer_write_closed());
    assert_eq!(world.arca.read(&mut [0; 9]), Ok(4));
    assert!(world.arca.incoming().should_notify_room(1));
    assert_eq!(world.run(), TurnOutcome::Idle);
    assert!(world.arca.is_peer_write_closed());
    assert!(
        world.connection.socket().is_some(),
        "until Arca reads no more"
    );
    world.arca.close_read();
    assert_eq!(world.run(), TurnOutcome::Closed);
    assert_eq!(world.relay.stats.reset, 0);
    assert_eq!(world.arca.incoming().errno(), 0);
}

#[test]
fn a_peer_that_said_hello_is_told_of_the_end_at_once() {
    let mut world = world(1 << 20);
    world.relay.said_hello = true;
    world.peer.write_all(b"last").expect("open");
    world
        .peer
        .shutdown(std::net::Shutdown::Write)
        .expect("open");
    world.arrived(4);
    let ended = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
    assert_eq!(world.on(ended), TurnOutcome::Idle);
    assert!(world.arca.is_peer_write_closed());
    assert_eq!(world.arca.read(&mut [0; 9]), Ok(4));
}

/// What the peer reads until its end: the bytes, or how it was reset.
fn rest(world: &mut World) -> Result<Vec<u8>, std::io::ErrorKind> {
    let mut bytes = Vec::new();
    let end = world.peer.read_to_end(&mut bytes);
    end.map(|_| bytes).map_err(|error| error.kind())
}

#[test]
fn arca_that_closes_both_ends_leaves_in_order() {
    let mut world = world(1 << 20);
    world.arca.write(b"last").expect("room");
    world.arca.close_write();
    world.arca.close_read();
    assert_eq!(world.run(), TurnOutcome::Closed);
    assert_eq!(rest(&mut world), Ok(b"last".to_vec()));
    assert_eq!(world.relay.stats.reset, 0);
}

#[test]
fn a_socket_with_linger_zero_is_reset() {
    let mut world = world(1 << 20);
    world.connection.linger = 1;
    world.arca.close_write();
    world.arca.close_read();
    assert_eq!(world.run(), TurnOutcome::Closed);
    assert_eq!(rest(&mut world), Err(std::io::ErrorKind::ConnectionReset));
}

#[test]
fn an_abort_sends_what_was_there_and_resets() {
    let mut world = world(1 << 20);
    world.arca.write(b"last").expect("room");
    world.arca.outgoing().set_errno(Errno::ECONNRESET.0);
    world.arca.close_write();
    assert_eq!(world.run(), TurnOutcome::Idle);
    assert!(world.connection.socket().is_none());
    assert_eq!(world.relay.stats.bytes_to_tcp, 4);
    assert_eq!(world.relay.stats.reset, 1);
    assert!(world.arca.is_peer_write_closed() && world.arca.is_peer_read_closed());
    world.arca.close_read();
    assert_eq!(world.run(), TurnOutcome::Closed);
    assert_eq!(rest(&mut world), Err(std::io::ErrorKind::ConnectionReset));
}

#[test]
fn an_errno_without_a_flag_is_no_abort() {
    let mut world = world(1 << 20);
    world.arca.outgoing().set_errno(Errno::ECONNRESET.0);
    assert_eq!(world.run(), TurnOutcome::Idle);
    assert!(world.connection.socket().is_some());
}

#[test]
fn a_peer_that_resets_is_an_errno_for_arca() {
    let world = world(1 << 20);
    socket2::SockRef::from(&world.peer)
        .set_linger(Some(Duration::ZERO))
        .expect("a socket");
    let (mut relay, mut connection, mut arca) = {
        let World {
            relay,
            connection,
            arca,
            peer,
        } = world;
        drop(peer);
        (relay, connection, arca)
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !arca.is_peer_write_closed() {
        connection.on_events(EpollFlags::EPOLLIN | EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
        assert_eq!(connection.run(&mut relay), TurnOutcome::Idle);
        assert!(std::time::Instant::now() < deadline, "no reset");
    }
    assert_eq!(arca.incoming().errno(), Errno::ECONNRESET.0);
    assert!(arca.is_peer_read_closed());
    assert_eq!(relay.stats.reset, 1);
    assert!(connection.socket().is_none());
    // What Arca still writes is dropped, until it closes.
    arca.outgoing().close();
    arca.close_read();
    assert_eq!(connection.run(&mut relay), TurnOutcome::Closed);
}

#[test]
fn a_lie_resets_the_connection_and_is_not_looked_at_again() {
    let mut world = world(1 << 20);
    let place = world.connection.region.place();
    let arena = test_arena_of(&world);
    let cursor = arena
        .from_offset(arca_shared::memory::ShmOffset(place.shm_offset + 8), 8, 8)
        .expect("inside");
    // SAFETY: the write cursor of ring A: inside the arena, aligned, atomic.
    let cursor: &std::sync::atomic::AtomicU64 = unsafe { cursor.cast().as_ref() };
    cursor.store(1 << 40, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(world.run(), TurnOutcome::Idle);
    assert!(world.connection.protocol_error);
    assert_eq!(world.arca.incoming().errno(), Errno::EPROTO.0);
    assert!(world.arca.is_peer_write_closed() && world.arca.is_peer_read_closed());
    assert_eq!(world.relay.stats.reset, 1);
    assert_eq!(
        world.run(),
        TurnOutcome::Idle,
        "Arca has not closed its ends"
    );
    world.arca.close_write();
    world.arca.close_read();
    assert_eq!(world.run(), TurnOutcome::Closed);
    assert_eq!(rest(&mut world), Err(std::io::ErrorKind::ConnectionReset));
    // Everything may have been touched.
    assert_eq!(world.connection.into_region().touched(), 8192);
}

fn test_arena_of(world: &World) -> arca_shared::memory::Arena {
    world.relay.notifier.area().arena().clone()
}

#[test]
fn a_session_that_ends_resets_and_says_so() {
    let mut world = world(1 << 20);
    world.connection.end_session(&mut world.relay);
    assert_eq!(world.arca.incoming().errno(), Errno::ECONNABORTED.0);
    assert!(world.arca.is_peer_write_closed() && world.arca.is_peer_read_closed());
    assert_eq!(rest(&mut world), Err(std::io::ErrorKind::ConnectionReset));
    assert!(world.told());
    assert_eq!(world.relay.stats.reset, 1);
}

#[test]
fn an_arca_that_is_gone_has_closed_both_ends() {
    let mut world = world(1 << 20);
    world.arca.write(b"last").expect("room");
    world.connection.orphan();
    assert_eq!(world.run(), TurnOutcome::Closed);
    assert_eq!(rest(&mut world), Ok(b"last".to_vec()));
}

#[test]
fn a_turn_is_bounded_in_calls() {
    let whole = 256 << 10;
    for (len, calls) in [
        (0, 64),
        (1, 64),
        (CALL, 64),
        (whole / 2, 2),
        (usize::MAX, 1),
    ] {
        let left = std::iter::successors(Some(whole), |&budget| Some(spent(budget, len)));
        let made = left.take_while(|&budget| budget > 0).count();
        assert_eq!(made, calls, "{len}");
    }
}
