//! Listeners, and the connections that come in on them.
//!
//! The kernel's accept is called only while an accept of the guest waits, and
//! only with a pipe's region in hand: a connection that was accepted is never
//! lost for want of memory. Where the host or the arena has no room, the
//! listener stalls: its accepts go on waiting, until something was freed or,
//! for descriptors that others may free, a while has passed.

mod listener;

use crate::connections::{Connections, NewConnection, Origin};
use crate::pacing;
use crate::policy::{Bind, Policy, Rule};
use crate::poller::{Registry, Source};
use crate::relay::Relay;
use crate::requests::Ticket;
use crate::state::{Described, ListenerState, MAX_DESCRIBED};
use crate::sys;
use crate::table::Table;
use arca_shared::errno::Errno as WireErrno;
use arca_shared::protocol::message::{Address, Reply};
use listener::{Listener, WaitingAccept};
use log::Level;
use nix::errno::Errno;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a listener stalls if nothing says that the host has room again.
const RETRY: Duration = Duration::from_millis(100);

/// The listeners of a session.
pub(crate) struct Listeners {
    policy: Arc<Policy>,
    registry: Registry,
    table: Table<Listener>,
    /// Those to accept on, in turn. One that is named twice has nothing to do the
    /// second time.
    ready: VecDeque<u32>,
    /// Those for which the host or the arena had no room.
    stalled: Vec<u32>,
    /// When to retry them, if nothing else says so.
    retry_at: Option<Instant>,
    /// Accepts that wait, on all listeners together.
    waiting: usize,
    /// Most of them.
    max_waiting: usize,
}

impl Listeners {
    /// At most `limit` listeners, on which at most `max_waiting` accepts wait.
    pub(crate) fn new(
        policy: Arc<Policy>,
        registry: Registry,
        limit: usize,
        max_waiting: usize,
    ) -> Self {
        Self {
            policy,
            registry,
            table: Table::new(limit),
            ready: VecDeque::new(),
            stalled: Vec::new(),
            retry_at: None,
            waiting: 0,
            max_waiting,
        }
    }

    /// Listeners there are.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Listener> {
        self.table.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Listener> {
        self.table.get_mut(id)
    }

    /// Listens on an address, or on what the policy makes of it: the listener's id,
    /// and the address it is bound to.
    pub(crate) fn listen(
        &mut self,
        asked: SocketAddr,
        backlog: u32,
        relay: &mut Relay,
    ) -> Result<(u32, SocketAddr), WireErrno> {
        let bind = self.policy.bind(asked);
        let address = match bind {
            Bind::Asked(address) | Bind::Published(address) => address,
            Bind::WithoutIpv4(address) => {
                let port = asked.port();
                relay.log(
                    Level::Info,
                    format_args!("listening on {asked} is without IPv4; --allow-listen 0.0.0.0:{port} would allow that too"),
                );
                address
            }
            Bind::Narrowed(address) => {
                let rule = Rule::exactly(asked);
                relay.log(
                    Level::Info,
                    format_args!("listening on {asked} is narrowed to {address}; --allow-listen {rule} would allow it"),
                );
                address
            }
            Bind::Denied => {
                let rule = Rule::exactly(asked);
                relay.warn(format_args!(
                    "listening on {asked} is denied; --allow-listen {rule} would allow it"
                ));
                return Err(WireErrno::EACCES);
            }
        };
        if self.table.is_full() {
            return Err(WireErrno::ENFILE);
        }
        let only_v6 = matches!(bind, Bind::WithoutIpv4(_));
        let listener = Listener::bind(address, only_v6, backlog);
        if let Err(WireErrno::EACCES) = listener {
            relay.warn(format_args!(
                "listening on {address} is denied by the host's kernel, whatever is allowed here: \
                 does this user need CAP_NET_BIND_SERVICE for a port that low?"
            ));
        }
        let listener = listener?;
        let local = listener.local;
        let id = self.table.insert(|_| listener).ok_or(WireErrno::ENFILE)?;
        if let Some(listener) = self.table.get(id)
            && let Err(errno) = self
                .registry
                .register(&listener.socket, Source::Listener(id))
        {
            self.table.remove(id);
            return Err(sys::wire_errno(errno));
        }
        if matches!(bind, Bind::Published(_)) {
            let port = asked.port();
            relay.log(
                Level::Info,
                format_args!("the guest's port {port} is published at {local}"),
            );
        }
        Ok((id, local))
    }

    /// Closes a listener; the kernel resets what is in its backlog. The accepts that
    /// waited on it are the caller's to answer.
    pub(crate) fn close(&mut self, id: u32) -> Option<impl Iterator<Item = Ticket> + use<>> {
        let listener = self.table.remove(id)?;
        self.waiting -= listener.waits.len();
        self.stalled.retain(|&stalled| stalled != id);
        // A descriptor is free.
        self.resume_stalled();
        Some(listener.waits.into_iter().map(|wait| wait.ticket))
    }

    /// Closes all of them: the session is over.
    pub(crate) fn close_all(&mut self) {
        self.waiting = 0;
        self.stalled.clear();
        self.ready.clear();
        self.retry_at = None;
        self.table.drain();
    }

    /// Whether one more accept may wait.
    pub(crate) fn may_wait(&self) -> bool {
        self.waiting < self.max_waiting
    }

