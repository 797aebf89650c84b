//! The connections of a session: which there are, which of them have something to do,
//! and the regions of their pipes.
//!
//! [`Connections::open`] is where each connection begins, accepted or connected, and
//! [`Connections::close`] where its region is free again.

pub(crate) mod prefault;
mod regions;
pub(crate) mod sizing;

use crate::config::MonitorConfig;
use crate::connection::{Connection, TurnOutcome};
use crate::poller::{Registry, Source};
use crate::relay::Relay;
use crate::state::{ConnectionState, Described, MAX_DESCRIBED};
use crate::stats::MonitorStats;
use crate::table::Table;
use crate::trace::TraceKind;
use arca_shared::errno::Errno as WireErrno;
use arca_shared::memory::{Arena, BuddyAllocator, MIN_BLOCK, ShmOffset};
use arca_shared::notify::Slot;
use arca_shared::pipe::{BidirectionalPipe, PipePlace, PipeRegion, Side};
use arca_shared::protocol::message::ConnectionReady;
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use regions::Regions;
use socket2::{SockAddr, Socket};
use std::collections::VecDeque;
use std::io;

/// The connections of a session.
pub(crate) struct Connections {
    registry: Registry,
    arena: Arena,
    table: Table<Connection>,
    /// Those that have something to do, in turn.
    queue: VecDeque<u32>,
    /// The connection of each slot; 0 where there is none.
    slots: Vec<u32>,
    /// A connection, a region or a descriptor was freed, and no listener that waits for room was
    /// resumed since.
    room_freed: bool,
    /// Last: every pipe above lies in one.
    regions: Regions,
}

/// What was given up of what an Arca that is gone had written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undelivered {
    /// Connections whose peer did not get all.
    pub connections: u64,
    /// Bytes that the kernel had not taken.
    pub bytes: u64,
}

/// A connected socket, and the region that its pipe is to lie in.
pub(crate) struct NewConnection {
    pub(crate) origin: Origin,
    pub(crate) socket: Socket,
    pub(crate) region: PipeRegion,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin {
    /// It was accepted.
    Accepted {
        listener_id: u32,
        /// SO_LINGER of the listener, in the encoding of the wire.
        linger: u64,
    },
    /// It was connected.
    Connected {
        /// The socket is registered already, as that of a connect.
        registered: bool,
    },
}

impl Connections {
    pub(crate) fn new(
        registry: Registry,
        allocator: BuddyAllocator,
        config: &MonitorConfig,
    ) -> Self {
        let arena = allocator.arena().clone();
        let limits = &config.limits;
        Self {
            registry,
            table: Table::new(limits.connections),
            queue: VecDeque::new(),
            // A vector of zeros: touched only where it is used.
            slots: vec![0; arena.len().div_ceil(MIN_BLOCK)],
            room_freed: false,
            regions: Regions::new(allocator, config.pipe_sizes, limits.arena_percent),
            arena,
        }
    }

    /// Connections there are.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Connection> {
        self.table.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Connection> {
        self.table.get_mut(id)
    }

    /// A region for a connection that is about to be: ENFILE if there are too many
    /// connections, ENOBUFS if the arena has no room.
    pub(crate) fn reserve(&mut self) -> Result<PipeRegion, WireErrno> {
        if self.table.is_full() {
            return Err(WireErrno::ENFILE);
        }
        self.regions.allocate().ok_or(WireErrno::ENOBUFS)
    }

    /// Takes back a region at once that was reserved for nothing: no room was freed.
    pub(crate) fn cancel_reservation(&mut self, region: PipeRegion) {
        self.regions.give_back(region);
    }

    /// Takes note of a connection, a region or a descriptor that is free: a listener
    /// may have waited for it.
    pub(crate) fn note_room_freed(&mut self) {
        self.room_freed = true;
    }

    /// Whether something was freed since this was last asked.
    pub(crate) fn take_room_freed(&mut self) -> bool {
        std::mem::take(&mut self.room_freed)
    }

