//! Whom to connect to, and a program's one session.

use super::{ArcaSession, ArcaTcpListener, ArcaTcpStream, AsyncTcpStream};
use crate::errno::Errno;
use crate::error::Error;
use alloc::string::String;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use core::time::Duration;
use spin::Once;

/// A place to connect to: an address, or a name that the host resolves, and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Host<'a> {
    /// An address.
    Address(SocketAddr),
    /// A name.
    Name(&'a str, u16),
}

/// What says where to connect to: an address with its port, a name or an address with
/// its port, or a text of the form `HOST:PORT`.
pub trait ToHost {
    /// The place.
    ///
    /// # Errors
    ///
    /// EINVAL for a text that is none.
    fn to_host(&self) -> Result<Host<'_>, Error>;
}

macro_rules! addresses {
    ($($type:ty),+) => {
        $(impl ToHost for $type {
            fn to_host(&self) -> Result<Host<'_>, Error> {
                Ok(Host::Address(SocketAddr::from(*self)))
            }
        })+
    };
}

addresses!(SocketAddr, SocketAddrV4, SocketAddrV6, (IpAddr, u16));
addresses!((Ipv4Addr, u16), (Ipv6Addr, u16), ([u8; 4], u16));

impl ToHost for Host<'_> {
    fn to_host(&self) -> Result<Host<'_>, Error> {
        Ok(*self)
    }
}

impl ToHost for (&str, u16) {
    fn to_host(&self) -> Result<Host<'_>, Error> {
        let (name, port) = *self;
        match name.parse::<IpAddr>() {
            Ok(ip) => Ok(Host::Address(SocketAddr::new(ip, port))),
            Err(_) => Ok(Host::Name(name, port)),
        }
    }
}

impl ToHost for str {
    fn to_host(&self) -> Result<Host<'_>, Error> {
        if let Ok(address) = self.parse() {
            return Ok(Host::Address(address));
        }
        let parts = self.rsplit_once(':');
        let host = parts.and_then(|(name, port)| Some(Host::Name(name, port.parse().ok()?)));
        host.filter(|host| !matches!(host, Host::Name("", _)))
            .ok_or(Errno::EINVAL.into())
    }
}

impl ToHost for String {
    fn to_host(&self) -> Result<Host<'_>, Error> {
        self.as_str().to_host()
    }
}

impl<T: ToHost + ?Sized> ToHost for &T {
    fn to_host(&self) -> Result<Host<'_>, Error> {
        (**self).to_host()
    }
}

/// The session of a program that has only one.
static PROGRAM: Once<ArcaSession> = Once::new();

impl ArcaSession {
    /// Makes this the program's session, which [`ArcaTcpStream::connect`] and
    /// [`ArcaTcpListener::bind`] use. The first one stays.
    pub fn make_the_programs(&self) {
        PROGRAM.call_once(|| self.clone());
    }

    /// The program's session.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`] if there is none.
    pub fn of_the_program() -> Result<&'static Self, Error> {
        PROGRAM.get().ok_or(Error::SessionEnded)
    }

    /// Connects to `host`.
    ///
    /// # Errors
    ///
    /// As [`ArcaSession::connect`] and [`ArcaSession::connect_name`].
    pub async fn connect_host_async(&self, host: Host<'_>) -> Result<ArcaTcpStream, Error> {
        match host {
            Host::Address(address) => self.connect_async(address).await,
            Host::Name(name, port) => self.connect_name_async(name, port).await,
        }
    }
}

impl ArcaTcpStream {
    /// Connects to `to`, in the program's session.
    ///
    /// # Errors
    ///
    /// EINVAL if `to` is no place; else as [`ArcaSession::connect`] and
    /// [`ArcaSession::connect_name`].
    pub fn connect(to: impl ToHost) -> Result<Self, Error> {
        let session = ArcaSession::of_the_program()?;
        let connected = session.connect_host_async(to.to_host()?);
        session.reactor().block_on(connected)
    }

    /// As [`ArcaTcpStream::connect`], giving up after `timeout`.
    ///
    /// # Errors
    ///
    /// ETIMEDOUT; else as [`ArcaTcpStream::connect`].
    pub fn connect_timeout(to: impl ToHost, timeout: Duration) -> Result<Self, Error> {
        let session = ArcaSession::of_the_program()?;
        let connected = connect_within(session, to.to_host()?, timeout);
        session.reactor().block_on(connected)
    }
}

async fn connect_within(
    session: &ArcaSession,
    host: Host<'_>,
    timeout: Duration,
) -> Result<ArcaTcpStream, Error> {
    if timeout.is_zero() {
        return Err(Errno::EINVAL.into());
    }
    let connected = session.connect_host_async(host);
    session.timeout(timeout, connected).await
}

impl AsyncTcpStream {
    /// As [`ArcaTcpStream::connect`], for a task. Dropping the future cancels it.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpStream::connect`].
    pub async fn connect(to: impl ToHost) -> Result<Self, Error> {
        let session = ArcaSession::of_the_program()?;
        let stream = session.connect_host_async(to.to_host()?).await?;
        Ok(stream.into_async())
    }

    /// As [`ArcaTcpStream::connect_timeout`], for a task.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpStream::connect_timeout`].
    pub async fn connect_timeout(to: impl ToHost, timeout: Duration) -> Result<Self, Error> {
        let session = ArcaSession::of_the_program()?;
        let stream = connect_within(session, to.to_host()?, timeout).await?;
        Ok(stream.into_async())
    }
}

impl ArcaTcpListener {
    /// Listens on `at`, in the program's session; port 0 lets the host choose.
    ///
    /// # Errors
    ///
    /// EINVAL if `at` is no place; else as [`ArcaSession::resolve`] and
    /// [`ArcaSession::bind`].
    pub fn bind(at: impl ToHost) -> Result<Self, Error> {
        let session = ArcaSession::of_the_program()?;
        session.reactor().block_on(Self::bind_async(at))
    }

    /// As [`ArcaTcpListener::bind`], for a task.
    ///
    /// # Errors
    ///
    /// As [`ArcaTcpListener::bind`].
    pub async fn bind_async(at: impl ToHost) -> Result<Self, Error> {
        let session = ArcaSession::of_the_program()?;
        match at.to_host()? {
            Host::Address(address) => session.bind_async(address).await,
            Host::Name(name, port) => {
                let (address, _) = session.resolve_async(name, port).await?;
                session.bind_async(address).await
            }
        }
    }
}
