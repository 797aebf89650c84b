//! A connect that waits for the network, or for a name.

use crate::requests::Ticket;
use arca_shared::errno::Errno as WireErrno;
use arca_shared::pipe::PipeRegion;
use socket2::Socket;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// A connect whose request waits for the reply.
pub(super) struct PendingConnect {
    pub(super) ticket: Ticket,
    pub(super) target: ConnectTarget,
}

/// Where a connect is to go, and how far it is.
#[derive(Default)]
pub(crate) struct ConnectTarget {
    /// Addresses not yet tried.
    pub(super) remaining: VecDeque<SocketAddr>,
    /// The one being tried.
    pub(super) current: Option<Candidate>,
    /// What the last one failed with.
    pub(super) error: Option<WireErrno>,
    /// The reply is Connected rather than ConnectOk.
    pub(super) with_addresses: bool,
    /// The addresses are all that is wanted.
    pub(super) only_resolve: bool,
}

/// A socket on its way to an address, with the region that its pipe will have.
pub(super) struct Candidate {
    pub(super) socket: Socket,
    pub(super) address: SocketAddr,
    pub(super) region: PipeRegion,
    /// It is in the epoll.
    pub(super) registered: bool,
    /// It goes to loopback, and is not paced.
    pub(super) unpaced: bool,
}

impl ConnectTarget {
    pub(crate) fn address(address: SocketAddr, with_addresses: bool) -> Self {
        Self {
            remaining: VecDeque::from([address]),
            with_addresses,
            ..Self::default()
        }
    }

    /// A host whose addresses the resolver has yet to find.
    pub(super) fn unresolved(only_resolve: bool) -> Self {
        Self {
            with_addresses: true,
            only_resolve,
            ..Self::default()
        }
    }
}
