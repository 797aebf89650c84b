//! What each request does, and when it is answered.

use super::Monitor;
use crate::connects::{ConnectTarget, Started};
use crate::options;
use crate::requests::{Ticket, Waiting};
use crate::sys;
use crate::trace::Direction;
use crate::violation::Violation;
use arca_shared::errno::Errno;
use arca_shared::protocol::frame::Frame;
use arca_shared::protocol::message::{
    Address, MessageError, Reply, Request, SocketOption, Target, VERSION, code, feature,
};

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
        let Some(frame) = self.requests.next_frame()? else {
            if self.requests.is_left() && !self.is_draining() {
                // At once: whoever still asks learns that there will be no reply,
                // however long what was written takes to be delivered.
                self.requests.close(&mut self.relay.wakes);
                self.begin_drain();
            }
            return Ok(false);
        };
        if let Dispatch::Reply(reply) = self.dispatch_request(&frame)? {
            self.trace_reply(frame.request_id, &reply);
            let stats = &mut self.relay.stats;
            self.requests.reply(frame.request_id, &reply, stats)?;
        }
        Ok(true)
    }

    /// Replies to a request that has waited.
    fn answer(&mut self, ticket: Ticket, reply: &Reply) -> Result<(), Violation> {
        self.trace_reply(ticket.request_id(), reply);
        self.requests.answer(ticket, reply, &mut self.relay.stats)
    }

    fn trace_reply(&mut self, request_id: u32, reply: &Reply) {
        if let Some(tracer) = &mut self.relay.tracer {
            tracer.frame(Direction::Down, &reply.to_frame(request_id));
        }
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
        if let Some(tracer) = &mut self.relay.tracer {
            tracer.frame(Direction::Up, frame);
        }
        let request = match Request::from_frame(frame) {
            Ok(request) => request,
            Err(MessageError::UnknownType(message_type))
                if self.relay.said_hello
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
            Request::Listen(endpoint) => {
                match self.listeners.listen(endpoint.into(), 0, &mut self.relay) {
                    Ok((listener_id, _)) => Reply::ListenOk { listener_id }.into(),
                    Err(errno) => Reply::ListenErr(errno).into(),
                }
            }
            Request::ListenAt { address, backlog } => {
                match self.listeners.listen(address.0, backlog, &mut self.relay) {
                    Ok((listener_id, local)) => {
                        let local = Address(local);
                        Reply::Listening { listener_id, local }.into()
                    }
                    Err(errno) => Reply::ListenErr(errno).into(),
                }
            }
            Request::Connect(endpoint) => {
                self.connect(id, ConnectTarget::address(endpoint.into(), false))
            }
            Request::ConnectTo(address) => {
                self.connect(id, ConnectTarget::address(address.0, true))
            }
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
            Request::Resolve { port, name } => self.resolve(id, name.as_str(), port),
            Request::AwaitSignal { signals } => self.await_signal(id, signals),
        })
    }

    /// A hello: from now on the peer is none that knows only the draft.
    fn greet(&mut self, version: u32, features: u64) -> Reply {
        let features = features & feature::ALL;
        self.relay.said_hello = true;
        self.connections.end_all_rests();
        if features & feature::NOTIFY != 0 {
            self.end_polling();
        }
        Reply::HelloOk {
            version: version.min(VERSION),
            features,
        }
    }

    fn accept(&mut self, request_id: u32, listener_id: u32, with_addresses: bool) -> Dispatch {
        if self.listeners.get(listener_id).is_none() {
            return Reply::AcceptErr(Errno::EBADF).into();
        }
        if !self.listeners.may_wait() || !self.requests.may_wait() {
            return Reply::AcceptErr(Errno::EAGAIN).into();
        }
        let ticket = self.requests.ticket(request_id);
        self.requests.wait(ticket, Waiting::Accept(listener_id));
        self.listeners.wait(listener_id, ticket, with_addresses);
        Dispatch::Pending
    }

    /// Accepts on a listener while accepts wait and connections come; how many
    /// accepts it answered.
    pub(super) fn accept_on(&mut self, listener_id: u32) -> Result<usize, Violation> {
        let mut answered = 0;
        while let Some((ticket, reply)) =
            self.listeners
                .accept(listener_id, &mut self.connections, &mut self.relay)
        {
            self.answer(ticket, &reply)?;
            answered += 1;
        }
        Ok(answered)
    }

    fn close_listener(&mut self, listener_id: u32) -> Result<Reply, Violation> {
        let Some(waiting) = self.listeners.close(listener_id) else {
            return Ok(Reply::Failed(Errno::EBADF));
        };
        for ticket in waiting {
            self.answer(ticket, &Reply::AcceptErr(Errno::EBADF))?;
        }
        Ok(Reply::Done)
    }

    fn connect(&mut self, request_id: u32, target: ConnectTarget) -> Dispatch {
        let (ticket, may_wait) = (self.requests.ticket(request_id), self.requests.may_wait());
        let (connections, relay) = (&mut self.connections, &mut self.relay);
        let started = self
            .connects
            .start(ticket, may_wait, target, connections, relay);
        self.started(ticket, started)
    }

    fn connect_name(&mut self, request_id: u32, name: &str, port: u16) -> Dispatch {
        let (ticket, may_wait) = (self.requests.ticket(request_id), self.requests.may_wait());
        let (connections, relay) = (&mut self.connections, &mut self.relay);
        let started =
            self.connects
                .start_by_name(ticket, may_wait, (name, port), connections, relay);
        self.started(ticket, started)
    }

    fn started(&mut self, ticket: Ticket, started: Started) -> Dispatch {
        match started {
            Started::Reply(reply) => reply.into(),
            Started::Pending(id) => {
                self.requests.wait(ticket, Waiting::Connect(id));
                Dispatch::Pending
            }
        }
    }

    fn resolve(&mut self, request_id: u32, name: &str, port: u16) -> Dispatch {
        let (ticket, may_wait) = (self.requests.ticket(request_id), self.requests.may_wait());
        let started = self
            .connects
            .resolve(ticket, may_wait, (name, port), &mut self.relay);
        match started {
            Started::Reply(reply) => reply.into(),
            Started::Pending(id) => {
                self.requests.wait(ticket, Waiting::Resolve(id));
                Dispatch::Pending
            }
        }
    }

    fn await_signal(&mut self, request_id: u32, signals: u32) -> Dispatch {
        if !self.requests.may_wait() {
            return Reply::Failed(Errno::EAGAIN).into();
        }
        match self.signals.ask(signals, &self.shared.signals) {
            Ok(Some(signal)) => Reply::SignalCame { signal }.into(),
            Ok(None) => {
                let ticket = self.requests.ticket(request_id);
                self.requests.wait(ticket, Waiting::Signal);
                self.signals.wait(ticket, signals);
                Dispatch::Pending
            }
            Err(errno) => Reply::Failed(errno).into(),
        }
    }

    /// Answers the requests that wait for a signal that came.
    pub(super) fn take_signals(&mut self) -> Result<(), Violation> {
        for (ticket, signal) in self.signals.take(&self.shared.signals) {
            self.answer(ticket, &Reply::SignalCame { signal })?;
        }
        Ok(())
    }

    /// Goes on with a connect whose socket or name has come somewhere, and answers it
    /// if that was its end.
    pub(super) fn resume_connect(&mut self, id: u32) -> Result<(), Violation> {
        let (connections, relay) = (&mut self.connections, &mut self.relay);
        match self.connects.resume(id, connections, relay) {
            Some((ticket, reply)) => self.answer(ticket, &reply),
            None => Ok(()),
        }
    }

    /// Gives up a request that waits; one that was answered already stays so.
    fn cancel(&mut self, request_id: u32) -> Result<Reply, Violation> {
        let Some((ticket, waiting)) = self.requests.oldest(request_id) else {
            return Ok(Reply::Done);
        };
        let reply = match waiting {
            Waiting::Accept(listener_id) => {
                // A connection that is there is accepted first, whatever epoll has
                // reported by now.
                self.listeners.assume_ready(listener_id);
                self.accept_on(listener_id)?;
                if !self.requests.is_waiting(ticket) {
                    return Ok(Reply::Done);
                }
                self.listeners.cancel_wait(listener_id, ticket);
                Reply::AcceptErr(Errno::ECANCELED)
            }
            Waiting::Connect(id) => {
                self.connects.cancel(id, &mut self.connections);
                Reply::ConnectErr(Errno::ECANCELED)
            }
            Waiting::Resolve(id) => {
                self.connects.cancel(id, &mut self.connections);
                Reply::Failed(Errno::ECANCELED)
            }
            Waiting::Signal => {
                // One that came is not lost: it is taken before requests are.
                self.take_signals()?;
                if !self.requests.is_waiting(ticket) {
                    return Ok(Reply::Done);
                }
                self.signals.cancel(ticket);
                Reply::Failed(Errno::ECANCELED)
            }
        };
        self.answer(ticket, &reply)?;
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
