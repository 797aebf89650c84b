//! A whole monitor between a guest that does anything and TCP peers that do
//! anything: requests in and out of order, whole and cut, words of the arena
//! changed at will, connections used and broken. A violation or replies, bytes in
//! order where nobody lied, and nothing left when it is over.
//!
//! The sockets are real. The policy keeps them to the service here: nothing else
//! on this machine is connected to, and no name is asked for.

#![no_main]

use arca_fuzz::operation::Operation;
use arca_fuzz::{Memory, telling};
use arca_monitor::{Link, Monitor, MonitorConfig, MonitorHandle, VcpuWaker};
use arca_shared::notify::{NotifyArea, Slot};
use arca_shared::pipe::{BidirectionalPipe, Side};
use arca_shared::protocol::frame::{Frame, MAX_PAYLOAD};
use arca_shared::protocol::message::{ConnectionReady, Reply, code};
use arca_shared::ring::Close;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};

/// A small arena: full soon.
const ARENA: usize = 1 << 20;
/// Pipes and peers that are played with at a time.
const MANY: usize = 8;

struct Nobody;

impl VcpuWaker for Nobody {
    fn wake(&self, _: usize) {}
}

/// The one service that may be connected to.
fn service() -> &'static (TcpListener, SocketAddr) {
    static SERVICE: OnceLock<(TcpListener, SocketAddr)> = OnceLock::new();
    SERVICE.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("bound");
        (listener, address)
    })
}

fn config() -> MonitorConfig {
    let mut config = MonitorConfig::default();
    let rule = |text: String| vec![text.parse().expect("a rule")];
    config.policy.allow_connect = rule(service().1.to_string());
    config.policy.allow_listen = rule("127.0.0.1:0".into());
    config.policy.resolve_names = false;
    config.limits.connections = 12;
    config.limits.listeners = 3;
    config.limits.accepts = 6;
    config.limits.connects = 4;
    config
}

/// Arca, and the peers of its connections.
struct World {
    memory: Arc<Memory>,
    monitor: Monitor,
    handle: MonitorHandle,
    control: BidirectionalPipe,
    area: NotifyArea,
    pipes: Vec<BidirectionalPipe>,
    /// Ids that were handed out, and those of listeners with their address.
    ids: Vec<u32>,
    listeners: Vec<(u32, SocketAddr)>,
    peers: Vec<TcpStream>,
    /// Requests sent under an id that no other has, and not answered.
    open: BTreeSet<u32>,
    next_id: u32,
    /// Arca has lied somewhere.
    lied: bool,
    /// How somebody wants the session to end.
    wanted: Option<Ending>,
}

/// Ways to want the end, by increasing urgency.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Finish,
    Stop,
    Abort,
}

impl World {
    fn new() -> Option<Self> {
        let memory = Memory::new(ARENA);
        let arena = memory.arena();
        let link = Link::new(arena.clone(), Arc::new(Nobody), 1).ok()?;
        let control = BidirectionalPipe::join(&arena, link.control(), Side::A).ok()?;
        let offset = arca_shared::memory::ShmOffset(link.notify_offset());
        let area = NotifyArea::join(&arena, offset).ok()?;
        let monitor = Monitor::new(link, config()).ok()?;
        Some(Self {
            memory,
            handle: monitor.handle(),
            monitor,
            control,
            area,
            pipes: Vec::new(),
            ids: Vec::new(),
            listeners: Vec::new(),
            peers: Vec::new(),
            open: BTreeSet::new(),
            next_id: 1000,
            lied: false,
            wanted: None,
        })
    }

    /// Sends a frame. Few ids are used again and again; from 128 up it is one that
    /// is not.
    fn send(&mut self, kind: u8, id: u8, payload: &[u8]) {
        let unique = id >= 128;
        let request_id = match unique {
            true => self.next_id,
            false => u32::from(id % 8),
        };
        let frame = Frame::build(kind, request_id, |buffer| {
            let len = payload.len().min(MAX_PAYLOAD);
            buffer[..len].copy_from_slice(&payload[..len]);
            len
        });
        if frame.put(self.control.outgoing()).is_ok() && unique {
            self.next_id += 1;
            self.open.insert(request_id);
        }
        self.notify(self.control.shm_offset().into());
    }

    fn notify(&self, slot: Slot) {
        self.area.to_monitor().mark(slot);
    }

