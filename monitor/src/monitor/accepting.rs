//! Connections that come in.
//!
//! The kernel's accept is called only while an accept of the guest waits, and
//! only with a pipe's region in hand: a connection that was accepted is never
//! lost for want of memory. Where the host or the arena has no room, the
//! listener stalls: its accepts go on waiting, until something was freed or,
//! for descriptors that others may free, a while has passed.

use super::Monitor;
use crate::connection::Connection;
use crate::control_pipe::Ticket;
use crate::listener::Wait;
use crate::poller::Source;
use crate::sys;
use crate::violation::Violation;
use arca_shared::memory::ShmOffset;
use arca_shared::notify::Slot;
use arca_shared::pipe::PipeRegion;
use arca_shared::pipe::{BidirectionalPipe, Side};
use arca_shared::protocol::message::{Address, ConnectionReady, Reply};
use nix::errno::Errno;
use socket2::Socket;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a listener stalls if nothing tells that the host has room again.
const RETRY: Duration = Duration::from_millis(100);

impl Monitor {
    /// Accepts on a listener while accepts wait and connections come; how many
    /// accepts it answered.
    pub(super) fn accept_on(&mut self, id: u32) -> Result<usize, Violation> {
        let mut answered = 0;
        while let Some(listener) = self.listeners.get_mut(id)
            && listener.ready
            && let Some(&wait) = listener.waits.front()
        {
            if self.connections.is_full() {
                self.stall(id);
                break;
            }
            let Some(region) = self.regions.allocate() else {
                self.stall(id);
                break;
            };
            match sys::accept(&listener.socket) {
                Ok((socket, peer)) => {
                    let (local, linger) = (listener.local, listener.linger);
                    listener.waits.pop_front();
                    let reply = self.accepted(id, wait, socket, region, peer, local, linger);
                    self.answer_accept(wait.ticket, &reply)?;
                    answered += 1;
                }
                Err(Errno::EAGAIN) => {
                    listener.ready = false;
                    self.regions.give_back(region);
                }
                Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS) => {
                    self.regions.give_back(region);
                    self.retry_at = Some(Instant::now() + RETRY);
                    self.stall(id);
                    break;
                }
                Err(errno) => {
                    listener.waits.pop_front();
                    self.regions.give_back(region);
                    let reply = Reply::AcceptErr(sys::wire_errno(errno));
                    self.answer_accept(wait.ticket, &reply)?;
                    answered += 1;
                }
            }
        }
        Ok(answered)
    }

    fn answer_accept(&mut self, ticket: Ticket, reply: &Reply) -> Result<(), Violation> {
        self.waiting_accepts -= 1;
        self.relay.stats.frames_out += 1;
        self.control.answer(ticket, reply)
    }

    /// Makes a connection of a socket that was accepted.
    #[allow(
        clippy::too_many_arguments,
        reason = "what accept and its listener say"
    )]
    fn accepted(
        &mut self,
        listener_id: u32,
        wait: Wait,
        socket: Socket,
        region: PipeRegion,
        peer: Option<SocketAddr>,
        listening: SocketAddr,
        linger: u64,
    ) -> Reply {
        let addresses = if wait.with_addresses {
            // A listener that is bound to one address tells it without a call.
            let local = match listening.ip().is_unspecified() {
                false => Some(listening),
                true => socket.local_addr().ok().and_then(|a| a.as_socket()),
            };
            let (Some(local), Some(peer)) = (local, peer) else {
                self.regions.give_back(region);
                return Reply::AcceptErr(sys::wire_errno(Errno::ECONNABORTED));
            };
            Some((Address(local), Address(peer)))
        } else {
            None
        };
        let ready = match self.open_connection(listener_id, socket, region, false) {
            Ok(ready) => ready,
            Err(errno) => return Reply::AcceptErr(sys::wire_errno(errno)),
        };
        if let Some(connection) = self.connections.get_mut(ready.connection_id) {
            connection.linger = linger;
        }
        self.relay.stats.connections_in += 1;
        match addresses {
            Some((local, peer)) => Reply::Accepted { ready, local, peer },
            None => Reply::IncomingConnection(ready),
        }
    }

    /// Joins a socket and a region into a connection. `watched`: the socket is in
    /// the epoll already, as something else.
    pub(super) fn open_connection(
        &mut self,
        listener_id: u32,
        socket: Socket,
        region: PipeRegion,
        watched: bool,
    ) -> Result<ConnectionReady, Errno> {
        let place = region.place();
        let Ok(pipe) = BidirectionalPipe::join(&self.arena, place, Side::B) else {
            self.regions.give_back(region);
            return Err(Errno::ENOBUFS);
        };
        if self.connections.is_full() {
            self.regions.give_back(region);
            return Err(Errno::ENFILE);
        }
        // Who connects has often sent something by now, and then Arca gets both at
        // once.
        let eager = listener_id != 0;
        let make = |id| Connection::new(id, socket, pipe, region, eager);
        let id = self.connections.insert(make).ok_or(Errno::ENFILE)?;
        let source = Source::Connection(id);
        let added = match self.connections.get(id).and_then(Connection::socket) {
            Some(socket) if watched => self.reactor.change(socket, source),
            Some(socket) => self.reactor.add(socket, source),
            None => Ok(()),
        };
        if let Err(errno) = added {
            if let Some(connection) = self.connections.remove(id) {
                self.regions.give_back(connection.into_region());
            }
            return Err(errno);
        }
        let slot = Slot::from(ShmOffset(place.shm_offset));
        if let Some(entry) = self.slots.get_mut(slot.0 as usize) {
            *entry = id;
        }
        // It gets a turn of its own: that asks Arca to say when it writes.
        self.enqueue(id);
        Ok(ConnectionReady {
            listener_id,
            connection_id: id,
            pipe: place,
        })
    }

    /// Frees what is left of a connection that is over.
    pub(super) fn close_connection(&mut self, id: u32) {
        let Some(connection) = self.connections.remove(id) else {
            return;
        };
        if let Some(entry) = self.slots.get_mut(connection.slot().0 as usize) {
            *entry = 0;
        }
        let rest = !self.relay.greeted;
        self.regions.free(connection.into_region(), rest);
        self.resume_stalled();
    }

    /// Leaves a listener alone until there is room again.
    fn stall(&mut self, id: u32) {
        if let Some(listener) = self.listeners.get_mut(id)
            && !listener.stalled
        {
            listener.stalled = true;
            self.stalled.push(id);
        }
    }

    /// Something was freed: listeners that waited for room are looked after in
    /// the next turn.
    pub(super) fn resume_stalled(&mut self) {
        for id in self.stalled.drain(..) {
            if let Some(listener) = self.listeners.get_mut(id) {
                listener.stalled = false;
                self.accepting.push(id);
            }
        }
        self.retry_at = None;
    }
}
