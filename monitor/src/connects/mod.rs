//! Connects: the connections that go out, until each is there or has failed.
//!
//! A connect never blocks. On loopback it is there as soon as it is asked for a
//! second time, and the reply goes out in the same turn; elsewhere the epoll
//! reports it. Of several addresses each is tried in turn.

mod pending;
mod resolver;

pub(crate) use pending::ConnectTarget;

use crate::connections::{Connections, NewConnection, Origin};
use crate::pacing;
use crate::policy::{self, Policy};
use crate::poller::{Registry, Source};
use crate::relay::Relay;
use crate::requests::Ticket;
use crate::state::{ConnectState, Described, MAX_DESCRIBED};
use crate::sys;
use crate::table::Table;
use arca_shared::errno::Errno as WireErrno;
use arca_shared::protocol::message::{Address, Reply};
use nix::errno::Errno;
use pending::{Candidate, PendingConnect};
use resolver::{News, Resolver};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// ENOENT: there is no host of that name.
const NO_SUCH_NAME: WireErrno = WireErrno(2);

/// The connects of a session.
pub(crate) struct Connects {
    policy: Arc<Policy>,
    registry: Registry,
    pending: Table<PendingConnect>,
    resolver: Option<Resolver>,
    /// Most names that are resolved at a time.
    lookups: usize,
}

/// What came of the start of a connect.
pub(crate) enum Started {
    /// Its reply.
    Reply(Reply),
    /// It is pending, under that id.
    Pending(u32),
}

impl From<WireErrno> for Started {
    fn from(errno: WireErrno) -> Self {
        Self::Reply(Reply::ConnectErr(errno))
    }
}

/// The address that a name is the text of: an IPv6 one may be in brackets.
fn literal(name: &str) -> Option<IpAddr> {
    let bracketed = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    match bracketed {
        Some(v6) => v6.parse().ok().map(IpAddr::V6),
        None => name.parse().ok(),
    }
}

impl Connects {
    /// At most `limit` connects, and of those at most `lookups` that wait for a name.
    pub(crate) fn new(
        policy: Arc<Policy>,
        registry: Registry,
        limit: usize,
        lookups: usize,
    ) -> Self {
        Self {
            policy,
            registry,
            pending: Table::new(limit),
            resolver: None,
            lookups,
        }
    }

    /// Starts the resolver, if the guest may have names resolved.
    pub(crate) fn prepare(&mut self) -> Result<(), Errno> {
        match self.policy.resolves_names() {
            true => self.start_resolver(),
            false => Ok(()),
        }
    }

    /// Starts a connect. `may_wait`: its request may wait for the reply.
    pub(crate) fn start(
        &mut self,
        ticket: Ticket,
        may_wait: bool,
        mut target: ConnectTarget,
        connections: &mut Connections,
        relay: &mut Relay,
    ) -> Started {
        if let Some(reply) = self.advance(&mut target, connections, relay) {
            return Started::Reply(reply);
        }
        if self.pending.is_full() || !may_wait {
            drop_candidate(target.current, connections);
            return WireErrno::EAGAIN.into();
        }
        let Some(id) = self.pending.insert(|_| PendingConnect { ticket, target }) else {
            return WireErrno::EAGAIN.into();
        };
        match self.watch(id) {
            Ok(()) => Started::Pending(id),
            Err(errno) => {
                self.cancel(id, connections);
                sys::wire_errno(errno).into()
            }
        }
    }

    /// Starts a connect to a host by its name. `may_wait` as above.
    pub(crate) fn start_by_name(
        &mut self,
        ticket: Ticket,
        may_wait: bool,
        (name, port): (&str, u16),
        connections: &mut Connections,
        relay: &mut Relay,
    ) -> Started {
        if let Some(ip) = literal(name) {
            let target = ConnectTarget::address(SocketAddr::new(ip, port), true);
            return self.start(ticket, may_wait, target, connections, relay);
        }
        match self.look_up(ticket, may_wait, (name, port), false, relay) {
            Ok(id) => Started::Pending(id),
            Err(errno) => errno.into(),
        }
    }

    /// Finds the addresses of a host by its name. `may_wait` as above.
    pub(crate) fn resolve(
        &mut self,
        ticket: Ticket,
        may_wait: bool,
        (name, port): (&str, u16),
        relay: &mut Relay,
    ) -> Started {
        if let Some(ip) = literal(name) {
            return Started::Reply(resolved([SocketAddr::new(ip, port)]));
        }
        match self.look_up(ticket, may_wait, (name, port), true, relay) {
            Ok(id) => Started::Pending(id),
            Err(errno) => Started::Reply(Reply::Failed(errno)),
        }
    }

