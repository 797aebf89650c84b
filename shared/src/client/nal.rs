//! The interfaces of embedded-nal-async and edge-nal on a session, its listeners and
//! its streams.

use super::{ArcaSession, ArcaTcpListener, AsyncTcpStream, ReadHalf, Shutdown, WriteHalf};
use crate::errno::Errno;
use crate::error::Error;
use core::net::{IpAddr, SocketAddr};

/// Which addresses of a host are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
    Either,
}

async fn host(session: &ArcaSession, name: &str, family: Family) -> Result<IpAddr, Error> {
    let (first, other) = session.resolve_async(name, 0).await?;
    let fits = |address: &SocketAddr| match family {
        Family::V4 => address.is_ipv4(),
        Family::V6 => address.is_ipv6(),
        Family::Either => true,
    };
    let found = core::iter::once(first).chain(other).find(fits);
    // ENOENT, as for a name without any address.
    found
        .map(|address| address.ip())
        .ok_or(Errno::ENOENT.into())
}

/// What finding a name for an address fails with: nothing on the wire asks for it.
const NO_NAMES: Error = Error::Os(Errno::EOPNOTSUPP);

impl embedded_nal_async::TcpConnect for ArcaSession {
    type Error = Error;
    type Connection<'a> = AsyncTcpStream;

    async fn connect(&self, remote: SocketAddr) -> Result<AsyncTcpStream, Error> {
        Ok(self.connect_async(remote).await?.into_async())
    }
}

/// [`get_host_by_address`](embedded_nal_async::Dns::get_host_by_address) gives
/// EOPNOTSUPP.
impl embedded_nal_async::Dns for ArcaSession {
    type Error = Error;

    async fn get_host_by_name(
        &self,
        name: &str,
        family: embedded_nal_async::AddrType,
    ) -> Result<IpAddr, Error> {
        let family = match family {
            embedded_nal_async::AddrType::IPv4 => Family::V4,
            embedded_nal_async::AddrType::IPv6 => Family::V6,
            embedded_nal_async::AddrType::Either => Family::Either,
        };
        host(self, name, family).await
    }

    async fn get_host_by_address(&self, _: IpAddr, _: &mut [u8]) -> Result<usize, Error> {
        Err(NO_NAMES)
    }
}

/// [`get_host_by_address`](edge_nal::Dns::get_host_by_address) gives EOPNOTSUPP.
impl edge_nal::Dns for ArcaSession {
    type Error = Error;

    async fn get_host_by_name(
        &self,
        name: &str,
        family: edge_nal::AddrType,
    ) -> Result<IpAddr, Error> {
        let family = match family {
            edge_nal::AddrType::IPv4 => Family::V4,
            edge_nal::AddrType::IPv6 => Family::V6,
            edge_nal::AddrType::Either => Family::Either,
        };
        host(self, name, family).await
    }

    async fn get_host_by_address(&self, _: IpAddr, _: &mut [u8]) -> Result<usize, Error> {
        Err(NO_NAMES)
    }
}

impl edge_nal::TcpConnect for ArcaSession {
    type Error = Error;
    type Socket<'a> = AsyncTcpStream;

    async fn connect(&self, remote: SocketAddr) -> Result<AsyncTcpStream, Error> {
        Ok(self.connect_async(remote).await?.into_async())
    }
}

impl edge_nal::TcpBind for ArcaSession {
    type Error = Error;
    type Accept<'a> = ArcaTcpListener;

    async fn bind(&self, local: SocketAddr) -> Result<ArcaTcpListener, Error> {
        self.bind_async(local).await
    }
}

impl edge_nal::TcpAccept for ArcaTcpListener {
    type Error = Error;
    type Socket<'a> = AsyncTcpStream;

    async fn accept(&self) -> Result<(SocketAddr, AsyncTcpStream), Error> {
        let (stream, peer) = self.accept_async().await?;
        Ok((peer, stream.into_async()))
    }
}

impl edge_nal::TcpSplit for AsyncTcpStream {
    type Read<'a> = ReadHalf<'a>;
    type Write<'a> = WriteHalf<'a>;

    fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        AsyncTcpStream::split(self)
    }
}

/// Closing is shutting down: what was written is delivered, and nothing is waited for.
impl edge_nal::TcpShutdown for AsyncTcpStream {
    async fn close(&mut self, what: edge_nal::Close) -> Result<(), Error> {
        self.shutdown(match what {
            edge_nal::Close::Read => Shutdown::Read,
            edge_nal::Close::Write => Shutdown::Write,
            edge_nal::Close::Both => Shutdown::Both,
        })
    }

    async fn abort(&mut self) -> Result<(), Error> {
        AsyncTcpStream::abort(self);
        Ok(())
    }
}

impl edge_nal::Readable for AsyncTcpStream {
    async fn readable(&mut self) -> Result<(), Error> {
        AsyncTcpStream::readable(self).await;
        Ok(())
    }
}

impl edge_nal::Readable for ReadHalf<'_> {
    async fn readable(&mut self) -> Result<(), Error> {
        ReadHalf::readable(self).await;
        Ok(())
    }
}
