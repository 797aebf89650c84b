//! A listening socket.

use super::ArcaTcpStream;
use super::control_client::{Call, ControlClient, unexpected};
use crate::errno::Errno;
use crate::error::Error;
use crate::protocol::message::{Reply, Request, SocketOption, Target};
use alloc::sync::Arc;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};

/// A listening socket on the host, used from Arca. Dropping it closes it:
/// accepts that wait end with EBADF, and connections that were not accepted are
/// reset by the host's kernel.
///
/// ```
/// use arca_shared::error::Error;
/// use arca_shared::client::ArcaSession;
///
/// /// Greets everyone who comes, one after the other.
/// fn greet(session: &ArcaSession) -> Result<(), Error> {
///     let listener = session.bind(([127, 0, 0, 1], 0).into())?;
///     // The host chose the port.
///     assert_ne!(listener.local_addr().port(), 0);
///     for stream in listener.incoming() {
///         stream?.write_all(b"hello\n")?;
///     }
///     Ok(())
/// }
/// ```
pub struct ArcaTcpListener {
    control: Arc<ControlClient>,
    id: u32,
    local: SocketAddr,
    nonblocking: AtomicBool,
}

impl ArcaTcpListener {
    pub(super) fn new(control: &Arc<ControlClient>, id: u32, local: SocketAddr) -> Self {
        control.open_listener(id);
        Self {
            control: control.clone(),
            id,
            local,
            nonblocking: AtomicBool::new(false),
        }
    }

    fn call(&self) -> Call {
        let request = Request::AcceptFrom {
            listener_id: self.id,
        };
        self.control.call(request)
    }

    fn accepted(&self, reply: &Reply) -> Result<(ArcaTcpStream, SocketAddr), Error> {
        match reply {
            Reply::Accepted { ready, local, peer } => {
                let stream = ArcaTcpStream::join(&self.control, ready, *local, *peer)?;
                Ok((stream, peer.0))
            }
            Reply::AcceptErr(errno) => Err((*errno).into()),
            other => Err(unexpected(other)),
        }
    }

    /// Waits for a connection and gives it with its peer's address.
    ///
    /// # Errors
    ///
    /// EAGAIN if the listener is non-blocking and no connection is there; the
    /// errno that accept(2) gave on the host.
    pub fn accept(&self) -> Result<(ArcaTcpStream, SocketAddr), Error> {
        let call = self.call();
        // Relaxed: an option of this listener, which orders nothing.
        if self.nonblocking.load(Ordering::Relaxed) {
            // The monitor takes the two in order: it accepts what is there, or
            // cancels.
            call.cancel();
            return match self.control.reactor().block_on(call)? {
                Reply::AcceptErr(Errno::ECANCELED) => Err(Errno::EAGAIN.into()),
                reply => self.accepted(&reply),
            };
        }
        self.accepted(&self.control.reactor().block_on(call)?)
    }

    /// As [`ArcaTcpListener::accept`], for a task. Dropping the future cancels
    /// the accept and loses no connection.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpListener::accept`].
    pub async fn accept_async(&self) -> Result<(ArcaTcpStream, SocketAddr), Error> {
        self.accepted(&self.call().await?)
    }

    /// The connections that come in, without end.
    pub fn incoming(&self) -> impl Iterator<Item = Result<ArcaTcpStream, Error>> + '_ {
        core::iter::repeat_with(|| self.accept().map(|(stream, _)| stream))
    }

    /// The address that the listener is bound to, with the port the host chose
    /// where port 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Whether [`ArcaTcpListener::accept`] returns EAGAIN rather than wait.
    pub fn set_nonblocking(&self, nonblocking: bool) {
        self.nonblocking.store(nonblocking, Ordering::Relaxed);
    }

    /// Time to live of the packets of connections that are accepted.
    ///
    /// # Errors
    ///
    /// The errno that getsockopt(2) gave on the host.
    pub fn ttl(&self) -> Result<u32, Error> {
        let target = Target::Listener(self.id);
        let value = self.control.get_option(target, SocketOption::Ttl)?;
        Ok(u32::try_from(value).unwrap_or(u32::MAX))
    }

    /// Sets [`ArcaTcpListener::ttl`].
    ///
    /// # Errors
    ///
    /// The errno that setsockopt(2) gave on the host.
    pub fn set_ttl(&self, ttl: u32) -> Result<(), Error> {
        let target = Target::Listener(self.id);
        self.control
            .set_option(target, SocketOption::Ttl, ttl.into())
    }

    /// The pending error of the socket, which is then no longer pending.
    ///
    /// # Errors
    ///
    /// The errno that getsockopt(2) gave on the host.
    pub fn take_error(&self) -> Result<Option<Error>, Error> {
        let target = Target::Listener(self.id);
        match self.control.get_option(target, SocketOption::Error)? {
            0 => Ok(None),
            errno => Ok(Some(Errno(errno as u32).into())),
        }
    }
}

impl Drop for ArcaTcpListener {
    fn drop(&mut self) {
        self.control.close_listener(self.id);
    }
}
