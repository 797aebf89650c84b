//! A session with the monitor.

use super::control_client::{Call, ControlClient, unexpected};
use super::{ArcaTcpListener, ArcaTcpStream};
use crate::client::reactor::Reactor;
use crate::errno::Errno;
use crate::error::Error;
use crate::pipe::{PipeError, PipePlace};
use crate::protocol::message::{Address, Name, Reply, Request, VERSION, feature};
use alloc::sync::Arc;
use core::future::{Future, poll_fn};
use core::net::SocketAddr;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;

/// A session with the monitor: where connections come from.
///
/// A clone is another handle to the same session. Any number of tasks and vCPUs
/// may use it at once. Dropping the last handle does not end connections: they
/// hold the session themselves.
///
/// ```
/// use arca_shared::errno::ErrorKind;
/// use arca_shared::error::Error;
/// use arca_shared::client::{ArcaSession, Shutdown};
/// use core::net::SocketAddr;
/// use core::time::Duration;
///
/// /// Asks a server, and gives its whole answer; none if there is no server.
/// fn ask(session: &ArcaSession, server: SocketAddr) -> Result<Option<Vec<u8>>, Error> {
///     let stream = match session.connect_timeout(server, Duration::from_secs(5)) {
///         Ok(stream) => stream,
///         Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(None),
///         Err(error) => return Err(error),
///     };
///     stream.write_all(b"what time is it?\n")?;
///     stream.shutdown(Shutdown::Write)?;
///     let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
///     loop {
///         match stream.read(&mut buffer)? {
///             0 => return Ok(Some(answer)),
///             len => answer.extend_from_slice(&buffer[..len]),
///         }
///     }
/// }
/// ```
#[derive(Clone)]
pub struct ArcaSession {
    control: Arc<ControlClient>,
}

impl ArcaSession {
    /// Opens the session over the control pipe at `control` and says hello.
    /// There may be one for each control pipe.
    ///
    /// # Errors
    ///
    /// [`PipeError`] if the place cannot be one of a pipe.
    pub fn open(reactor: &Arc<Reactor>, control: PipePlace) -> Result<Self, PipeError> {
        let control = ControlClient::join(reactor, control)?;
        // Nothing waits for the answer: a monitor that does not know a request
        // says so in its reply to that request.
        control.post(Request::Hello {
            version: VERSION,
            features: feature::ALL,
        });
        // The first doorbell ends the monitor's polling for good.
        reactor.hal().ring_doorbell();
        Ok(Self { control })
    }

    /// The reactor that the session waits with.
    #[must_use]
    pub fn reactor(&self) -> &Arc<Reactor> {
        self.control.reactor()
    }

    /// Connects to `address`, waiting until the connection is there.
    ///
    /// # Errors
    ///
    /// The errno that connect(2) gave on the host; EACCES where the host's
    /// policy forbids the address; ENOBUFS where the arena is full.
    pub fn connect(&self, address: SocketAddr) -> Result<ArcaTcpStream, Error> {
        self.reactor().block_on(self.connect_async(address))
    }

    /// As [`ArcaSession::connect`], giving up after `timeout`.
    ///
    /// # Errors
    ///
    /// ETIMEDOUT; else as [`ArcaSession::connect`].
    pub fn connect_timeout(
        &self,
        address: SocketAddr,
        timeout: Duration,
    ) -> Result<ArcaTcpStream, Error> {
        if timeout.is_zero() {
            return Err(Errno::EINVAL.into());
        }
        let connected = self.timeout(timeout, self.connect_async(address));
        self.reactor().block_on(connected)
    }

    /// As [`ArcaSession::connect`], for a task. Dropping the future cancels the
    /// connect on the host too.
    ///
    /// # Errors
    ///
    /// As [`ArcaSession::connect`].
    pub async fn connect_async(&self, address: SocketAddr) -> Result<ArcaTcpStream, Error> {
        let call = self.control.call(Request::ConnectTo(Address(address)));
        self.connected(call).await
    }

    /// Connects to a host by name, or by an address in text form: the host
    /// resolves the name, and each of its addresses is tried in turn.
    ///
    /// # Errors
    ///
    /// ENOENT if the name has no address; else what the last address tried gave.
    pub fn connect_name(&self, name: &str, port: u16) -> Result<ArcaTcpStream, Error> {
        self.reactor().block_on(self.connect_name_async(name, port))
    }

    /// As [`ArcaSession::connect_name`], for a task.
    ///
    /// # Errors
    ///
    /// As [`ArcaSession::connect_name`].
    pub async fn connect_name_async(&self, name: &str, port: u16) -> Result<ArcaTcpStream, Error> {
        let name = Name::new(name).ok_or(Errno::EINVAL)?;
        let call = self.control.call(Request::ConnectName { port, name });
        self.connected(call).await
    }

