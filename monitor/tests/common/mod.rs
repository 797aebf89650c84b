//! A peer for the tests: Arca's side of a session, played by a host thread over
//! memory that it shares with the monitor. By itself it knows no more than the
//! draft: it rings no doorbell, marks no slot and looks until something is there.

#![allow(dead_code, reason = "each test binary uses its own part")]

use arca_monitor::{Link, Monitor, MonitorConfig, MonitorHandle, SessionEnd, VcpuWaker};
use arca_shared::errno::Errno;
use arca_shared::memory::Arena;
use arca_shared::notify::{NotifyArea, Slot};
use arca_shared::pipe::{BidirectionalPipe, Side};
use arca_shared::protocol::frame::Frame;
use arca_shared::protocol::message::{ConnectionReady, Endpoint, Reply, Request, code, feature};
use arca_shared::ring::{Close, RingError};
use nix::sys::eventfd::EventFd;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// No test waits longer for anything.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Looks until something is there; panics after [`DEADLINE`].
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::yield_now();
    }
}

/// Counts the wakes that it is asked for.
#[derive(Default)]
pub struct CountingWaker(pub AtomicU64);

impl VcpuWaker for CountingWaker {
    fn wake(&self, _vcpu: usize) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Fresh memory for a session.
pub fn arena(size: usize) -> Arena {
    let size = NonZeroUsize::new(size).expect("not empty");
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
    // SAFETY: a new mapping, which is never unmapped.
    let base = unsafe { mmap_anonymous(None, size, protection, flags) }.expect("memory");
    // SAFETY: mapped for good, and reached only through the arena.
    unsafe { Arena::new(base.cast(), size.get()) }
}

/// A small session's memory.
pub const ARENA: usize = 64 << 20;

pub fn link(size: usize) -> (Link, Arena, Arc<CountingWaker>) {
    let arena = arena(size);
    let waker = Arc::new(CountingWaker::default());
    let link = Link::new(arena.clone(), waker.clone(), 1).expect("a link");
    (link, arena, waker)
}

/// A session: the peer, and the monitor in a thread of its own.
pub struct Session {
    pub peer: Peer,
    pub handle: MonitorHandle,
    pub waker: Arc<CountingWaker>,
    thread: Option<JoinHandle<SessionEnd>>,
}

impl Session {
    pub fn start() -> Self {
        Self::with(MonitorConfig::default(), ARENA)
    }

    pub fn with(config: MonitorConfig, size: usize) -> Self {
        let (link, arena, waker) = link(size);
        let peer = Peer::new(&link, arena);
        let mut monitor = Monitor::new(link, config).expect("a monitor");
        let handle = monitor.handle();
        let thread = std::thread::spawn(move || monitor.event_loop());
        Self {
            peer,
            handle,
            waker,
            thread: Some(thread),
        }
    }

    /// How the session ends by itself.
    pub fn end(&mut self) -> SessionEnd {
        let thread = self.thread.take().expect("not ended before");
        until("the session's end", || thread.is_finished().then_some(()));
        thread.join().expect("the monitor does not panic")
    }

    /// Stops the session and checks that nothing is left.
    pub fn stop(mut self) {
        self.handle.stop();
        assert_eq!(self.end(), SessionEnd::Stopped);
        let stats = self.handle.stats();
        assert_eq!(
            (stats.pipes_allocated, stats.connections, stats.listeners),
            (0, 0, 0)
        );
    }

