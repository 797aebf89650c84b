//! TCP: the types of [`arca_shared::client`] over the program's one session.
//!
//! The calls mirror `std::net`. The blocking ones may be made from anywhere;
//! from a task, the asynchronous ones are the better choice.

use crate::http::Source;
use crate::runtime;
pub use arca_shared::client::{
    ArcaTcpListener as TcpListener, ArcaTcpStream as TcpStream, AsyncTcpStream, Shutdown,
};
pub use arca_shared::errno::{Errno, ErrorKind};
pub use arca_shared::error::Error;
pub use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Connects to `address`, and waits until that is done.
///
/// # Errors
///
/// The errno that `connect` had on the host, such as ECONNREFUSED, or EACCES
/// where the host's policy does not allow it.
pub fn connect(address: SocketAddr) -> Result<TcpStream, Error> {
    runtime::session().connect(address)
}

/// Connects to `host`, an address or a name that the host resolves.
///
/// # Errors
///
/// As [`connect`]; an unknown name has an error of its own.
pub fn connect_host(host: &str, port: u16) -> Result<TcpStream, Error> {
    match host.parse::<IpAddr>() {
        Ok(ip) => connect(SocketAddr::new(ip, port)),
        Err(_) => runtime::session().connect_name(host, port),
    }
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

/// [`bind`] for a task.
///
/// # Errors
///
/// As [`bind`].
pub async fn bind_async(address: SocketAddr) -> Result<TcpListener, Error> {
    runtime::session().bind_async(address).await
}

impl Source for TcpStream {
    type Error = Error;

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        TcpStream::read(self, buffer)
    }
}
