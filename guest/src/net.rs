//! TCP: the types of [`arca_shared::client`] over the program's one session.
//!
//! The calls mirror `std::net`. The blocking ones may be made from anywhere;
//! from a task, the asynchronous ones are the better choice.

use crate::runtime;
pub use arca_shared::client::{
    ArcaSession as Session, ArcaTcpListener as TcpListener, ArcaTcpStream as TcpStream,
    AsyncTcpStream, Host, OwnedReadHalf, OwnedWriteHalf, ReadHalf, Shutdown, ToHost, WriteHalf,
    copy, copy_async, copy_bidirectional, copy_bidirectional_async,
};
pub use arca_shared::errno::{Errno, ErrorKind};
pub use arca_shared::error::Error;
pub use arca_shared::protocol::message::SocketOption;
pub use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

/// The program's session, as a network stack: for crates that want one of
/// embedded-nal-async's or edge-nal's.
#[must_use]
pub fn stack() -> &'static Session {
    runtime::session()
}

/// The addresses of a host by its name, with that port: the one to try first, and the
/// first of the other family if there is one.
///
/// # Errors
///
/// ENOENT if the name has none, EACCES where the host's policy resolves no names.
pub fn resolve(host: &str, port: u16) -> Result<(SocketAddr, Option<SocketAddr>), Error> {
    runtime::session().resolve(host, port)
}

/// [`resolve`] for a task.
///
/// # Errors
///
/// As [`resolve`].
pub async fn resolve_async(
    host: &str,
    port: u16,
) -> Result<(SocketAddr, Option<SocketAddr>), Error> {
    runtime::session().resolve_async(host, port).await
}

/// Connects to `address`, and waits until that is done.
///
/// # Errors
///
/// The errno that `connect` had on the host, such as ECONNREFUSED, or EACCES
/// where the host's policy does not allow it.
pub fn connect(address: SocketAddr) -> Result<TcpStream, Error> {
    runtime::session().connect(address)
}

/// [`connect`], giving up after `timeout`.
///
/// # Errors
///
/// ETIMEDOUT when the time has passed, EINVAL if it is zero; else as [`connect`].
pub fn connect_timeout(address: SocketAddr, timeout: Duration) -> Result<TcpStream, Error> {
    TcpStream::connect_timeout(address, timeout)
}

/// Connects to `host`, an address or a name that the host resolves.
///
/// # Errors
///
/// As [`connect`]; an unknown name has an error of its own.
pub fn connect_host(host: &str, port: u16) -> Result<TcpStream, Error> {
    TcpStream::connect((host, port))
}

/// Listens at `address`; port 0 takes a free one, which
/// [`TcpListener::local_addr`] tells.
///
/// # Errors
///
/// The errno that `bind` or `listen` had on the host, such as EADDRINUSE, or
/// EACCES where the host's policy does not allow it.
pub fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    runtime::session().bind(address)
}

/// [`connect`] for a task: others run meanwhile. Dropping the future cancels it.
///
/// # Errors
///
/// As [`connect`].
pub async fn connect_async(address: SocketAddr) -> Result<AsyncTcpStream, Error> {
    let stream = runtime::session().connect_async(address).await?;
    Ok(stream.into_async())
}

/// [`connect_timeout`] for a task.
///
/// # Errors
///
/// As [`connect_timeout`].
pub async fn connect_timeout_async(
    address: SocketAddr,
    timeout: Duration,
) -> Result<AsyncTcpStream, Error> {
    AsyncTcpStream::connect_timeout(address, timeout).await
}

/// [`connect_host`] for a task. Dropping the future cancels it.
///
/// # Errors
///
/// As [`connect_host`].
pub async fn connect_host_async(host: &str, port: u16) -> Result<AsyncTcpStream, Error> {
    AsyncTcpStream::connect((host, port)).await
}

/// [`bind`] for a task.
///
/// # Errors
///
/// As [`bind`].
pub async fn bind_async(address: SocketAddr) -> Result<TcpListener, Error> {
    runtime::session().bind_async(address).await
}
