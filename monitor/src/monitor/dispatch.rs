//! What each request does.

use super::Monitor;
use super::connecting::Goal;
use crate::control_pipe::Waiting;
use crate::listener::{Listener, Wait};
use crate::options;
use crate::policy::{Bind, Rule};
use crate::sys;
use crate::violation::Violation;
use arca_shared::errno::Errno;
use arca_shared::protocol::frame::Frame;
use arca_shared::protocol::message::{
    Address, MessageError, Reply, Request, SocketOption, Target, VERSION, code, feature,
};
use log::Level;
use std::net::SocketAddr;

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatch {
    /// Its reply.
    Reply(Reply),
    /// Its reply comes later, and the monitor puts it into the reply ring.
    Pending,
}

impl From<Reply> for Dispatch {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

impl Monitor {
    /// Takes the next request off the control pipe and serves it; whether there
    /// was one.
    pub(super) fn serve_frame(&mut self) -> Result<bool, Violation> {
        let Some(frame) = self.control.next_frame()? else {
            if self.control.is_left() && self.farewell.is_none() {
                // At once: whoever still asks learns that there will be no reply,
                // however long what was written takes to be delivered.
                self.control.close(&mut self.relay.wakes);
                self.say_farewell();
            }
            return Ok(false);
        };
        if let Dispatch::Reply(reply) = self.dispatch_request(&frame)? {
            self.put_reply(frame.request_id, &reply)?;
        }
        Ok(true)
    }

    pub(super) fn put_reply(&mut self, request_id: u32, reply: &Reply) -> Result<(), Violation> {
        self.relay.stats.frames_out += 1;
        self.control.put(request_id, reply)
    }

    /// Carries out one request. Its reply is the caller's to send, unless it
    /// comes later: then [`Monitor::pump_once`] puts it into the reply ring.
    ///
    /// # Errors
    ///
    /// [`Violation`] if the frame is no request, or the guest broke the control
    /// pipe. The session is over then.
    pub fn dispatch_request(&mut self, frame: &Frame) -> Result<Dispatch, Violation> {
        self.relay.stats.frames_in += 1;
        let request = match Request::from_frame(frame) {
            Ok(request) => request,
            Err(MessageError::UnknownType(message_type))
                if self.relay.greeted
                    && message_type >= code::FIRST_EXTENSION
                    && !Reply::has_code(message_type) =>
            {
                return Ok(Reply::Unsupported { message_type }.into());
            }
            Err(error) => return Err(error.into()),
        };
        let id = frame.request_id;
        Ok(match request {
            Request::Hello { version, features } => self.greet(version, features).into(),
            Request::Listen(endpoint) => match self.listen(endpoint.into(), 0) {
                Ok((listener_id, _)) => Reply::ListenOk { listener_id }.into(),
                Err(errno) => Reply::ListenErr(errno).into(),
            },
            Request::ListenAt { address, backlog } => match self.listen(address.0, backlog) {
                Ok((listener_id, local)) => {
                    let local = Address(local);
                    Reply::Listening { listener_id, local }.into()
                }
                Err(errno) => Reply::ListenErr(errno).into(),
            },
            Request::Connect(endpoint) => self.connect(id, Goal::address(endpoint.into(), false)),
            Request::ConnectTo(address) => self.connect(id, Goal::address(address.0, true)),
            Request::ConnectName { port, name } => self.connect_name(id, name.as_str(), port),
            Request::Accept { listener_id } => self.accept(id, listener_id, false),
            Request::AcceptFrom { listener_id } => self.accept(id, listener_id, true),
            Request::CloseListener { listener_id } => self.close_listener(listener_id)?.into(),
            Request::Cancel { request_id } => self.cancel(request_id)?.into(),
            Request::Addresses(target) => reply(self.addresses(target)).into(),
            Request::SetOption {
                target,
                option,
                value,
            } => {
                let result = known(option).and_then(|o| self.set_option(target, o, value));
                reply(result).into()
            }
            Request::GetOption { target, option } => {
                let result = known(option).and_then(|o| self.get_option(target, o));
                reply(result).into()
            }
        })
    }

