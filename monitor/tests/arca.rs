//! The real Arca side, its sleepers played by threads of the host, against the
//! monitor: notification in both directions, sleeping and waking.

mod common;

use arca_monitor::{Link, Monitor, MonitorConfig, MonitorHandle, SessionEnd, VcpuWaker};
use arca_shared::client::hal::Hal;
use arca_shared::client::reactor::Reactor;
use arca_shared::client::{ArcaSession, ArcaTcpStream};
use arca_shared::errno::Errno;
use arca_shared::error::Error;
use common::{digest, pattern, until};
use socket2::SockRef;
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const SLEEPERS: usize = 4;

thread_local! {
    static SLEEPER: Cell<usize> = const { Cell::new(0) };
}

/// Tokens by which sleepers are woken, and the doorbell.
struct Host {
    tokens: [(Mutex<bool>, Condvar); SLEEPERS],
    doorbell: Mutex<Option<std::os::fd::OwnedFd>>,
    began: Instant,
}

impl VcpuWaker for Host {
    fn wake(&self, vcpu: usize) {
        self.kick(vcpu);
    }
}

impl Hal for Host {
    fn ring_doorbell(&self) {
        let doorbell = self.doorbell.lock().expect("not poisoned");
        let doorbell = doorbell.as_ref().expect("set before it is rung");
        nix::unistd::write(doorbell, &1u64.to_ne_bytes()).expect("room in the counter");
    }

    fn current(&self) -> usize {
        SLEEPER.get()
    }

    fn park(&self, deadline: Option<u64>) {
        let (token, given) = &self.tokens[self.current()];
        let left = match deadline {
            // A lost wake-up shows as a test that takes too long.
            None => common::DEADLINE,
            Some(deadline) => Duration::from_nanos(deadline.saturating_sub(self.now())),
        };
        let token = token.lock().expect("not poisoned");
        let (mut token, timeout) = given
            .wait_timeout_while(token, left, |token| !*token)
            .expect("not poisoned");
        assert!(
            deadline.is_some() || !timeout.timed_out(),
            "a wake-up was lost"
        );
        *token = false;
    }

    fn yield_core(&self) {
        std::thread::yield_now();
    }

    fn kick(&self, sleeper: usize) {
        let (token, given) = &self.tokens[sleeper];
        *token.lock().expect("not poisoned") = true;
        given.notify_one();
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }
}

struct World {
    session: ArcaSession,
    handle: MonitorHandle,
    thread: thread::JoinHandle<SessionEnd>,
}

fn world(busy_poll: Duration) -> World {
    world_with(MonitorConfig {
        busy_poll,
        ..MonitorConfig::default()
    })
}

fn world_with(config: MonitorConfig) -> World {
    let host = Arc::new(Host {
        tokens: std::array::from_fn(|_| Default::default()),
        doorbell: Mutex::new(None),
        began: Instant::now(),
    });
    let arena = common::arena(256 << 20);
    let link = Link::new(arena.clone(), host.clone(), SLEEPERS).expect("a link");
    let doorbell = link.doorbell().as_fd().try_clone_to_owned();
    *host.doorbell.lock().expect("not poisoned") = Some(doorbell.expect("a descriptor"));
    let (notify, control) = (link.notify_offset(), link.control());
    let mut monitor = Monitor::new(link, config).expect("a monitor");
    let handle = monitor.handle();
    let thread = thread::spawn(move || monitor.event_loop());
    let reactor = Reactor::new(&arena, notify, host, SLEEPERS).expect("a reactor");
    let session = ArcaSession::open(&reactor, control).expect("a session");
    World {
        session,
        handle,
        thread,
    }
}

impl World {
    fn end(self) {
        until("all pipes to be freed", || {
            (self.handle.stats().pipes_allocated == 0).then_some(())
        });
        self.handle.stop();
        assert_eq!(self.thread.join().expect("no panic"), SessionEnd::Stopped);
    }
}

fn echo_service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            thread::spawn(move || {
                let mut reader = stream.try_clone().expect("a clone");
                std::io::copy(&mut reader, &mut stream).expect("an echo");
                stream.shutdown(Shutdown::Write).expect("connected");
            });
        }
    });
    address
}