    /// Joins a socket and a region into a connection.
    pub(crate) fn open(
        &mut self,
        new: NewConnection,
        relay: &mut Relay,
    ) -> Result<ConnectionReady, Errno> {
        let origin = new.origin;
        let place = new.region.place();
        let id = self.insert(new).inspect_err(|_| self.room_freed = true)?;
        let slot = Slot::from(ShmOffset(place.shm_offset));
        if let Some(entry) = self.slots.get_mut(slot.0 as usize) {
            *entry = id;
        }
        let listener_id = match origin {
            Origin::Accepted { listener_id, .. } => {
                relay.stats.connections_in += 1;
                listener_id
            }
            Origin::Connected { .. } => {
                relay.stats.connections_out += 1;
                0
            }
        };
        self.trace_opened(id, listener_id, place, relay);
        // It gets a turn of its own, which arms ring A.
        self.enqueue(id);
        Ok(ConnectionReady {
            listener_id,
            connection_id: id,
            pipe: place,
        })
    }

    fn trace_opened(&self, id: u32, listener: u32, pipe: PipePlace, relay: &mut Relay) {
        let socket = self.get(id).and_then(Connection::socket);
        let address = |address: io::Result<SockAddr>| address.ok().and_then(|a| a.as_socket());
        relay.trace(|| TraceKind::Opened {
            id,
            listener,
            local: socket.and_then(|socket| address(socket.local_addr())),
            peer: socket.and_then(|socket| address(socket.peer_addr())),
            pipe,
        });
    }

    /// Adds a connection to the table and the epoll, or takes its region back.
    fn insert(&mut self, new: NewConnection) -> Result<u32, Errno> {
        let NewConnection {
            origin,
            socket,
            region,
        } = new;
        let Ok(pipe) = BidirectionalPipe::join(&self.arena, region.place(), Side::B) else {
            self.regions.give_back(region);
            return Err(Errno::ENOBUFS);
        };
        if self.table.is_full() {
            self.regions.give_back(region);
            return Err(Errno::ENFILE);
        }
        let (accepted, linger) = match origin {
            Origin::Accepted { linger, .. } => (true, linger),
            Origin::Connected { .. } => (false, 0),
        };
        let make = |id| {
            // Who connects has often sent something by now, and then Arca gets both
            // at once.
            let mut connection = Connection::new(id, socket, pipe, region, accepted);
            connection.linger = linger;
            connection
        };
        let id = self.table.insert(make).ok_or(Errno::ENFILE)?;
        let source = Source::Connection(id);
        let socket = self.table.get(id).and_then(Connection::socket);
        let watched = match (socket, origin) {
            (Some(socket), Origin::Connected { registered: true }) => {
                self.registry.reregister(socket, source)
            }
            (Some(socket), _) => self.registry.register(socket, source),
            (None, _) => Ok(()),
        };
        if let Err(errno) = watched {
            if let Some(connection) = self.table.remove(id) {
                self.regions.give_back(connection.into_region());
            }
            return Err(errno);
        }
        Ok(id)
    }

    /// Frees what is left of a connection that is over.
    fn close(&mut self, id: u32, relay: &mut Relay) {
        let Some(connection) = self.table.remove(id) else {
            return;
        };
        relay.trace(|| TraceKind::Freed { id });
        self.clear_slot(connection.slot());
        let rest = !relay.said_hello;
        self.regions.free(connection.into_region(), rest);
        self.room_freed = true;
    }

    fn clear_slot(&mut self, slot: Slot) {
        if let Some(entry) = self.slots.get_mut(slot.0 as usize) {
            *entry = 0;
        }
    }

    /// Takes note of what epoll reports about a connection's socket.
    pub(crate) fn on_events(&mut self, id: u32, events: EpollFlags) {
        if let Some(connection) = self.table.get_mut(id) {
            connection.on_events(events);
            self.enqueue(id);
        }
    }