    async fn connected(&self, call: Call) -> Result<ArcaTcpStream, Error> {
        match call.await? {
            Reply::Connected { ready, local, peer } => {
                ArcaTcpStream::join(&self.control, &ready, local, peer)
            }
            Reply::ConnectErr(errno) => Err(errno.into()),
            other => Err(unexpected(&other)),
        }
    }

    /// The addresses of a host by its name, or of the address that the name is the text
    /// of: the one that [`ArcaSession::connect_name`] would try first, and the first of
    /// the other family. Both have that port.
    ///
    /// # Errors
    ///
    /// ENOENT if the name has no address; EACCES where the host's policy resolves no
    /// names.
    pub async fn resolve_async(
        &self,
        name: &str,
        port: u16,
    ) -> Result<(SocketAddr, Option<SocketAddr>), Error> {
        let name = Name::new(name).ok_or(Errno::EINVAL)?;
        match self.control.call(Request::Resolve { port, name }).await? {
            Reply::Resolved { first, other } => Ok((first.0, other.map(|address| address.0))),
            other => Err(unexpected(&other)),
        }
    }

    /// [`ArcaSession::resolve_async`], waiting.
    ///
    /// # Errors
    ///
    /// As [`ArcaSession::resolve_async`].
    pub fn resolve(
        &self,
        name: &str,
        port: u16,
    ) -> Result<(SocketAddr, Option<SocketAddr>), Error> {
        self.reactor().block_on(self.resolve_async(name, port))
    }

    /// Waits for one of these signals to the host's process: bit n stands for signal n.
    /// From the first call on they do not stop the session by themselves; one that
    /// comes while nobody waits is what the next call gives.
    ///
    /// # Errors
    ///
    /// EINVAL for signals that cannot be waited for; ENOSYS from a host that does not
    /// know of it.
    pub async fn signal(&self, signals: u32) -> Result<u8, Error> {
        match self.control.call(Request::AwaitSignal { signals }).await? {
            Reply::SignalCame { signal } => Ok(signal),
            other => Err(unexpected(&other)),
        }
    }

    /// Listens on `address`; port 0 lets the host choose, and
    /// [`ArcaTcpListener::local_addr`] tells which port that is.
    ///
    /// # Errors
    ///
    /// The errno that bind(2) or listen(2) gave on the host (EADDRINUSE,
    /// EADDRNOTAVAIL); EACCES where the host's policy forbids the address.
    pub fn bind(&self, address: SocketAddr) -> Result<ArcaTcpListener, Error> {
        self.reactor().block_on(self.bind_async(address))
    }

    /// As [`ArcaSession::bind`], for a task.
    ///
    /// # Errors
    ///
    /// As [`ArcaSession::bind`].
    pub async fn bind_async(&self, address: SocketAddr) -> Result<ArcaTcpListener, Error> {
        self.bind_with_backlog(address, 0).await
    }

    /// As [`ArcaSession::bind`], with room for `backlog` connections that wait to
    /// be accepted; 0 is the host's default.
    ///
    /// # Errors
    ///
    /// As [`ArcaSession::bind`].
    pub async fn bind_with_backlog(
        &self,
        address: SocketAddr,
        backlog: u32,
    ) -> Result<ArcaTcpListener, Error> {
        let address = Address(address);
        let call = self.control.call(Request::ListenAt { address, backlog });
        match call.await? {
            Reply::Listening { listener_id, local } => {
                Ok(ArcaTcpListener::new(&self.control, listener_id, local.0))
            }
            Reply::ListenErr(errno) => Err(errno.into()),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits for a connection on a listener of this session, and gives it with
    /// its peer's address.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpListener::accept`].
    pub fn accept(&self, listener: &ArcaTcpListener) -> Result<(ArcaTcpStream, SocketAddr), Error> {
        listener.accept()
    }

    /// Runs `future`, or gives ETIMEDOUT and drops it when `timeout` has passed.
    ///
    /// # Errors
    ///
    /// ETIMEDOUT; else as the future.
    pub async fn timeout<T>(
        &self,
        timeout: Duration,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        let deadline = self.reactor().hal().now().saturating_add(nanos);
        let mut timer = pin!(self.reactor().sleep_until(deadline));
        let mut future = pin!(future);
        poll_fn(|context| {
            if let Poll::Ready(result) = future.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            let expired = timer.as_mut().poll(context);
            expired.map(|()| Err(Errno::ETIMEDOUT.into()))
        })
        .await
    }
}
