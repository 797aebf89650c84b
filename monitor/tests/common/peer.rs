//! Arca's side of a session: the control pipe and the notification area.

use super::{Stream, endpoint, until};
use arca_monitor::Link;
use arca_shared::errno::Errno;
use arca_shared::memory::Arena;
use arca_shared::notify::{NotifyArea, Slot};
use arca_shared::pipe::{BidirectionalPipe, Side};
use arca_shared::protocol::frame::Frame;
use arca_shared::protocol::message::{ConnectionReady, Reply, Request, feature};
use nix::sys::eventfd::EventFd;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

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
        self.ring_times(1);
    }

    /// Rings so often, before anybody can hear the first.
    pub fn ring_times(&self, times: u64) {
        nix::unistd::write(&self.doorbell.0, &times.to_ne_bytes()).expect("room in the counter");
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
