//! What the guest may reach: by default this host's loopback, and nothing else.

mod rule;

use rule::{Host, Ports};
pub use rule::{Rule, RuleError};

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// Ports of name servers that are asked over TCP: DNS, and DNS over TLS.
pub const NAME_SERVER_PORTS: [u16; 2] = [53, 853];

/// The user's choice of what the guest may reach.
#[derive(Clone, Debug)]
pub struct PolicyConfig {
    /// Where it may connect to. A host name stands for the addresses that it
    /// has when the session starts.
    pub allow_connect: Vec<Rule>,
    /// Where it may listen.
    pub allow_listen: Vec<Rule>,
    /// Host address and guest port: a listener on that port of the guest is
    /// bound to that address of the host, whatever `allow_listen` says, and as
    /// the host binds it: `[::]` takes IPv4 too, unless the host is set up
    /// otherwise. Of more than one entry for a port, the first counts.
    pub publish: Vec<(SocketAddr, u16)>,
    /// Whether the guest may connect to a host by its name. What a name resolves
    /// to must be allowed all the same; but the question alone already goes to
    /// the host's name servers. Where it may not, it may not ask a name server
    /// itself either: a rule for all ports does not cover those of name servers
    /// ([`NAME_SERVER_PORTS`]), one that names a port or a range does.
    pub resolve_names: bool,
}

impl Default for PolicyConfig {
    /// Loopback, both to connect and to listen.
    fn default() -> Self {
        Self {
            allow_connect: Rule::loopback().to_vec(),
            allow_listen: Rule::loopback().to_vec(),
            publish: Vec::new(),
            resolve_names: true,
        }
    }
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A host name has no address now.
    #[error("cannot resolve {name:?}, named by a rule")]
    Resolve {
        /// The name.
        name: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// A host name where the guest may listen.
    #[error("{name:?} cannot be listened on: give an address or a network")]
    ListenName {
        /// The name.
        name: String,
    },
}

/// A checked policy: names are resolved.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    connect: Vec<Rule>,
    listen: Vec<Rule>,
    publish: Vec<(SocketAddr, u16)>,
    resolve_names: bool,
}

/// Where a listener is to be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bind {
    /// Where it asked for.
    Asked(SocketAddr),
    /// At the IPv6 wildcard that it asked for, without the IPv4 connections that
    /// one takes as well.
    WithoutIpv4(SocketAddr),
    /// Somewhere narrower than the wildcard address it asked for.
    Narrowed(SocketAddr),
    /// Where the user publishes it.
    Published(SocketAddr),
    /// Nowhere.
    Denied,
}

impl Policy {
    pub(crate) fn new(config: &PolicyConfig) -> Result<Self, PolicyError> {
        let mut connect = Vec::new();
        for rule in &config.allow_connect {
            let Host::Name(name) = &rule.host else {
                connect.push(rule.clone());
                continue;
            };
            let addresses = (name.as_str(), 0).to_socket_addrs();
            let addresses = addresses.map_err(|source| PolicyError::Resolve {
                name: name.clone(),
                source,
            })?;
            connect.extend(addresses.map(|address| Rule::address(address.ip(), rule.ports)));
        }
        for rule in &config.allow_listen {
            if let Host::Name(name) = &rule.host {
                return Err(PolicyError::ListenName { name: name.clone() });
            }
        }
        Ok(Self {
            connect,
            listen: config.allow_listen.clone(),
            publish: config.publish.clone(),
            resolve_names: config.resolve_names,
        })
    }

    /// Whether the guest may connect to a host by its name.
    pub(crate) fn resolves_names(&self) -> bool {
        self.resolve_names
    }

    /// Whether the guest may connect there.
    pub(crate) fn allows_connect(&self, address: SocketAddr) -> bool {
        let asks_names = !self.resolve_names && NAME_SERVER_PORTS.contains(&address.port());
        let mut rules = self.connect.iter();
        rules.any(|rule| rule.covers(address) && (!asks_names || rule.names_ports()))
    }

    fn allows_listen(&self, address: SocketAddr) -> bool {
        self.listen.iter().any(|rule| rule.covers(address))
    }

    /// Where the guest's listener goes.
    pub(crate) fn bind(&self, asked: SocketAddr) -> Bind {
        let published = self.publish.iter().find(|(_, port)| *port == asked.port());
        if asked.port() != 0
            && let Some((host, _)) = published
        {
            return Bind::Published(*host);
        }
        if self.allows_listen(asked) {
            let both = asked.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            let ipv4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, asked.port()));
            return match both && !self.allows_listen(ipv4) {
                true => Bind::WithoutIpv4(asked),
                false => Bind::Asked(asked),
            };
        }
        if let Some(loopback) = loopback_for(asked.ip()) {
            let narrowed = SocketAddr::new(loopback, asked.port());
            if self.allows_listen(narrowed) {
                return Bind::Narrowed(narrowed);
            }
        }
        Bind::Denied
    }
}

/// The loopback address of the same family, written in the same way, if that is a
/// wildcard.
fn loopback_for(ip: IpAddr) -> Option<IpAddr> {
    let loopback = match ip {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
            Ipv4Addr::LOCALHOST.to_ipv6_mapped().into()
        }
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    ip.to_canonical().is_unspecified().then_some(loopback)
}

/// Where a connect really goes: the kernel takes "no address" as this host.
pub(crate) fn destination(mut address: SocketAddr) -> SocketAddr {
    if let Some(loopback) = loopback_for(address.ip()) {
        address.set_ip(loopback.to_canonical());
    }
    address
}

impl Ports {
    fn cover(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl Rule {
    /// Whether the address is one of the rule's. An IPv4 address written as IPv6 is
    /// the IPv4 address.
    fn covers(&self, address: SocketAddr) -> bool {
        let host = match (&self.host, address.ip().to_canonical()) {
            (Host::Any, _) => true,
            (Host::Network { ip, bits }, address) => in_network(*ip, *bits, address),
            (Host::Name(_), _) => false,
        };
        host && self.ports.cover(address.port())
    }
}

fn in_network(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let differ = network.to_bits() ^ address.to_bits();
            differ
                .checked_shr(32 - u32::from(bits.min(32)))
                .unwrap_or(0)
                == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let differ = network.to_bits() ^ address.to_bits();
            differ
                .checked_shr(128 - u32::from(bits.min(128)))
                .unwrap_or(0)
                == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