    /// Has an accept wait on a listener.
    pub(crate) fn wait(&mut self, id: u32, ticket: Ticket, with_addresses: bool) {
        if let Some(listener) = self.table.get_mut(id) {
            self.waiting += 1;
            listener.waits.push_back(WaitingAccept {
                ticket,
                with_addresses,
            });
            if listener.ready && !listener.stalled {
                self.ready.push_back(id);
            }
        }
    }

    /// Takes an accept out of its listener's line.
    pub(crate) fn cancel_wait(&mut self, id: u32, ticket: Ticket) {
        if let Some(listener) = self.table.get_mut(id)
            && listener.remove_wait(ticket)
        {
            self.waiting -= 1;
        }
    }

    /// Takes note of connections that epoll reports.
    pub(crate) fn on_event(&mut self, id: u32) {
        if let Some(listener) = self.table.get_mut(id) {
            listener.ready = true;
            if !listener.stalled && !listener.waits.is_empty() {
                self.ready.push_back(id);
            }
        }
    }

    /// Has the next accept on a listener ask the kernel, whatever epoll has reported.
    pub(crate) fn assume_ready(&mut self, id: u32) {
        if let Some(listener) = self.table.get_mut(id) {
            listener.ready = true;
        }
    }

    /// All ids.
    pub(crate) fn ids(&self) -> Vec<u32> {
        self.table.ids().collect()
    }

    /// Listeners to accept on in this turn; those that become ready meanwhile stay
    /// for the next.
    pub(crate) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// Takes the next of them.
    pub(crate) fn pop_ready(&mut self) -> Option<u32> {
        self.ready.pop_front()
    }

    /// Accepts a connection on a listener: an accept that waited, and its reply.
    /// `None` if none waits, none comes, or there is no room for it.
    pub(crate) fn accept(
        &mut self,
        id: u32,
        connections: &mut Connections,
        relay: &mut Relay,
    ) -> Option<(Ticket, Reply)> {
        let listener = self.table.get_mut(id)?;
        let wait = *listener.waits.front().filter(|_| listener.ready)?;
        let Ok(region) = connections.reserve() else {
            self.stall(id);
            return None;
        };
        let reply = match sys::accept(&listener.socket) {
            Ok((socket, peer)) => {
                let new = NewConnection {
                    origin: Origin::Accepted {
                        listener_id: id,
                        linger: listener.linger,
                    },
                    socket,
                    region,
                };
                accepted(listener, wait, new, peer, connections, relay)
            }
            Err(Errno::EAGAIN) => {
                listener.ready = false;
                connections.cancel_reservation(region);
                return None;
            }
            Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS) => {
                connections.cancel_reservation(region);
                self.retry_at = Some(Instant::now() + RETRY);
                self.stall(id);
                return None;
            }
            Err(errno) => {
                connections.cancel_reservation(region);
                Reply::AcceptErr(sys::wire_errno(errno))
            }
        };
        listener.waits.pop_front();
        self.waiting -= 1;
        Some((wait.ticket, reply))
    }

    /// Leaves a listener alone until there is room again.
    fn stall(&mut self, id: u32) {
        if let Some(listener) = self.table.get_mut(id)
            && !listener.stalled
        {
            listener.stalled = true;
            self.stalled.push(id);
        }
    }

    /// Has the next turn accept on the listeners that stalled, if there is room again
    /// (`room_freed`) or it is time to retry.
    pub(crate) fn resume_if(&mut self, room_freed: bool) {
        if room_freed || self.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.resume_stalled();
        }
    }

    fn resume_stalled(&mut self) {
        for id in self.stalled.drain(..) {
            if let Some(listener) = self.table.get_mut(id) {
                listener.stalled = false;
                self.ready.push_back(id);
            }
        }
        self.retry_at = None;
    }

    /// What they are and wait for.
    pub(crate) fn state(&self) -> Described<ListenerState> {
        let describe = |id| {
            let listener = self.table.get(id)?;
            Some(ListenerState {
                id,
                local: listener.local,
                accepts_waiting: listener.waits.len(),
                connections_waiting: listener.ready,
                stalled: listener.stalled,
            })
        };
        let ids = self.table.ids().take(MAX_DESCRIBED);
        Described {
            some: ids.filter_map(describe).collect(),
            count: self.table.len(),
        }
    }

    /// When to call [`Listeners::resume_if`], if nothing happens.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }
}

/// Makes a connection of a socket that was accepted; the accept's reply.
fn accepted(
    listener: &Listener,
    wait: WaitingAccept,
    new: NewConnection,
    peer: Option<SocketAddr>,
    connections: &mut Connections,
    relay: &mut Relay,
) -> Reply {
    let addresses = if wait.with_addresses {
        // A listener that is bound to one address knows it without a call.
        let local = match listener.local.ip().is_unspecified() {
            false => Some(listener.local),
            true => new.socket.local_addr().ok().and_then(|a| a.as_socket()),
        };
        let (Some(local), Some(peer)) = (local, peer) else {
            connections.cancel_reservation(new.region);
            return Reply::AcceptErr(sys::wire_errno(Errno::ECONNABORTED));
        };
        Some((Address(local), Address(peer)))
    } else {
        None
    };
    let local = addresses.map(|(local, _)| local.0.ip());
    if !listener.unpaced
        && let Some(peer) = peer
    {
        pacing::stop_within_host(&new.socket, local, peer.ip());
    }
    match (connections.open(new, relay), addresses) {
        (Ok(ready), Some((local, peer))) => Reply::Accepted { ready, local, peer },
        (Ok(ready), None) => Reply::IncomingConnection(ready),
        (Err(errno), _) => Reply::AcceptErr(sys::wire_errno(errno)),
    }
}