fn sleepers(work: impl Fn(usize) + Send + Clone + 'static) {
    let threads: Vec<_> = (0..SLEEPERS)
        .map(|sleeper| {
            let work = work.clone();
            thread::spawn(move || {
                SLEEPER.set(sleeper);
                work(sleeper);
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
}

#[test]
fn four_sleepers_exchange_and_close_many_times() {
    for busy_poll in [Duration::ZERO, Duration::from_micros(50)] {
        let world = world(busy_poll);
        let address = echo_service();
        let session = world.session.clone();
        sleepers(move |sleeper| {
            for round in 0..40 {
                let stream = session.connect(address).expect("connects");
                let sent = pattern(1 + round * 1500, (sleeper * 100 + round) as u64);
                stream.write_all(&sent).expect("writes");
                stream
                    .shutdown(arca_shared::client::Shutdown::Write)
                    .expect("open");
                let mut got = vec![0; sent.len()];
                stream.read_exact(&mut got).expect("reads");
                assert_eq!(digest(&got), digest(&sent));
                assert_eq!(stream.read(&mut [0]).expect("an end"), 0);
            }
        });
        world.end();
    }
}

#[test]
fn a_bulk_transfer_each_way() {
    let world = world(Duration::ZERO);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let sent = pattern(32 << 20, 1);
    let wanted = digest(&sent);
    let service = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accepts");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("reads");
        stream.write_all(&bytes).expect("writes");
    });
    let stream = world.session.connect(address).expect("connects");
    stream.write_all(&sent).expect("writes");
    stream
        .shutdown(arca_shared::client::Shutdown::Write)
        .expect("open");
    let mut got = vec![0; sent.len()];
    stream.read_exact(&mut got).expect("reads");
    assert_eq!(digest(&got), wanted);
    service.join().expect("no panic");
    drop(stream);
    world.end();
}

#[test]
fn sleepers_accept_what_clients_send() {
    let world = world(Duration::from_micros(50));
    let any = "127.0.0.1:0".parse().expect("an address");
    let listener = Arc::new(world.session.bind(any).expect("binds"));
    let address = listener.local_addr();
    let clients: Vec<_> = (0..SLEEPERS as u64)
        .map(|client| {
            thread::spawn(move || {
                for round in 0..40 {
                    let sent = pattern(3000, client * 100 + round);
                    let mut stream = TcpStream::connect(address).expect("connects");
                    stream.write_all(&sent).expect("writes");
                    stream.shutdown(Shutdown::Write).expect("connected");
                    let mut got = Vec::new();
                    stream.read_to_end(&mut got).expect("reads");
                    assert_eq!(digest(&got), digest(&sent));
                }
            })
        })
        .collect();
    let accepting = listener.clone();
    sleepers(move |_| {
        for _ in 0..40 {
            let (stream, _) = accepting.accept().expect("accepts");
            let mut buffer = vec![0; 4096];
            loop {
                match stream.read(&mut buffer).expect("reads") {
                    0 => break,
                    len => stream.write_all(&buffer[..len]).expect("writes"),
                }
            }
        }
    });
    for client in clients {
        client.join().expect("no panic");
    }
    drop(listener);
    world.end();
}

/// Checks that the peer of an accepted connection is the client of that number.
fn is_from(stream: &ArcaTcpStream, client: u8) {
    let mut number = [0];
    stream.read_exact(&mut number).expect("a number");
    assert_eq!(number, [client]);
}

#[test]
fn one_that_accepts_straight_on_has_them_in_order_and_leaves_the_rest_to_be_reset() {
    const CLIENTS: u8 = 12;
    let world = world(Duration::ZERO);
    let any = "127.0.0.1:0".parse().expect("an address");
    let listener = world.session.bind(any).expect("binds");
    let mut clients: Vec<TcpStream> = (0..CLIENTS)
        .map(|client| {
            let mut stream = TcpStream::connect(listener.local_addr()).expect("connects");
            // Of those that are left, some have said nothing that would be unread.
            if client < CLIENTS / 2 {
                stream.write_all(&[client]).expect("connected");
            }
            stream
        })
        .collect();
    let mut taken: Vec<ArcaTcpStream> = (0..2)
        .map(|_| listener.accept().expect("accepts").0)
        .collect();
    // The second was asked for without a wait: those behind it are asked for ahead.
    until("all of them to be accepted", || {
        (world.handle.stats().connections == u64::from(CLIENTS)).then_some(())
    });
    taken.push(listener.accept().expect("accepts").0);
    for (stream, client) in taken.iter().zip(0..) {
        is_from(stream, client);
    }
    drop(listener);
    for client in &mut clients[taken.len()..] {
        client
            .set_read_timeout(Some(common::DEADLINE))
            .expect("set");
        let end = client.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
    }
    for (stream, client) in taken.iter().zip(&mut clients) {
        stream.write_all(b"x").expect("connected");
        client.read_exact(&mut [0]).expect("connected");
    }
    assert_eq!(world.handle.stats().connections, taken.len() as u64);
    drop(taken);
    world.end();
}

#[test]
fn accepts_ahead_take_no_place_that_another_needs() {
    let mut config = MonitorConfig::default();
    config.limits.accepts = 3;
    let world = world_with(config);
    let any = "127.0.0.1:0".parse().expect("an address");
    let [one, other] = [(); 2].map(|()| world.session.bind(any).expect("binds"));
    for _ in 0..3 {
        let clients =
            [&one, &one, &other].map(|l| TcpStream::connect(l.local_addr()).expect("connects"));
        // The second has others sent ahead, of which most are refused.
        let taken = [&one, &one, &other].map(|listener| listener.accept().expect("accepts").0);
        for (stream, mut client) in taken.iter().zip(clients) {
            client.write_all(b"x").expect("connected");
            is_from(stream, b'x');
        }
    }
    drop((one, other));
    world.end();
}

/// An end whose peer has written "last words" and has then reset the connection.
fn after_a_reset(world: &World) -> ArcaTcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let stream = world.session.connect(address).expect("connects");
    let (mut host, _) = listener.accept().expect("accepts");
    let before = world.handle.stats().bytes_from_tcp;
    host.write_all(b"last words").expect("writes");
    until("the bytes to be relayed", || {
        (world.handle.stats().bytes_from_tcp == before + 10).then_some(())
    });
    let linger = Some(Duration::ZERO);
    SockRef::from(&host).set_linger(linger).expect("set");
    stream
}

/// An end whose peer is gone, as its last write has found out.
fn without_a_reader(world: &World) -> ArcaTcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let stream = world.session.connect(address).expect("connects");
    drop(listener.accept().expect("accepts"));
    let stream = stream.into_async();
    stream.end().write(b"x", None).expect("writes");
    until("the failure", || {
        stream.end().is_peer_read_closed().then_some(())
    });
    stream.into_sync()
}