    /// Takes note of a mark; whether the slot is a connection's.
    pub(crate) fn on_mark(&mut self, slot: Slot) -> bool {
        let id = self.slots.get(slot.0 as usize).copied().unwrap_or(0);
        if id != 0 {
            self.enqueue(id);
        }
        id != 0
    }

    fn enqueue(&mut self, id: u32) {
        if let Some(connection) = self.table.get_mut(id)
            && !connection.queued
        {
            connection.queued = true;
            self.queue.push_back(id);
        }
    }

    /// Gives every connection a turn.
    pub(crate) fn enqueue_all(&mut self) {
        self.queue.clear();
        self.queue.extend(self.table.ids());
        for connection in self.table.values_mut() {
            connection.queued = true;
        }
    }

    /// Whether a connection has something to do.
    pub(crate) fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }

    /// A turn for every connection that has something to do.
    pub(crate) fn run_queue(&mut self, relay: &mut Relay) {
        let ready = self.queue.len();
        relay.begin_turn(ready);
        for _ in 0..ready {
            let Some(id) = self.queue.pop_front() else {
                break;
            };
            let Some(connection) = self.table.get_mut(id) else {
                continue;
            };
            connection.queued = false;
            let mut outcome = connection.run(relay);
            if let Some(socket) = connection.newly_full()
                && self.registry.watch_for_room(socket, id).is_err()
            {
                // The kernel has no memory for it: the connection tries again.
                connection.assume_room();
                outcome = TurnOutcome::MoreToDo;
            }
            relay.wakes.flush_if_due(false);
            match outcome {
                TurnOutcome::Idle => {}
                TurnOutcome::MoreToDo => {
                    connection.queued = true;
                    self.queue.push_back(id);
                }
                TurnOutcome::Closed => self.close(id, relay),
            }
        }
    }

    /// Pushes the bursts that ended in an earlier turn, or `all`: those that go on
    /// have done so by then.
    pub(crate) fn push_bursts(&mut self, all: bool, relay: &mut Relay) {
        relay.burst_ends.retain_mut(|(id, earlier)| {
            let due = all || std::mem::replace(earlier, true);
            if due && let Some(connection) = self.table.get_mut(*id) {
                connection.push_burst();
            }
            !due
        });
    }

    /// Arca is gone: every connection counts as closed by it.
    pub(crate) fn orphan_all(&mut self) {
        for connection in self.table.values_mut() {
            connection.orphan();
        }
        self.enqueue_all();
    }

    /// What would be given up if every connection ended now.
    pub(crate) fn undelivered(&mut self) -> Undelivered {
        let mut all = Undelivered::default();
        for connection in self.table.values_mut() {
            let bytes = connection.undelivered() as u64;
            all.connections += u64::from(bytes > 0);
            all.bytes += bytes;
        }
        all
    }

    /// Closes all of them; one that is still open is reset. An Arca that outlives its
    /// session finds the flags of every pipe set.
    pub(crate) fn close_all(&mut self, relay: &mut Relay) {
        self.queue.clear();
        for mut connection in self.table.drain() {
            connection.end_session(relay);
            self.clear_slot(connection.slot());
            self.regions.free(connection.into_region(), false);
        }
        self.regions.end_all_rests();
    }

    /// The peer said hello: it touches no region again that it gave back.
    pub(crate) fn end_all_rests(&mut self) {
        self.regions.end_all_rests();
    }

    /// What they do, and who waits for whom.
    pub(crate) fn state(&mut self) -> Described<ConnectionState> {
        let connections = self.table.values_mut().take(MAX_DESCRIBED);
        Described {
            some: connections.map(Connection::state).collect(),
            count: self.table.len(),
        }
    }

    /// Says how many there are, and what their pipes take.
    pub(crate) fn report(&self, stats: &mut MonitorStats) {
        let allocator = self.regions.allocator();
        stats.connections = self.table.len() as u64;
        stats.pipes_allocated = self.regions.count();
        stats.arena_used = allocator.used() as u64;
        stats.arena_peak = allocator.peak() as u64;
    }
}