    /// A hello: from now on the peer is none that knows only the draft.
    fn greet(&mut self, version: u32, features: u64) -> Reply {
        let features = features & feature::ALL;
        self.relay.greeted = true;
        self.regions.end_all_rests();
        if features & feature::NOTIFY != 0 {
            self.end_polling();
        }
        Reply::HelloOk {
            version: version.min(VERSION),
            features,
        }
    }

    fn listen(&mut self, asked: SocketAddr, backlog: u32) -> Result<(u32, SocketAddr), Errno> {
        let bind = self.policy.bind(asked);
        let address = match bind {
            Bind::Asked(address) | Bind::Published(address) => address,
            Bind::WithoutIpv4(address) => {
                let port = asked.port();
                self.relay.log(
                    Level::Info,
                    format_args!("listening on {asked} is without IPv4; --allow-listen 0.0.0.0:{port} would allow that too"),
                );
                address
            }
            Bind::Narrowed(address) => {
                let rule = Rule::exactly(asked);
                self.relay.log(
                    Level::Info,
                    format_args!("listening on {asked} is narrowed to {address}; --allow-listen {rule} would allow it"),
                );
                address
            }
            Bind::Denied => {
                let rule = Rule::exactly(asked);
                self.relay.warn(format_args!(
                    "listening on {asked} is denied; --allow-listen {rule} would allow it"
                ));
                return Err(Errno::EACCES);
            }
        };
        if self.listeners.is_full() {
            return Err(Errno::ENFILE);
        }
        let only_v6 = matches!(bind, Bind::WithoutIpv4(_));
        let listener = Listener::bind(address, only_v6, backlog)?;
        let local = listener.local;
        let id = self.listeners.insert(|_| listener).ok_or(Errno::ENFILE)?;
        if let Some(listener) = self.listeners.get(id)
            && let Err(errno) = self
                .reactor
                .add(&listener.socket, crate::poller::Source::Listener(id))
        {
            self.listeners.remove(id);
            return Err(sys::wire_errno(errno));
        }
        if matches!(bind, Bind::Published(_)) {
            let port = asked.port();
            self.relay.log(
                Level::Info,
                format_args!("the guest's port {port} is published at {local}"),
            );
        }
        Ok((id, local))
    }

    fn accept(&mut self, request_id: u32, listener_id: u32, with_addresses: bool) -> Dispatch {
        let Some(listener) = self.listeners.get_mut(listener_id) else {
            return Reply::AcceptErr(Errno::EBADF).into();
        };
        if self.waiting_accepts >= self.config.limits.accepts || !self.control.may_wait() {
            return Reply::AcceptErr(Errno::EAGAIN).into();
        }
        let ticket = self.control.ticket(request_id);
        self.control.wait(ticket, Waiting::Accept(listener_id));
        self.waiting_accepts += 1;
        listener.waits.push_back(Wait {
            ticket,
            with_addresses,
        });
        if listener.ready && !listener.stalled {
            self.accepting.push(listener_id);
        }
        Dispatch::Pending
    }

    /// Closes a listener; the kernel resets what is in its backlog.
    fn close_listener(&mut self, listener_id: u32) -> Result<Reply, Violation> {
        let Some(listener) = self.listeners.remove(listener_id) else {
            return Ok(Reply::Failed(Errno::EBADF));
        };
        self.stalled.retain(|&id| id != listener_id);
        for wait in &listener.waits {
            self.waiting_accepts -= 1;
            self.relay.stats.frames_out += 1;
            self.control
                .answer(wait.ticket, &Reply::AcceptErr(Errno::EBADF))?;
        }
        drop(listener);
        self.resume_stalled();
        Ok(Reply::Done)
    }