    /// Waits until no data pipe is allocated.
    #[track_caller]
    pub fn expect_no_pipes(&self) {
        until("all pipes to be freed", || {
            (self.handle.stats().pipes_allocated == 0).then_some(())
        });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.handle.abort();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Arca's side.
pub struct Peer {
    pub arena: Arena,
    pub control: BidirectionalPipe,
    pub area: NotifyArea,
    doorbell: EventFdCopy,
    /// It said hello, and tells of what it sends.
    said_hello: bool,
    next_id: u32,
    replies: HashMap<u32, Reply>,
    /// Order in which replies came.
    pub order: Vec<u32>,
}

struct EventFdCopy(OwnedFd);

impl Peer {
    pub fn new(link: &Link, arena: Arena) -> Self {
        let control = BidirectionalPipe::join(&arena, link.control(), Side::A).expect("a pipe");
        let offset = arca_shared::memory::ShmOffset(link.notify_offset());
        let area = NotifyArea::join(&arena, offset).expect("an area");
        let doorbell: &EventFd = link.doorbell();
        let doorbell = doorbell.as_fd().try_clone_to_owned().expect("a descriptor");
        Self {
            arena,
            control,
            area,
            doorbell: EventFdCopy(doorbell),
            said_hello: false,
            next_id: 0,
            replies: HashMap::new(),
            order: Vec::new(),
        }
    }

    /// Rings, as a guest does that knows of notification.
    pub fn ring(&self) {
        nix::unistd::write(&self.doorbell.0, &1u64.to_ne_bytes()).expect("room in the counter");
    }

    /// Marks the control pipe and rings if the monitor sleeps.
    pub fn notify_control(&self) {
        self.notify_pipe(&self.control);
    }

    /// Marks a pipe and rings if the monitor sleeps.
    pub fn notify_pipe(&self, pipe: &BidirectionalPipe) {
        self.area.to_monitor().mark(Slot::from(pipe.shm_offset()));
        if self.area.monitor().claim_wake() {
            self.ring();
        }
    }

    pub fn send(&mut self, request: Request) -> u32 {
        self.next_id += 1;
        let frame = request.to_frame(self.next_id);
        self.send_frame(&frame);
        self.next_id
    }

    pub fn send_frame(&mut self, frame: &Frame) {
        until("room in the control ring", || {
            frame.put(self.control.outgoing()).ok()
        });
        if self.said_hello {
            self.notify_control();
        }
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        assert_eq!(self.control.write(bytes), Ok(bytes.len()));
    }

    /// Takes the replies that are there.
    pub fn collect(&mut self) {
        while let Some(frame) = Frame::take(self.control.incoming()).expect("frames") {
            let reply = Reply::from_frame(&frame).expect("a reply");
            self.order.push(frame.request_id);
            let before = self.replies.insert(frame.request_id, reply);
            assert_eq!(before, None, "two replies to {}", frame.request_id);
        }
    }

    pub fn try_reply(&mut self, id: u32) -> Option<Reply> {
        self.collect();
        self.replies.remove(&id)
    }

    #[track_caller]
    pub fn reply(&mut self, id: u32) -> Reply {
        until("a reply", || self.try_reply(id))
    }

    #[track_caller]
    pub fn ask(&mut self, request: Request) -> Reply {
        let id = self.send(request);
        self.reply(id)
    }

    pub fn hello(&mut self) {
        let hello = Request::Hello {
            version: 1,
            features: feature::ALL,
        };
        let features = feature::ALL;
        let reply = self.ask(hello);
        assert_eq!(
            reply,
            Reply::HelloOk {
                version: 1,
                features
            }
        );
        self.said_hello = true;
    }

    #[track_caller]
    pub fn connect(&mut self, address: SocketAddr) -> Result<Stream, Errno> {
        match self.ask(Request::Connect(endpoint(address))) {
            Reply::ConnectOk(ready) => {
                assert_eq!(ready.listener_id, 0);
                Ok(self.join(&ready))
            }
            Reply::ConnectErr(errno) => Err(errno),
            other => panic!("{other:?}"),
        }
    }

    pub fn join(&self, ready: &ConnectionReady) -> Stream {
        assert_ne!(ready.connection_id, 0);
        let pipe = BidirectionalPipe::join(&self.arena, ready.pipe, Side::A).expect("a pipe");
        Stream {
            pipe,
            id: ready.connection_id,
        }
    }

    #[track_caller]
    pub fn listen(&mut self, address: SocketAddr) -> Result<u32, Errno> {
        match self.ask(Request::Listen(endpoint(address))) {
            Reply::ListenOk { listener_id } => Ok(listener_id),
            Reply::ListenErr(errno) => Err(errno),
            other => panic!("{other:?}"),
        }
    }

    /// Listens on a port of the host's choice: its address too, for which the
    /// draft has no message.
    pub fn listen_anywhere(&mut self) -> (u32, SocketAddr) {
        let address =
            arca_shared::protocol::message::Address(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        match self.ask(Request::ListenAt {
            address,
            backlog: 0,
        }) {
            Reply::Listening { listener_id, local } => (listener_id, local.0),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub fn accepted(&mut self, request: u32) -> Stream {
        match self.reply(request) {
            Reply::IncomingConnection(ready) => self.join(&ready),
            other => panic!("{other:?}"),
        }
    }
}

pub fn endpoint(address: SocketAddr) -> Endpoint {
    match address {
        SocketAddr::V4(v4) => Endpoint {
            ip: *v4.ip(),
            port: v4.port(),
        },
        SocketAddr::V6(_) => panic!("the draft knows IPv4 only"),
    }
}

/// A message type that nobody knows.
pub const UNKNOWN_CODE: u8 = code::OPTION_VALUE + 100;

/// Arca's end of a connection.
pub struct Stream {
    pub pipe: BidirectionalPipe,
    pub id: u32,
}

impl Stream {
    #[track_caller]
    pub fn send(&mut self, mut bytes: &[u8]) {
        until("room in ring A", || {
            match self.pipe.write(bytes) {
                Ok(len) => bytes = &bytes[len..],
                Err(RingError::WouldBlock) => {}
                Err(error) => panic!("{error}"),
            }
            bytes.is_empty().then_some(())
        });
    }

    /// Reads to the end of the stream; bytes and errno.
    #[track_caller]
    pub fn read_to_end(&mut self) -> (Vec<u8>, u32) {
        let mut bytes = Vec::new();
        while self.read_some(&mut bytes) {}
        (bytes, self.pipe.outgoing_errno_of_peer())
    }

    /// Appends what comes next; `false` at the end of the stream.
    #[track_caller]
    pub fn read_some(&mut self, bytes: &mut Vec<u8>) -> bool {
        let mut buffer = [0; 16384];
        until("bytes in ring B", || {
            let over = self.pipe.is_peer_write_closed();
            match self.pipe.read(&mut buffer) {
                Ok(len) => {
                    bytes.extend_from_slice(&buffer[..len]);
                    Some(true)
                }
                Err(RingError::WouldBlock) => over.then_some(false),
                Err(error) => panic!("{error}"),
            }
        })
    }

    #[track_caller]
    pub fn read_exact(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let mut filled = 0;
        until("bytes in ring B", || {
            match self.pipe.read(&mut bytes[filled..]) {
                Ok(len) => filled += len,
                Err(RingError::WouldBlock) => assert!(
                    !self.pipe.is_peer_write_closed() || self.pipe.incoming().available() != Ok(0),
                    "end of stream after {filled} bytes"
                ),
                Err(error) => panic!("{error}"),
            }
            (filled == bytes.len()).then_some(())
        });
        bytes
    }

    /// Writes until ring and socket are full, with a peer that does not read.
    #[track_caller]
    pub fn fill(&mut self, session: &Session) {
        let chunk = pattern(65536, 11);
        let state = || {
            let stats = session.handle.stats();
            (stats.bytes_to_tcp, stats.epoll_turns)
        };
        let (mut sent, mut turns) = state();
        until("everything to be full", || {
            let wrote = self.pipe.write(&chunk).is_ok();
            let (now_sent, now_turns) = state();
            if wrote || now_sent != sent {
                (sent, turns) = (now_sent, now_turns);
            }
            // The monitor has looked often enough, and found no room.
            (now_turns > turns + 20).then_some(())
        });
    }

    pub fn close(mut self) {
        self.pipe.close_write();
        self.pipe.close_read();
    }

    /// Closes the connection as close(2) does, which a peer can say after a hello.
    pub fn close_connection(mut self, peer: &Peer) {
        self.pipe.incoming().close_by(Close::Connection);
        self.pipe.outgoing().close_by(Close::Connection);
        peer.notify_pipe(&self.pipe);
    }

    /// Closes with the wish for a reset.
    pub fn abort(mut self) {
        self.pipe.outgoing().set_errno(Errno::ECONNRESET.0);
        self.pipe.close_write();
        self.pipe.close_read();
    }
}

/// The errno that the monitor left in header B.
pub trait PeerErrno {
    fn outgoing_errno_of_peer(&mut self) -> u32;
}

impl PeerErrno for BidirectionalPipe {
    fn outgoing_errno_of_peer(&mut self) -> u32 {
        self.incoming().errno()
    }
}

/// Bytes that look random and are the same each time.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
