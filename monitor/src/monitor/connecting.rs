//! Connections that go out.
//!
//! A connect never blocks. On loopback it is there as soon as it is asked for a
//! second time, and the reply goes out in the same turn; elsewhere the epoll
//! tells. Of several addresses each is tried in turn.

use super::{Dispatch, Monitor};
use crate::control_pipe::{Ticket, Waiting};
use crate::policy;
use crate::poller::Source;
use crate::resolver::{News, Resolver};
use crate::sys;
use crate::violation::Violation;
use arca_shared::errno::Errno as WireErrno;
use arca_shared::pipe::PipeRegion;
use arca_shared::protocol::message::{Address, Reply};
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

/// ENOENT: there is no host of that name.
const NO_SUCH_NAME: WireErrno = WireErrno(2);

/// A connect that waits for the network, or for a name.
pub(crate) struct Attempt {
    ticket: Ticket,
    goal: Goal,
}

/// Where a connect wants to go, and how far it is.
#[derive(Default)]
pub(super) struct Goal {
    /// Addresses not yet tried.
    remaining: VecDeque<SocketAddr>,
    /// The one being tried.
    current: Option<Trial>,
    /// What the last trial failed with.
    error: Option<WireErrno>,
    /// The reply is Connected rather than ConnectOk.
    with_addresses: bool,
}

/// A socket on its way to an address, with the region that its pipe will have.
struct Trial {
    socket: Socket,
    address: SocketAddr,
    region: PipeRegion,
    /// It is in the epoll.
    watched: bool,
}