    /// Gives up a request that waits; one that was answered already stays so.
    fn cancel(&mut self, request_id: u32) -> Result<Reply, Violation> {
        let Some((ticket, waiting)) = self.control.oldest(request_id) else {
            return Ok(Reply::Done);
        };
        if let Waiting::Accept(listener_id) = waiting {
            // A connection that is there is accepted first, whatever epoll has
            // said by now.
            if let Some(listener) = self.listeners.get_mut(listener_id) {
                listener.ready = true;
            }
            self.accept_on(listener_id)?;
            if !self.control.is_waiting(ticket) {
                return Ok(Reply::Done);
            }
        }
        let reply = match waiting {
            Waiting::Accept(listener_id) => {
                if let Some(listener) = self.listeners.get_mut(listener_id) {
                    listener.remove_wait(ticket);
                }
                self.waiting_accepts -= 1;
                Reply::AcceptErr(Errno::ECANCELED)
            }
            Waiting::Connect(attempt) => {
                self.give_up(attempt);
                Reply::ConnectErr(Errno::ECANCELED)
            }
        };
        self.relay.stats.frames_out += 1;
        self.control.answer(ticket, &reply)?;
        Ok(Reply::Done)
    }

    fn addresses(&self, target: Target) -> Result<Reply, Errno> {
        match target {
            Target::Listener(id) => {
                let listener = self.listeners.get(id).ok_or(Errno::EBADF)?;
                Ok(Reply::AddressesOk {
                    local: Address(listener.local),
                    peer: None,
                })
            }
            Target::Connection(id) => {
                let connection = self.connections.get(id).ok_or(Errno::EBADF)?;
                let socket = connection.socket().ok_or(Errno::ENOTCONN)?;
                let address = |result: std::io::Result<socket2::SockAddr>| match result {
                    Ok(address) => address.as_socket().ok_or(Errno::EAFNOSUPPORT),
                    Err(error) => Err(sys::wire_errno(sys::errno_of(&error))),
                };
                Ok(Reply::AddressesOk {
                    local: Address(address(socket.local_addr())?),
                    // None once the peer is gone.
                    peer: address(socket.peer_addr()).ok().map(Address),
                })
            }
        }
    }

    fn set_option(
        &mut self,
        target: Target,
        option: SocketOption,
        value: u64,
    ) -> Result<Reply, Errno> {
        let result = match target {
            Target::Listener(id) => {
                let listener = self.listeners.get_mut(id).ok_or(Errno::EBADF)?;
                options::set(&listener.socket, &mut listener.linger, option, value)
            }
            Target::Connection(id) => {
                let connection = self.connections.get_mut(id).ok_or(Errno::EBADF)?;
                let mut linger = connection.linger;
                let socket = connection.socket().ok_or(Errno::ENOTCONN)?;
                let result = options::set(socket, &mut linger, option, value);
                connection.linger = linger;
                result
            }
        };
        result.map(|()| Reply::Done).map_err(sys::wire_errno)
    }

    fn get_option(&self, target: Target, option: SocketOption) -> Result<Reply, Errno> {
        let result = match target {
            Target::Listener(id) => {
                let listener = self.listeners.get(id).ok_or(Errno::EBADF)?;
                options::get(&listener.socket, listener.linger, option)
            }
            Target::Connection(id) => {
                let connection = self.connections.get(id).ok_or(Errno::EBADF)?;
                let socket = connection.socket().ok_or(Errno::ENOTCONN)?;
                options::get(socket, connection.linger, option)
            }
        };
        result.map(Reply::OptionValue).map_err(sys::wire_errno)
    }
}

/// The option of that number.
fn known(option: u8) -> Result<SocketOption, Errno> {
    SocketOption::from_number(option).ok_or(Errno::ENOPROTOOPT)
}

fn reply(result: Result<Reply, Errno>) -> Reply {
    result.unwrap_or_else(Reply::Failed)
}
