//! What the guest may reach: by default this host's loopback, and nothing else.

mod rule;

use rule::{Host, Ports};
pub use rule::{Rule, RuleError};

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// The user's choice of what the guest may reach.
#[derive(Clone, Debug)]
pub struct PolicyConfig {
    /// Where it may connect to. A host name stands for the addresses that it
    /// has when the session starts.
    pub allow_connect: Vec<Rule>,
    /// Where it may listen.
    pub allow_listen: Vec<Rule>,
    /// Host address and guest port: a listener on that port of the guest is
    /// bound to that address of the host, whatever `allow_listen` says. Of more
    /// than one entry for a port, the first counts.
    pub publish: Vec<(SocketAddr, u16)>,
    /// Whether the guest may connect to a host by its name. What a name resolves
    /// to must be allowed all the same; but the question alone already goes to
    /// the host's name servers.
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
        allows(&self.connect, address)
    }

    /// Where the guest's listener goes.
    pub(crate) fn bind(&self, asked: SocketAddr) -> Bind {
        let published = self.publish.iter().find(|(_, port)| *port == asked.port());
        if asked.port() != 0
            && let Some((host, _)) = published
        {
            return Bind::Published(*host);
        }
        if allows(&self.listen, asked) {
            return Bind::Asked(asked);
        }
        if asked.ip().is_unspecified() {
            let narrowed = SocketAddr::new(loopback_of(asked.ip()), asked.port());
            if allows(&self.listen, narrowed) {
                return Bind::Narrowed(narrowed);
            }
        }
        Bind::Denied
    }
}

/// Whether a rule covers the address. An IPv4 address written as IPv6 is the
/// IPv4 address.
fn allows(rules: &[Rule], address: SocketAddr) -> bool {
    let canonical = SocketAddr::new(address.ip().to_canonical(), address.port());
    rules.iter().any(|rule| rule.covers(canonical))
}

/// The loopback address of the same family.
fn loopback_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

/// Where a connect really goes: the kernel takes "no address" as this host.
pub(crate) fn destination(mut address: SocketAddr) -> SocketAddr {
    if address.ip().to_canonical().is_unspecified() {
        let v4 = address.ip().to_canonical().is_ipv4();
        address.set_ip(match v4 {
            true => Ipv4Addr::LOCALHOST.into(),
            false => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

impl Ports {
    fn cover(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl Rule {
    /// Whether the address is one of the rule's.
    fn covers(&self, address: SocketAddr) -> bool {
        let host = match (&self.host, address.ip()) {
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
mod tests {
    use super::*;

    fn policy(connect: &[&str], listen: &[&str]) -> Policy {
        let parse = |rules: &[&str]| rules.iter().map(|r| r.parse().expect(r)).collect();
        Policy::new(&PolicyConfig {
            allow_connect: parse(connect),
            allow_listen: parse(listen),
            publish: vec![("10.1.2.3:80".parse().expect("an address"), 8080)],
            resolve_names: true,
        })
        .expect("no names that fail")
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect(text)
    }

    #[test]
    fn the_default_is_loopback_only() {
        let policy = Policy::new(&PolicyConfig::default()).expect("no names");
        for allowed in [
            "127.0.0.1:1",
            "127.9.9.9:65535",
            "[::1]:80",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert!(policy.allows_connect(address(allowed)), "{allowed}");
            assert_eq!(policy.bind(address(allowed)), Bind::Asked(address(allowed)));
        }
        for denied in [
            "128.0.0.1:80",
            "10.0.0.1:80",
            "[::2]:80",
            "[::ffff:10.0.0.1]:80",
            "0.0.0.0:80",
        ] {
            assert!(!policy.allows_connect(address(denied)), "{denied}");
        }
        assert_eq!(policy.bind(address("10.0.0.1:80")), Bind::Denied);
        assert_eq!(
            policy.bind(address("0.0.0.0:80")),
            Bind::Narrowed(address("127.0.0.1:80"))
        );
        assert_eq!(
            policy.bind(address("[::]:0")),
            Bind::Narrowed(address("[::1]:0"))
        );
    }

    #[test]
    fn rules_widen_it() {
        let policy = policy(
            &["10.0.0.0/8:80-90", "[fe80::/10]:443", "localhost:7"],
            &["any"],
        );
        for (text, allowed) in [
            ("10.255.0.1:80", true),
            ("10.255.0.1:90", true),
            ("10.255.0.1:91", false),
            ("11.0.0.1:80", false),
            ("[fe80::1]:443", true),
            ("[fe80::1]:80", false),
            ("127.0.0.1:7", true),
            ("127.0.0.1:8", false),
        ] {
            assert_eq!(policy.allows_connect(address(text)), allowed, "{text}");
        }
        let wildcard = address("0.0.0.0:80");
        assert_eq!(policy.bind(wildcard), Bind::Asked(wildcard));
        assert_eq!(
            policy.bind(address("127.0.0.1:8080")),
            Bind::Published(address("10.1.2.3:80"))
        );
    }

    #[test]
    fn a_narrowed_wildcard_must_be_allowed_too() {
        let policy = policy(&[], &["10.0.0.1"]);
        assert_eq!(policy.bind(address("0.0.0.0:80")), Bind::Denied);
    }

    #[test]
    fn no_address_means_this_host() {
        assert_eq!(destination(address("0.0.0.0:5")), address("127.0.0.1:5"));
        assert_eq!(destination(address("[::]:5")), address("[::1]:5"));
        assert_eq!(
            destination(address("[::ffff:0.0.0.0]:5")),
            address("127.0.0.1:5")
        );
        assert_eq!(destination(address("9.9.9.9:5")), address("9.9.9.9:5"));
    }

    #[test]
    fn names_are_resolved_if_the_user_wants_it() {
        for resolve_names in [true, false] {
            let config = PolicyConfig {
                resolve_names,
                ..PolicyConfig::default()
            };
            let policy = Policy::new(&config).expect("no names");
            assert_eq!(policy.resolves_names(), resolve_names);
        }
    }

    #[test]
    fn names_are_for_connect_only() {
        let config = PolicyConfig {
            allow_listen: vec!["localhost".parse().expect("a name")],
            ..PolicyConfig::default()
        };
        assert!(matches!(
            Policy::new(&config),
            Err(PolicyError::ListenName { .. })
        ));
    }
}