    /// A turn of the monitor; `false` if the session is over.
    fn turn(&mut self) -> bool {
        match self.monitor.turn_once() {
            Ok(false) => {}
            Ok(true) => {
                // A flag that was written over in the control pipe is Arca's leaving.
                assert!(
                    self.wanted.is_some() || self.lied,
                    "nobody wanted it to end"
                );
                return false;
            }
            Err(_) => return false,
        }
        // One turn is enough to hear of it, whatever else there is to hear of.
        assert!(self.wanted != Some(Ending::Abort), "an abort was not heard");
        assert!(
            self.wanted.is_none() || self.handle.stats().listeners == 0,
            "a stop was not heard"
        );
        // The other ends of what Arca connected to.
        while let Ok((stream, _)) = service().0.accept() {
            self.keep_peer(stream);
        }
        while let Ok(Some(frame)) = Frame::take(self.control.incoming()) {
            let reply = Reply::from_frame(&frame);
            assert!(reply.is_ok() || self.lied, "{frame:?}");
            if frame.request_id >= 1000 {
                let known = self.open.remove(&frame.request_id);
                assert!(
                    known || self.lied,
                    "answered twice, or not asked: {frame:?}"
                );
            }
            match reply {
                Ok(Reply::ConnectOk(ready) | Reply::IncomingConnection(ready)) => self.join(&ready),
                Ok(Reply::Connected { ready, .. } | Reply::Accepted { ready, .. }) => {
                    self.join(&ready);
                }
                Ok(Reply::Listening { listener_id, local }) => {
                    self.listeners.push((listener_id, local.0));
                }
                _ => {}
            }
        }
        let stats = self.handle.stats();
        assert!(stats.connections <= 12 && stats.listeners <= 3);
        assert!(stats.arena_used as usize <= ARENA);
        true
    }

    fn join(&mut self, ready: &ConnectionReady) {
        self.ids.push(ready.connection_id);
        let arena = self.memory.arena();
        if let Ok(pipe) = BidirectionalPipe::join(&arena, ready.pipe, Side::A) {
            self.pipes.truncate(MANY - 1);
            self.pipes.insert(0, pipe);
        } else {
            assert!(self.lied);
        }
    }

    fn keep_peer(&mut self, stream: TcpStream) {
        stream.set_nonblocking(true).expect("a socket");
        self.peers.truncate(MANY - 1);
        self.peers.insert(0, stream);
    }

    fn pipe(&mut self, which: u8) -> Option<(&mut BidirectionalPipe, Slot)> {
        let count = self.pipes.len().max(1);
        let pipe = self.pipes.get_mut(usize::from(which) % count)?;
        let slot = pipe.shm_offset().into();
        Some((pipe, slot))
    }

    fn peer(&mut self, which: u8) -> Option<&mut TcpStream> {
        let count = self.peers.len().max(1);
        self.peers.get_mut(usize::from(which) % count)
    }

    /// An id that names something, or does not any more.
    fn id(&self, which: u8, connection: bool) -> u32 {
        let which = usize::from(which);
        let found = match connection {
            true => self.ids.get(which % self.ids.len().max(1)).copied(),
            false => {
                let listener = self.listeners.get(which % self.listeners.len().max(1));
                listener.map(|listener| listener.0)
            }
        };
        found.unwrap_or(which as u32)
    }

    fn likely(&mut self, kind: u8, id: u8, value: u8) {
        let which = value / 2;
        let mut payload = Vec::new();
        let kinds = [
            code::CONNECT_REQUEST,
            code::CONNECT_TO,
            code::LISTEN_AT,
            code::ACCEPT_REQUEST,
            code::ACCEPT_FROM,
            code::LISTEN_REQUEST,
            code::HELLO,
            code::CLOSE_LISTENER,
            code::CANCEL,
            code::ADDRESSES,
            code::SET_OPTION,
            code::GET_OPTION,
        ];
        let message_type = kinds[usize::from(kind) % kinds.len()];
        let connects = matches!(message_type, code::CONNECT_REQUEST | code::CONNECT_TO);
        let port = if connects { service().1.port() } else { 0 };
        match message_type {
            code::LISTEN_REQUEST | code::CONNECT_REQUEST => {
                payload.extend([127, 0, 0, 1]);
                payload.extend(port.to_le_bytes());
            }
            code::HELLO => payload.extend([1, 0, 0, 0, value, 0, 0, 0, 0, 0, 0, 0]),
            code::LISTEN_AT | code::CONNECT_TO => {
                payload.extend([4, 0]);
                payload.extend(port.to_le_bytes());
                payload.extend([127, 0, 0, 1]);
                payload.resize(28, 0);
                if message_type == code::LISTEN_AT {
                    payload.extend([0; 4]);
                }
            }
            code::ADDRESSES | code::SET_OPTION | code::GET_OPTION => {
                let connection = value % 2 == 1;
                payload.push(value % 2 + 1);
                payload.extend(self.id(which, connection).to_le_bytes());
                if message_type != code::ADDRESSES {
                    payload.push(which % 14);
                }
                if message_type == code::SET_OPTION {
                    payload.extend(u64::from(which / 14).to_le_bytes());
                }
            }
            code::CANCEL => payload.extend(u32::from(which % 8).to_le_bytes()),
            _ => payload.extend(self.id(which, false).to_le_bytes()),
        }
        self.send(message_type, id, &payload);
    }

