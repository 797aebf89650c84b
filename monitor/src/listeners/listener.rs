//! A listening socket and the accepts that wait on it.

use crate::pacing;
use crate::requests::Ticket;
use crate::sys;
use arca_shared::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

/// Backlog where the guest leaves the choice to the host.
const DEFAULT_BACKLOG: i32 = 4096;

/// A listener.
pub(crate) struct Listener {
    pub(crate) socket: Socket,
    /// The address it is bound to.
    pub(crate) local: SocketAddr,
    /// Accepts that wait, in the order in which they came.
    pub(crate) waits: VecDeque<WaitingAccept>,
    /// Epoll said that connections are there, and no accept has said otherwise.
    pub(crate) ready: bool,
    /// It is among those that wait for the host to have room again.
    pub(crate) stalled: bool,
    /// SO_LINGER of the connections it accepts, in the encoding of the wire.
    pub(crate) linger: u64,
    /// What it accepts comes from this host, and is not paced.
    pub(crate) unpaced: bool,
}

/// An accept that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitingAccept {
    pub(crate) ticket: Ticket,
    /// It is to be answered with Accepted rather than IncomingConnection.
    pub(crate) with_addresses: bool,
}

impl Listener {
    /// Binds and listens. `only_v6`: an IPv6 wildcard takes no IPv4 connections;
    /// else it is as the host has it.
    pub(crate) fn bind(address: SocketAddr, only_v6: bool, backlog: u32) -> Result<Self, Errno> {
        let listener = Self::try_bind(address, only_v6, backlog);
        listener.map_err(|error| sys::wire_errno(sys::errno_of(&error)))
    }

    fn try_bind(address: SocketAddr, only_v6: bool, backlog: u32) -> io::Result<Self> {
        let kind = Type::STREAM.nonblocking();
        let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if only_v6 {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        let backlog = match backlog {
            0 => DEFAULT_BACKLOG,
            // The kernel cuts it to its own limit.
            backlog => i32::try_from(backlog).unwrap_or(i32::MAX),
        };
        socket.listen(backlog)?;
        let local = socket.local_addr()?.as_socket().unwrap_or(address);
        // Nobody else reaches an address of loopback.
        let unpaced = pacing::stop_within_host(&socket, None, local.ip());
        Ok(Self {
            socket,
            local,
            waits: VecDeque::new(),
            ready: false,
            stalled: false,
            linger: 0,
            unpaced,
        })
    }

    /// Takes an accept out of the line; whether it was in it.
    pub(crate) fn remove_wait(&mut self, ticket: Ticket) -> bool {
        let before = self.waits.len();
        self.waits.retain(|wait| wait.ticket != ticket);
        self.waits.len() < before
    }
}
