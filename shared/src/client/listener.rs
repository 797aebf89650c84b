//! A listening socket.

use super::ArcaTcpStream;
use super::control_client::{Call, ControlClient, unexpected};
use crate::errno::Errno;
use crate::error::Error;
use crate::protocol::message::{Reply, SocketOption, Target};
use alloc::sync::Arc;
use core::fmt;
use core::future::Future;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};

/// A listening socket on the host, used from Arca. Dropping its last handle closes it:
/// accepts that wait end with EBADF, and connections that were not accepted are reset.
///
/// A program that waits for nothing between one accept and the next has up to 16
/// connections taken from the kernel's backlog ahead.
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
    core: Arc<ListenerCore>,
}

/// What the handles of one listener share. Dropping it closes the listener.
struct ListenerCore {
    control: Arc<ControlClient>,
    id: u32,
    local: SocketAddr,
    nonblocking: AtomicBool,
}

impl Drop for ListenerCore {
    fn drop(&mut self) {
        self.control.close_listener(self.id);
    }
}

impl ArcaTcpListener {
    pub(super) fn new(control: &Arc<ControlClient>, id: u32, local: SocketAddr) -> Self {
        control.open_listener(id);
        let core = ListenerCore {
            control: control.clone(),
            id,
            local,
            nonblocking: AtomicBool::new(false),
        };
        Self {
            core: Arc::new(core),
        }
    }

    fn call(&self) -> Call {
        self.core.control.accept(self.core.id)
    }

    fn accepted(&self, reply: &Reply) -> Result<(ArcaTcpStream, SocketAddr), Error> {
        match reply {
            Reply::Accepted { ready, local, peer } => {
                let stream = ArcaTcpStream::join(&self.core.control, ready, *local, *peer)?;
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
        if self.core.nonblocking.load(Ordering::Relaxed) {
            // The monitor takes the two in order: it accepts what is there, or
            // cancels.
            call.cancel();
            return match self.core.control.reactor().block_on(call)? {
                Reply::AcceptErr(Errno::ECANCELED) => Err(Errno::EAGAIN.into()),
                reply => self.accepted(&reply),
            };
        }
        self.accepted(&self.core.control.reactor().block_on(call)?)
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
        self.core.local
    }

    /// Whether [`ArcaTcpListener::accept`] returns EAGAIN rather than wait.
    pub fn set_nonblocking(&self, nonblocking: bool) {
        self.core.nonblocking.store(nonblocking, Ordering::Relaxed);
    }

    /// Another handle to the same listener. It closes when the last is dropped.
    #[must_use]
    pub fn try_clone(&self) -> Self {
        Self {
            core: self.core.clone(),
        }
    }

    /// Time to live of the packets of connections that are accepted.
    ///
    /// # Errors
    ///
    /// The errno that getsockopt(2) gave on the host.
    pub fn ttl(&self) -> Result<u32, Error> {
        self.block_on(self.ttl_async())
    }

    /// As [`ArcaTcpListener::ttl`], for a task.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpListener::ttl`].
    pub async fn ttl_async(&self) -> Result<u32, Error> {
        let value = self.get(SocketOption::Ttl).await?;
        Ok(u32::try_from(value).unwrap_or(u32::MAX))
    }

    /// Sets [`ArcaTcpListener::ttl`].
    ///
    /// # Errors
    ///
    /// The errno that setsockopt(2) gave on the host.
    pub fn set_ttl(&self, ttl: u32) -> Result<(), Error> {
        self.block_on(self.set_ttl_async(ttl))
    }

    /// As [`ArcaTcpListener::set_ttl`], for a task.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpListener::set_ttl`].
    pub async fn set_ttl_async(&self, ttl: u32) -> Result<(), Error> {
        self.set(SocketOption::Ttl, ttl.into()).await
    }

    /// Whether connections that are accepted send small writes at once (TCP_NODELAY). A
    /// server that wants it of all of them saves a request for each.
    ///
    /// # Errors
    ///
    /// The errno that getsockopt(2) gave on the host.
    pub fn nodelay(&self) -> Result<bool, Error> {
        self.block_on(self.nodelay_async())
    }

    /// As [`ArcaTcpListener::nodelay`], for a task.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpListener::nodelay`].
    pub async fn nodelay_async(&self) -> Result<bool, Error> {
        Ok(self.get(SocketOption::NoDelay).await? != 0)
    }

    /// Sets [`ArcaTcpListener::nodelay`], for connections that come from now on.
    ///
    /// # Errors
    ///
    /// The errno that setsockopt(2) gave on the host.
    pub fn set_nodelay(&self, nodelay: bool) -> Result<(), Error> {
        self.block_on(self.set_nodelay_async(nodelay))
    }

    /// As [`ArcaTcpListener::set_nodelay`], for a task.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpListener::set_nodelay`].
    pub async fn set_nodelay_async(&self, nodelay: bool) -> Result<(), Error> {
        self.set(SocketOption::NoDelay, nodelay.into()).await
    }

    /// The pending error of the socket, which is then no longer pending.
    ///
    /// # Errors
    ///
    /// The errno that getsockopt(2) gave on the host.
    pub fn take_error(&self) -> Result<Option<Error>, Error> {
        self.block_on(self.take_error_async())
    }

    /// As [`ArcaTcpListener::take_error`], for a task.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpListener::take_error`].
    pub async fn take_error_async(&self) -> Result<Option<Error>, Error> {
        match self.get(SocketOption::Error).await? {
            0 => Ok(None),
            errno => Ok(Some(Errno(errno as u32).into())),
        }
    }

    async fn get(&self, option: SocketOption) -> Result<u64, Error> {
        let target = Target::Listener(self.core.id);
        self.core.control.get_option(target, option).await
    }

    async fn set(&self, option: SocketOption, value: u64) -> Result<(), Error> {
        let target = Target::Listener(self.core.id);
        self.core.control.set_option(target, option, value).await
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.core.control.reactor().block_on(future)
    }
}

impl fmt::Debug for ArcaTcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener")
            .field("local", &self.core.local)
            .field("listener", &self.core.id)
            .finish()
    }
}
