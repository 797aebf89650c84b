//! A monitor that does what the test says.

use super::hal::TestHal;
use super::test_arena;
use crate::client::hal::Hal;
use crate::client::reactor::Reactor;
use crate::client::{ArcaSession, ArcaTcpStream};
use crate::memory::{BuddyAllocator, ShmOffset};
use crate::notify::{NotifyArea, Slot};
use crate::pipe::PipePlace;
use crate::pipe::PipeRegion;
use crate::pipe::{BidirectionalPipe, RingSize, Side};
use crate::protocol::frame::Frame;
use crate::protocol::message::{Address, ConnectionReady, Reply, Request};
use alloc::sync::Arc;
use alloc::vec::Vec;
use allocator_api2::alloc::{Allocator, Layout};
use std::sync::Mutex;

/// The other side of everything: the hal, the arena, and the monitor's end
/// of the control pipe.
pub(crate) struct Peer {
    pub(crate) hal: Arc<TestHal>,
    pub(crate) notify: NotifyArea,
    pub(crate) reactor: Arc<Reactor>,
    pub(crate) control: PipePlace,
    sleepers: usize,
    allocator: BuddyAllocator,
    pipe: Mutex<BidirectionalPipe>,
}

/// The addresses of every connection.
pub(crate) const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 1000);
pub(crate) const REMOTE: ([u8; 4], u16) = ([127, 0, 0, 2], 2000);

pub(crate) fn address(address: ([u8; 4], u16)) -> Address {
    Address(address.into())
}

impl Peer {
    /// A peer whose control rings have that capacity.
    pub(crate) fn new(hal: TestHal, sleepers: usize, control: u64) -> Arc<Self> {
        let hal = Arc::new(hal);
        let arena = test_arena(256);
        let allocator = BuddyAllocator::new(arena.clone());
        let size = NotifyArea::required_size(arena.len());
        let layout = Layout::from_size_align(size, 64).expect("small");
        let area = allocator.allocate_zeroed(layout).expect("fits");
        let offset = arena.to_offset(area.cast()).expect("ours");
        let reactor = Reactor::new(&arena, offset.0, hal.clone(), sleepers).expect("fits");
        let control = pipe_of(&allocator, control);
        Arc::new(Self {
            hal,
            notify: NotifyArea::join(&arena, offset).expect("fits"),
            reactor,
            control,
            sleepers,
            pipe: Mutex::new(BidirectionalPipe::join(&arena, control, Side::B).expect("fits")),
            allocator,
        })
    }

    /// A peer of a single sleeper that never polls before it parks.
    pub(crate) fn simple() -> Arc<Self> {
        Self::new(TestHal::default(), 1, 4072)
    }

    /// Opens the session of this peer and takes its hello.
    pub(crate) fn session(&self) -> ArcaSession {
        let session = ArcaSession::open(&self.reactor, self.control).expect("a place");
        let requests = self.requests();
        assert!(
            matches!(requests[..], [(1, Request::Hello { .. })]),
            "{requests:?}"
        );
        self.take_marks();
        self.hal.events();
        session
    }

    /// A fresh pipe, and its end that is the monitor's.
    pub(crate) fn pipe(&self, ring_size: u64) -> (PipePlace, BidirectionalPipe) {
        let place = pipe_of(&self.allocator, ring_size);
        let end = BidirectionalPipe::join(self.allocator.arena(), place, Side::B);
        (place, end.expect("a place"))
    }

    /// The control pipe's end that is the monitor's.
    pub(crate) fn with_control<T>(&self, with: impl FnOnce(&mut BidirectionalPipe) -> T) -> T {
        with(&mut self.pipe.lock().expect("not poisoned"))
    }

    /// The requests that came since the last time.
    pub(crate) fn requests(&self) -> Vec<(u32, Request)> {
        self.with_control(|control| {
            let next = || {
                let frame = Frame::take(control.incoming()).expect("frames")?;
                let request = Request::from_frame(&frame).expect("a request");
                Some((frame.request_id, request))
            };
            core::iter::from_fn(next).collect()
        })
    }

    /// The one request that came since the last time.
    pub(crate) fn request(&self) -> (u32, Request) {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests[0]
    }

    /// Answers a request.
    pub(crate) fn reply(&self, id: u32, reply: Reply) {
        self.with_control(|control| {
            let put = reply.to_frame(id).put(control.outgoing());
            put.expect("room in the reply ring");
        });
        self.signal(self.control);
    }

    /// The connection that a reply is about.
    pub(crate) fn ready(listener_id: u32, pipe: PipePlace) -> ConnectionReady {
        ConnectionReady {
            listener_id,
            connection_id: 77,
            pipe,
        }
    }

    pub(crate) fn accepted(listener_id: u32, pipe: PipePlace) -> Reply {
        Reply::Accepted {
            ready: Self::ready(listener_id, pipe),
            local: address(LOCAL),
            peer: address(REMOTE),
        }
    }

    pub(crate) fn connected(pipe: PipePlace) -> Reply {
        Reply::Connected {
            ready: Self::ready(0, pipe),
            local: address(LOCAL),
            peer: address(REMOTE),
        }
    }

    /// A connection, and the monitor's end of its pipe.
    pub(crate) fn connect(
        self: &Arc<Self>,
        session: &ArcaSession,
        ring_size: u64,
    ) -> (ArcaTcpStream, BidirectionalPipe) {
        let (place, end) = self.pipe(ring_size);
        let peer = self.clone();
        self.hal.while_parked(move || {
            let (id, request) = peer.request();
            assert_eq!(request, Request::ConnectTo(address(REMOTE)));
            peer.reply(id, Self::connected(place));
        });
        let stream = session.connect(REMOTE.into()).expect("connects");
        self.take_marks();
        self.hal.events();
        (stream, end)
    }

    /// Marks a pipe's slot, and wakes the first sleeper that sleeps.
    pub(crate) fn signal(&self, pipe: PipePlace) {
        let slot = Slot::from(ShmOffset(pipe.shm_offset));
        self.notify.to_guest().mark(slot);
        let asleep = (0..self.sleepers).find(|&vcpu| self.notify.vcpu(vcpu).claim_wake());
        if let Some(vcpu) = asleep {
            self.hal.kick(vcpu);
        }
    }

    /// How many of these pipes' slots were marked since the last time; all marks
    /// are taken.
    pub(crate) fn take_marks(&self) -> Vec<Slot> {
        let mut slots = Vec::new();
        self.notify.to_monitor().take(|slot| slots.push(slot));
        slots
    }

    /// Whether that pipe's slot, and no other, was marked since the last time.
    pub(crate) fn was_marked(&self, pipe: PipePlace) -> bool {
        let marks = self.take_marks();
        assert!(marks.len() <= 1, "{marks:?}");
        marks == [Slot::from(ShmOffset(pipe.shm_offset))]
    }
}

/// The place of a fresh pipe, whose region is never given back.
fn pipe_of(allocator: &BuddyAllocator, ring_size: u64) -> PipePlace {
    let size = RingSize::new(ring_size).expect("a size");
    let region = PipeRegion::allocate(allocator, size).expect("fits");
    let place = region.place();
    core::mem::forget(region);
    place
}