    /// Asks the resolver for a name: the id under which that is pending.
    fn look_up(
        &mut self,
        ticket: Ticket,
        may_wait: bool,
        (name, port): (&str, u16),
        only_resolve: bool,
        relay: &mut Relay,
    ) -> Result<u32, WireErrno> {
        if !self.policy.resolves_names() {
            relay.warn(format_args!(
                "connecting to a host by its name is denied; without --no-names it would be allowed"
            ));
            return Err(WireErrno::EACCES);
        }
        self.start_resolver().map_err(sys::wire_errno)?;
        let resolver = self.resolver.as_mut().filter(|r| r.has_room());
        let resolver = resolver.ok_or(WireErrno::EAGAIN)?;
        if self.pending.is_full() || !may_wait {
            return Err(WireErrno::EAGAIN);
        }
        let target = ConnectTarget::unresolved(only_resolve);
        let pending = self.pending.insert(|_| PendingConnect { ticket, target });
        let id = pending.ok_or(WireErrno::EAGAIN)?;
        if !resolver.ask(id, name, port) {
            self.pending.remove(id);
            return Err(WireErrno::EAGAIN);
        }
        Ok(id)
    }

    /// Makes sure that there is a resolver.
    fn start_resolver(&mut self) -> Result<(), Errno> {
        if self.resolver.is_none() {
            let resolver = Resolver::new(self.lookups).map_err(|error| sys::errno_of(&error))?;
            self.registry
                .register(resolver.eventfd(), Source::Resolver)?;
            self.resolver = Some(resolver);
        }
        Ok(())
    }

    /// Takes what the resolver found: the next connect that goes on with it.
    pub(crate) fn take_resolved(&mut self, relay: &mut Relay) -> Option<u32> {
        loop {
            match self.resolver.as_mut()?.take()? {
                News::Resolved { connect, addresses } => {
                    // One that was cancelled meanwhile is not found.
                    if let Some(pending) = self.pending.get_mut(connect) {
                        pending.target.remaining = addresses.into();
                        pending.target.error = Some(NO_SUCH_NAME);
                        return Some(connect);
                    }
                }
                News::NoThread(error) => relay.warn(format_args!(
                    "no further thread to resolve names: {error}; they wait for those there are"
                )),
            }
        }
    }

    /// Goes on with a pending connect, whose socket epoll has reported or whose name is
    /// resolved. If that was the end of it: its request, and the reply.
    pub(crate) fn resume(
        &mut self,
        id: u32,
        connections: &mut Connections,
        relay: &mut Relay,
    ) -> Option<(Ticket, Reply)> {
        let pending = self.pending.get_mut(id)?;
        let ticket = pending.ticket;
        let mut target = std::mem::take(&mut pending.target);
        if target.only_resolve {
            self.pending.remove(id);
            return Some((ticket, resolved(target.remaining)));
        }
        let reply = match self.advance(&mut target, connections, relay) {
            Some(reply) => reply,
            None => {
                if let Some(pending) = self.pending.get_mut(id) {
                    pending.target = target;
                }
                match self.watch(id) {
                    Ok(()) => return None,
                    Err(errno) => Reply::ConnectErr(sys::wire_errno(errno)),
                }
            }
        };
        self.cancel(id, connections);
        Some((ticket, reply))
    }

    /// Ends a pending connect: its socket is closed, its region freed. Its request is
    /// the caller's to answer.
    pub(crate) fn cancel(&mut self, id: u32, connections: &mut Connections) {
        if let Some(pending) = self.pending.remove(id) {
            drop_candidate(pending.target.current, connections);
        }
    }

    /// Ends all of them: the session is over.
    pub(crate) fn cancel_all(&mut self, connections: &mut Connections) {
        for pending in self.pending.drain() {
            drop_candidate(pending.target.current, connections);
        }
        self.resolver = None;
    }

    /// Where they go.
    pub(crate) fn state(&self) -> Described<ConnectState> {
        let describe = |id| {
            let target = &self.pending.get(id)?.target;
            Some(ConnectState {
                address: target.current.as_ref().map(|candidate| candidate.address),
                remaining: target.remaining.len(),
            })
        };
        let ids = self.pending.ids().take(MAX_DESCRIBED);
        Described {
            some: ids.filter_map(describe).collect(),
            count: self.pending.len(),
        }
    }

    /// Has epoll report when the socket of a pending connect has come somewhere.
    fn watch(&mut self, id: u32) -> Result<(), Errno> {
        if let Some(pending) = self.pending.get_mut(id)
            && let Some(candidate) = &mut pending.target.current
            && !candidate.registered
        {
            self.registry
                .register(&candidate.socket, Source::Connect(id))?;
            candidate.registered = true;
        }
        Ok(())
    }