    fn close(&mut self, which: u8, end: u8, way: u8) {
        if let Some((pipe, slot)) = self.pipe(which) {
            if way & 1 != 0 {
                pipe.outgoing().set_errno(104);
            }
            let by = match way & 2 {
                0 => Close::Shutdown,
                _ => Close::Connection,
            };
            if end % 3 != 1 {
                pipe.outgoing().close_by(by);
            }
            if !end.is_multiple_of(3) {
                pipe.incoming().close_by(by);
            }
            self.notify(slot);
        }
    }

    /// Does one; `false` if the session is over.
    fn perform(&mut self, operation: &Operation<'_>) -> bool {
        let Operation { a, b, c, .. } = *operation;
        let len = usize::from(b) * 16;
        match operation.code {
            0 => self.send(a, b, operation.payload),
            1 => self.likely(a, b, c),
            2 => {
                // What these bytes ask for is anybody's guess.
                self.lied = true;
                let _ = self.control.write(operation.payload);
                self.notify(self.control.shm_offset().into());
            }
            3 => return self.turn(),
            4 => {
                if let Some((pipe, slot)) = self.pipe(a) {
                    let _ = pipe.write(&vec![7; len]);
                    self.notify(slot);
                }
            }
            5 => {
                if let Some((pipe, slot)) = self.pipe(a) {
                    let mut bytes = vec![0; len];
                    let got = pipe.read(&mut bytes).unwrap_or(0);
                    let sound = bytes[..got].iter().all(|byte| *byte == 9);
                    self.notify(slot);
                    assert!(sound || self.lied, "not what the peer sent");
                }
            }
            6 => self.close(a, b, c),
            7 => {
                let count = self.listeners.len().max(1);
                if let Some(&(_, address)) = self.listeners.get(usize::from(a) % count)
                    && let Ok(stream) = TcpStream::connect(address)
                {
                    self.keep_peer(stream);
                }
            }
            8 => {
                if let Some(peer) = self.peer(a) {
                    let _ = peer.write(&vec![9; len]);
                }
            }
            9 => {
                let lied = self.lied;
                if let Some(peer) = self.peer(a) {
                    let mut bytes = vec![0; len];
                    let got = peer.read(&mut bytes).unwrap_or(0);
                    let sound = bytes[..got].iter().all(|byte| *byte == 7);
                    assert!(sound || lied, "not what Arca sent");
                }
            }
            10 => self.hang_up(a, b),
            11 => {
                let _ = self.monitor.doorbell().write(1);
            }
            12 => self.notify(Slot(u16::from_le_bytes([a, b]).into())),
            14 => self.want(a),
            _ => self.corrupt(a, b, c, operation.payload),
        }
        true
    }

    fn want(&mut self, how: u8) {
        let ending = match how % 4 {
            0 | 1 => Ending::Finish,
            2 => Ending::Stop,
            _ => Ending::Abort,
        };
        match ending {
            Ending::Finish => self.handle.finish(),
            Ending::Stop => self.handle.stop(),
            Ending::Abort => self.handle.abort(),
        }
        self.wanted = self.wanted.max(Some(ending));
    }

    fn hang_up(&mut self, which: u8, how: u8) {
        let count = self.peers.len();
        if let Some(peer) = self.peer(which) {
            // It may be gone on the other side already.
            let _ = match how % 3 {
                0 => peer.shutdown(Shutdown::Write),
                1 => peer.shutdown(Shutdown::Both),
                _ => {
                    drop(self.peers.remove(usize::from(which) % count));
                    Ok(())
                }
            };
        }
    }

    fn corrupt(&mut self, near: u8, word: u8, kind: u8, value: &[u8]) {
        self.lied = true;
        let value = value
            .first_chunk()
            .map_or(0, |value| u64::from_le_bytes(*value));
        let (base, range) = match near % 4 {
            0 => (usize::from(near) * 512, 512),
            1 => (self.control.shm_offset().0 as usize / 8, 3),
            2 => (self.area.offset().0 as usize / 8, 256),
            _ => {
                let pipe = self.pipe(near / 4).map(|(_, slot)| slot.0 as usize);
                (pipe.unwrap_or(0) * 512, 3)
            }
        };
        let word = base + usize::from(word) % range;
        self.memory.poke(word, telling(kind, value, 4096));
    }
}

fn run(mut input: &[u8]) {
    let Some(mut world) = World::new() else {
        return;
    };
    let mut operations = std::iter::from_fn(|| Operation::read(&mut input)).take(200);
    while let Some(operation) = operations.next()
        && world.perform(&operation)
    {}
    world.monitor.close();
    let stats = world.handle.stats();
    let left = (stats.pipes_allocated, stats.connections, stats.listeners);
    assert_eq!(left, (0, 0, 0));
    // Connections that were never taken off the service.
    while let Ok((stream, _)) = service().0.accept() {
        drop(stream);
    }
}

fuzz_target!(|data: &[u8]| run(data));
