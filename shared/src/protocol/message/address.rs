//! Addresses on the wire.

use super::table::Field;
use super::wire::{Fields, MessageError, Writer};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The draft's address: 4 octets in dotted order, then the port. 6 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The IPv4 address.
    pub ip: Ipv4Addr,
    /// The TCP port.
    pub port: u16,
}

impl Field for Endpoint {
    const SIZE: (usize, usize) = (6, 6);

    fn read(fields: &mut Fields<'_>) -> Result<Self, MessageError> {
        Ok(Self {
            ip: Ipv4Addr::from(fields.bytes::<4>()?),
            port: u16::read(fields)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.put(&self.ip.octets());
        self.port.write(writer);
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(endpoint: Endpoint) -> Self {
        SocketAddrV4::new(endpoint.ip, endpoint.port).into()
    }
}

/// Size of an [`Address`] on the wire, in bytes.
pub const ADDRESS_LEN: usize = 28;

/// An address of either family. 28 bytes:
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 1 | family: 4, 6, or 0 for "none" |
/// | 1 | 1 | zero |
/// | 2 | 2 | port |
/// | 4 | 16 | address, in network order; an IPv4 address takes the first 4 bytes |
/// | 20 | 4 | IPv6 flow information |
/// | 24 | 4 | IPv6 scope id |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address(pub SocketAddr);

impl Field for Address {
    const SIZE: (usize, usize) = (ADDRESS_LEN, ADDRESS_LEN);

    fn read(fields: &mut Fields<'_>) -> Result<Self, MessageError> {
        match Option::read(fields)? {
            Some(address) => Ok(address),
            None => Err(fields.bad(0u8)),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let mut octets = [0; 16];
        let (family, flow, scope) = match self.0 {
            SocketAddr::V4(v4) => {
                octets[..4].copy_from_slice(&v4.ip().octets());
                (4u8, 0u32, 0u32)
            }
            SocketAddr::V6(v6) => {
                octets = v6.ip().octets();
                (6, v6.flowinfo(), v6.scope_id())
            }
        };
        family.write(writer);
        0u8.write(writer);
        self.0.port().write(writer);
        writer.put(&octets);
        flow.write(writer);
        scope.write(writer);
    }
}

/// An address that may be absent: family 0.
impl Field for Option<Address> {
    const SIZE: (usize, usize) = Address::SIZE;

    fn read(fields: &mut Fields<'_>) -> Result<Self, MessageError> {
        let family = u8::read(fields)?;
        let _zero = u8::read(fields)?;
        let port = u16::read(fields)?;
        let octets = fields.bytes::<16>()?;
        let (flow, scope) = (u32::read(fields)?, u32::read(fields)?);
        match family {
            0 => Ok(None),
            4 => {
                let [a, b, c, d, ..] = octets;
                let ip = Ipv4Addr::new(a, b, c, d);
                Ok(Some(Address(SocketAddrV4::new(ip, port).into())))
            }
            6 => {
                let ip = Ipv6Addr::from(octets);
                let address = SocketAddrV6::new(ip, port, flow, scope);
                Ok(Some(Address(address.into())))
            }
            other => Err(fields.bad(other)),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Some(address) => address.write(writer),
            None => writer.put(&[0; ADDRESS_LEN]),
        }
    }
}

impl From<Endpoint> for Address {
    fn from(endpoint: Endpoint) -> Self {
        Self(SocketAddr::new(IpAddr::V4(endpoint.ip), endpoint.port))
    }
}