    /// Goes on until a connection is there, all addresses have failed, or one
    /// is under way: then there is no reply yet.
    fn advance(
        &self,
        target: &mut ConnectTarget,
        connections: &mut Connections,
        relay: &mut Relay,
    ) -> Option<Reply> {
        loop {
            let Some(candidate) = target.current.take() else {
                let Some(address) = target.remaining.pop_front() else {
                    relay.stats.refused += 1;
                    let errno = target.error.unwrap_or(WireErrno::UNKNOWN);
                    return Some(Reply::ConnectErr(errno));
                };
                match self.try_address(policy::destination(address), connections, relay) {
                    Ok(candidate) => target.current = Some(candidate),
                    Err(errno) => target.error = Some(errno),
                }
                continue;
            };
            match sys::connect(&candidate.socket, &candidate.address.into()) {
                Ok(()) => match connected(candidate, target.with_addresses, connections, relay) {
                    Ok(reply) => return Some(reply),
                    Err(errno) => target.error = Some(sys::wire_errno(errno)),
                },
                // It was started: loopback has finished it by now.
                Err(Errno::EINPROGRESS) => target.current = Some(candidate),
                Err(Errno::EALREADY) => {
                    target.current = Some(candidate);
                    return None;
                }
                Err(errno) => {
                    if errno == Errno::EACCES {
                        relay.warn(format_args!(
                            "connecting to {} is denied by the host's kernel, whatever is allowed here",
                            candidate.address
                        ));
                    }
                    target.error = Some(sys::wire_errno(errno));
                    drop_candidate(Some(candidate), connections);
                }
            }
        }
    }

    /// A socket for an address, with a region for its pipe.
    fn try_address(
        &self,
        address: SocketAddr,
        connections: &mut Connections,
        relay: &mut Relay,
    ) -> Result<Candidate, WireErrno> {
        if !self.policy.allows_connect(address) {
            let rule = policy::Rule::exactly(address);
            relay.warn(format_args!(
                "connecting to {address} is denied; --allow-connect {rule} would allow it"
            ));
            return Err(WireErrno::EACCES);
        }
        let region = connections.reserve()?;
        let kind = Type::STREAM.nonblocking();
        match Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP)) {
            Ok(socket) => {
                let unpaced = pacing::stop_within_host(&socket, None, address.ip());
                Ok(Candidate {
                    socket,
                    address,
                    region,
                    registered: false,
                    unpaced,
                })
            }
            Err(error) => {
                connections.cancel_reservation(region);
                Err(sys::wire_errno(sys::errno_of(&error)))
            }
        }
    }
}

/// The reply that tells of these addresses: the first, and the first of the other family.
fn resolved(addresses: impl IntoIterator<Item = SocketAddr>) -> Reply {
    let mut addresses = addresses.into_iter();
    let Some(first) = addresses.next() else {
        return Reply::Failed(NO_SUCH_NAME);
    };
    let other = addresses.find(|address| address.is_ipv4() != first.is_ipv4());
    Reply::Resolved {
        first: Address(first),
        other: other.map(Address),
    }
}

/// Makes a connection of a socket that is connected.
fn connected(
    candidate: Candidate,
    with_addresses: bool,
    connections: &mut Connections,
    relay: &mut Relay,
) -> Result<Reply, Errno> {
    let local = match with_addresses {
        false => None,
        true => match candidate.socket.local_addr().map(|a| a.as_socket()) {
            Ok(Some(local)) => Some(Address(local)),
            _ => {
                drop_candidate(Some(candidate), connections);
                return Err(Errno::ENOTCONN);
            }
        },
    };
    let peer = Address(candidate.address);
    if !candidate.unpaced {
        let local = local.map(|local| local.0.ip());
        pacing::stop_within_host(&candidate.socket, local, peer.0.ip());
    }
    let new = NewConnection {
        origin: Origin::Connected {
            registered: candidate.registered,
        },
        socket: candidate.socket,
        region: candidate.region,
    };
    let ready = connections.open(new, relay)?;
    Ok(match local {
        Some(local) => Reply::Connected { ready, local, peer },
        None => Reply::ConnectOk(ready),
    })
}

/// Closes a socket that was on its way, and frees its region.
fn drop_candidate(candidate: Option<Candidate>, connections: &mut Connections) {
    if let Some(candidate) = candidate {
        connections.cancel_reservation(candidate.region);
        connections.note_room_freed();
    }
}