impl Goal {
    pub(super) fn address(address: SocketAddr, with_addresses: bool) -> Self {
        Self {
            remaining: VecDeque::from([address]),
            with_addresses,
            ..Self::default()
        }
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

impl Monitor {
    /// Starts a connect.
    pub(super) fn connect(&mut self, request_id: u32, mut goal: Goal) -> Dispatch {
        match self.advance(&mut goal) {
            Some(reply) => reply.into(),
            None => self.wait_for(request_id, goal),
        }
    }

    /// Starts a connect to a host by its name.
    pub(super) fn connect_name(&mut self, request_id: u32, name: &str, port: u16) -> Dispatch {
        if let Some(ip) = literal(name) {
            return self.connect(request_id, Goal::address(SocketAddr::new(ip, port), true));
        }
        if !self.policy.resolves_names() {
            self.relay.warn(format_args!(
                "connecting to a host by its name is denied; without --no-names it would be allowed"
            ));
            return Reply::ConnectErr(WireErrno::EACCES).into();
        }
        let started = self.start_resolver().map_err(sys::wire_errno);
        if let Err(errno) = started.and_then(|()| self.room_for_name()) {
            return Reply::ConnectErr(errno).into();
        }
        let goal = Goal {
            with_addresses: true,
            ..Goal::default()
        };
        let Some(id) = self.add_attempt(request_id, goal) else {
            return Reply::ConnectErr(WireErrno::EAGAIN).into();
        };
        let resolver = self.resolver.as_mut();
        if !resolver.is_some_and(|resolver| resolver.ask(id, name, port)) {
            if let Some(attempt) = self.attempts.remove(id) {
                self.control.forget(attempt.ticket);
            }
            return Reply::ConnectErr(WireErrno::EAGAIN).into();
        }
        Dispatch::Pending
    }

    /// Makes sure that there is a resolver.
    pub(super) fn start_resolver(&mut self) -> Result<(), Errno> {
        if self.resolver.is_none() {
            let resolver =
                Resolver::new(self.config.limits.lookups).map_err(|error| sys::errno_of(&error))?;
            self.reactor.add(resolver.told(), Source::Resolver)?;
            self.resolver = Some(resolver);
        }
        Ok(())
    }

    /// Whether the resolver takes one more name.
    fn room_for_name(&self) -> Result<(), WireErrno> {
        match &self.resolver {
            Some(resolver) if resolver.has_room() => Ok(()),
            _ => Err(WireErrno::EAGAIN),
        }
    }

    /// Takes what the resolver found.
    pub(super) fn take_resolved(&mut self) -> Result<(), Violation> {
        while let Some(news) = self.resolver.as_mut().and_then(Resolver::take) {
            match news {
                News::Resolved { attempt, addresses } => {
                    // One that was given up meanwhile is not found.
                    if let Some(waiting) = self.attempts.get_mut(attempt) {
                        waiting.goal.remaining = addresses.into();
                        waiting.goal.error = Some(NO_SUCH_NAME);
                        self.on_attempt(attempt)?;
                    }
                }
                News::NoThread(error) => self.relay.warn(format_args!(
                    "no further thread to resolve names: {error}; they wait for those there are"
                )),
            }
        }
        Ok(())
    }

    /// Keeps a connect that is under way.
    fn wait_for(&mut self, request_id: u32, goal: Goal) -> Dispatch {
        let Some(id) = self.add_attempt(request_id, goal) else {
            return Reply::ConnectErr(WireErrno::EAGAIN).into();
        };
        match self.watch_attempt(id) {
            Ok(()) => Dispatch::Pending,
            Err(errno) => {
                if let Some(ticket) = self.give_up(id) {
                    self.control.forget(ticket);
                }
                Reply::ConnectErr(sys::wire_errno(errno)).into()
            }
        }
    }

    fn add_attempt(&mut self, request_id: u32, goal: Goal) -> Option<u32> {
        if self.attempts.is_full() || !self.control.may_wait() {
            self.drop_trial(goal.current);
            return None;
        }
        let ticket = self.control.ticket(request_id);
        let id = self.attempts.insert(|_| Attempt { ticket, goal })?;
        self.control.wait(ticket, Waiting::Connect(id));
        Some(id)
    }

    /// Lets the epoll tell when an attempt's socket has come somewhere.
    fn watch_attempt(&mut self, id: u32) -> Result<(), Errno> {
        if let Some(attempt) = self.attempts.get_mut(id)
            && let Some(trial) = &mut attempt.goal.current
            && !trial.watched
        {
            self.reactor.add(&trial.socket, Source::Attempt(id))?;
            trial.watched = true;
        }
        Ok(())
    }

    /// The socket of an attempt has come somewhere, or its name is resolved.
    pub(super) fn on_attempt(&mut self, id: u32) -> Result<(), Violation> {
        let Some(attempt) = self.attempts.get_mut(id) else {
            return Ok(());
        };
        let ticket = attempt.ticket;
        let mut goal = std::mem::take(&mut attempt.goal);
        let reply = match self.advance(&mut goal) {
            Some(reply) => reply,
            None => {
                if let Some(attempt) = self.attempts.get_mut(id) {
                    attempt.goal = goal;
                }
                match self.watch_attempt(id) {
                    Ok(()) => return Ok(()),
                    Err(errno) => Reply::ConnectErr(sys::wire_errno(errno)),
                }
            }
        };
        self.give_up(id);
        self.relay.stats.frames_out += 1;
        self.control.answer(ticket, &reply)
    }

    /// Ends an attempt: its socket is closed, its region freed. Its request is
    /// still to be answered.
    pub(super) fn give_up(&mut self, id: u32) -> Option<Ticket> {
        let attempt = self.attempts.remove(id)?;
        self.drop_trial(attempt.goal.current);
        Some(attempt.ticket)
    }

    fn drop_trial(&mut self, trial: Option<Trial>) {
        if let Some(trial) = trial {
            self.regions.give_back(trial.region);
            drop(trial.socket);
            self.resume_stalled();
        }
    }

    /// Goes on until a connection is there, all addresses have failed, or one
    /// is under way: then there is no reply yet.
    fn advance(&mut self, goal: &mut Goal) -> Option<Reply> {
        loop {
            let Some(trial) = goal.current.take() else {
                let Some(address) = goal.remaining.pop_front() else {
                    self.relay.stats.refused += 1;
                    let errno = goal.error.unwrap_or(WireErrno::UNKNOWN);
                    return Some(Reply::ConnectErr(errno));
                };
                match self.start_trial(policy::destination(address)) {
                    Ok(trial) => goal.current = Some(trial),
                    Err(errno) => goal.error = Some(errno),
                }
                continue;
            };
            match sys::connect(&trial.socket, &trial.address.into()) {
                Ok(()) => match self.connected(trial, goal.with_addresses) {
                    Ok(reply) => return Some(reply),
                    Err(errno) => goal.error = Some(sys::wire_errno(errno)),
                },
                // It was started: loopback has finished it by now.
                Err(Errno::EINPROGRESS) => goal.current = Some(trial),
                Err(Errno::EALREADY) => {
                    goal.current = Some(trial);
                    return None;
                }
                Err(errno) => {
                    goal.error = Some(sys::wire_errno(errno));
                    self.drop_trial(Some(trial));
                }
            }
        }
    }

    fn start_trial(&mut self, address: SocketAddr) -> Result<Trial, WireErrno> {
        if !self.policy.allows_connect(address) {
            let rule = policy::Rule::exactly(address);
            self.relay.warn(format_args!(
                "connecting to {address} is denied; --allow-connect {rule} would allow it"
            ));
            return Err(WireErrno::EACCES);
        }
        if self.connections.is_full() {
            return Err(WireErrno::ENFILE);
        }
        let region = self.regions.allocate().ok_or(WireErrno::ENOBUFS)?;
        let kind = Type::STREAM.nonblocking();
        match Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP)) {
            Ok(socket) => Ok(Trial {
                socket,
                address,
                region,
                watched: false,
            }),
            Err(error) => {
                self.regions.give_back(region);
                Err(sys::wire_errno(sys::errno_of(&error)))
            }
        }
    }

    /// Makes a connection of a socket that has arrived.
    fn connected(&mut self, trial: Trial, with_addresses: bool) -> Result<Reply, Errno> {
        let local = match with_addresses {
            false => None,
            true => match trial.socket.local_addr().map(|a| a.as_socket()) {
                Ok(Some(local)) => Some(Address(local)),
                _ => {
                    self.drop_trial(Some(trial));
                    return Err(Errno::ENOTCONN);
                }
            },
        };
        let peer = Address(trial.address);
        let opened = self.open_connection(0, trial.socket, trial.region, trial.watched);
        let ready = opened.inspect_err(|_| self.resume_stalled())?;
        self.relay.stats.connections_out += 1;
        Ok(match local {
            Some(local) => Reply::Connected { ready, local, peer },
            None => Reply::ConnectOk(ready),
        })
    }
}