/// Receives, by the blocking call or as a task.
fn recv(stream: &ArcaTcpStream, tasks: bool, buffer: &mut [u8]) -> Result<usize, Error> {
    match tasks {
        false => stream.recv(buffer),
        true => {
            let stream = stream.try_clone().into_async();
            let end = stream.end().reactor().clone();
            end.block_on(stream.recv(buffer))
        }
    }
}

/// Sends, by the blocking call or as a task.
fn send(stream: &ArcaTcpStream, tasks: bool, bytes: &[u8]) -> Result<(), Error> {
    match tasks {
        false => stream.send(bytes),
        true => {
            let stream = stream.try_clone().into_async();
            let end = stream.end().reactor().clone();
            end.block_on(stream.send(bytes))
        }
    }
}

#[test]
fn recv_gives_what_came_before_a_reset_and_the_reset_next() {
    let world = world(Duration::ZERO);
    for tasks in [false, true] {
        let stream = after_a_reset(&world);
        let mut buffer = [0; 16];
        assert_eq!(recv(&stream, tasks, &mut buffer), Ok(10), "tasks {tasks}");
        assert_eq!(&buffer[..10], b"last words");
        let reset = Err(Error::Os(Errno::ECONNRESET));
        assert_eq!(recv(&stream, tasks, &mut buffer), reset, "tasks {tasks}");
        assert_eq!(recv(&stream, tasks, &mut buffer), Ok(0), "tasks {tasks}");
    }
    world.end();
}

#[test]
fn recv_gives_what_came_within_its_time() {
    let world = world(Duration::ZERO);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let stream = world.session.connect(address).expect("connects");
    let (mut host, _) = listener.accept().expect("accepts");
    host.write_all(b"first").expect("writes");
    let mut buffer = [0; 10];
    stream.set_nonblocking(true);
    let first = until("the bytes", || stream.recv(&mut buffer).ok());
    assert_eq!(&buffer[..first], b"first");
    let later = stream.recv(&mut buffer);
    assert_eq!(later, Err(Error::Os(Errno::EAGAIN)), "that was no end");
    stream.set_nonblocking(false);
    host.write_all(b"and more").expect("writes");
    drop(host);
    assert_eq!(stream.recv(&mut buffer), Ok(8));
    assert_eq!(&buffer[..8], b"and more");
    assert_eq!(stream.recv(&mut buffer), Ok(0));
    drop(stream);
    world.end();
}

#[test]
fn sending_nothing_says_whether_anyone_reads() {
    let world = world(Duration::ZERO);
    for tasks in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let stream = world.session.connect(address).expect("connects");
        let (mut host, _) = listener.accept().expect("accepts");
        assert_eq!(send(&stream, tasks, b""), Ok(()));
        assert_eq!(send(&stream, tasks, b"all"), Ok(()));
        let mut bytes = [0; 3];
        host.read_exact(&mut bytes).expect("reads");
        assert_eq!(&bytes, b"all");
        drop((stream, host));

        let stream = without_a_reader(&world);
        let closed = Err(Error::Os(Errno::EPIPE));
        assert_eq!(send(&stream, tasks, b""), closed, "tasks {tasks}");
        assert_eq!(send(&stream, tasks, b""), closed, "tasks {tasks}");
        // It has closed its writing end: with the other, the pipe is over.
        let stream = stream.into_async();
        stream.end().close_read();
        until("all pipes to be freed", || {
            (world.handle.stats().pipes_allocated == 0).then_some(())
        });
    }
    world.end();
}
