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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{SocketAddrV4, SocketAddrV6};

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
    fn an_ipv6_rule_opens_no_ipv4() {
        let wildcard = address("[::]:80");
        for (rules, bind) in [
            (&["::/0"][..], Bind::WithoutIpv4(wildcard)),
            (&["[::]:80"], Bind::WithoutIpv4(wildcard)),
            (&["::/0", "127.0.0.0/8"], Bind::WithoutIpv4(wildcard)),
            (&["::/0", "0.0.0.0/0:81"], Bind::WithoutIpv4(wildcard)),
            (&["::/0", "0.0.0.0/0:80"], Bind::Asked(wildcard)),
            (&["[::]:80", "0.0.0.0:80"], Bind::Asked(wildcard)),
            (&["any"], Bind::Asked(wildcard)),
            (&["0.0.0.0/0", "::1"], Bind::Narrowed(address("[::1]:80"))),
            (&["::1"], Bind::Narrowed(address("[::1]:80"))),
            (&["0.0.0.0/0"], Bind::Denied),
        ] {
            assert_eq!(policy(&[], rules).bind(wildcard), bind, "{rules:?}");
        }
        // An IPv4 wildcard written as IPv6 is one of IPv4's.
        let mapped = address("[::ffff:0.0.0.0]:80");
        let narrowed = address("[::ffff:127.0.0.1]:80");
        for (rule, bind) in [
            ("0.0.0.0", Bind::Asked(mapped)),
            ("127.0.0.0/8", Bind::Narrowed(narrowed)),
            ("::/0", Bind::Denied),
        ] {
            assert_eq!(policy(&[], &[rule]).bind(mapped), bind, "{rule}");
        }
        assert!(!policy(&["::/0"], &[]).allows_connect(address("[::ffff:1.2.3.4]:80")));
    }

    #[test]
    fn without_names_name_servers_must_be_allowed_by_their_port() {
        let policy = |rules: &[&str]| {
            let rules = rules.iter().map(|rule| rule.parse().expect(rule));
            let config = PolicyConfig {
                allow_connect: Rule::loopback().into_iter().chain(rules).collect(),
                resolve_names: false,
                ..PolicyConfig::default()
            };
            Policy::new(&config).expect("no names")
        };
        for server in [
            "127.0.0.53:53",
            "[::1]:53",
            "[::ffff:127.0.0.1]:853",
            "9.9.9.9:53",
        ] {
            let server = address(server);
            assert!(!policy(&["any"]).allows_connect(server), "{server}");
            let named = Rule::exactly(server).to_string();
            assert!(policy(&[&named]).allows_connect(server), "{server}");
            assert!(policy(&["*:1-1000"]).allows_connect(server), "{server}");
        }
        assert!(policy(&[]).allows_connect(address("127.0.0.53:54")));
    }

    /// Addresses of every kind that is treated in a way of its own, and others.
    fn any_address() -> impl Strategy<Value = SocketAddr> {
        let v4 = prop_oneof![
            any::<Ipv4Addr>(),
            Just(Ipv4Addr::UNSPECIFIED),
            Just(Ipv4Addr::LOCALHOST),
        ];
        let ip = prop_oneof![
            v4.clone().prop_map(IpAddr::V4),
            v4.clone().prop_map(|ip| ip.to_ipv6_mapped().into()),
            v4.prop_map(|ip| ip.to_ipv6_compatible().into()),
            any::<Ipv6Addr>().prop_map(IpAddr::V6),
            Just(Ipv6Addr::UNSPECIFIED.into()),
            Just(Ipv6Addr::LOCALHOST.into()),
        ];
        let port = prop_oneof![any::<u16>(), Just(0), Just(53), Just(80)];
        (ip, port, any::<u32>(), any::<u32>()).prop_map(|(ip, port, flow, scope)| match ip {
            IpAddr::V4(ip) => SocketAddrV4::new(ip, port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, flow, scope).into(),
        })
    }

    proptest! {
        #[test]
        fn the_option_that_is_named_allows_what_was_denied_and_nothing_else(
            denied in any_address(),
            other in any_address(),
            names: bool,
        ) {
            let option = Rule::exactly(denied).to_string();
            let rule: Rule = option.parse().expect("what is recommended is a rule");
            let closed = PolicyConfig {
                allow_connect: Vec::new(),
                allow_listen: Vec::new(),
                publish: Vec::new(),
                resolve_names: names,
            };
            let open = PolicyConfig {
                allow_connect: vec![rule.clone()],
                allow_listen: vec![rule],
                ..closed.clone()
            };
            let (closed, open) = (Policy::new(&closed)?, Policy::new(&open)?);
            prop_assert!(!closed.allows_connect(denied) && open.allows_connect(denied));
            prop_assert_eq!(closed.bind(denied), Bind::Denied);
            let bind = open.bind(denied);
            let both = denied.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            match both {
                // Half of it; what is said then names the other half.
                true => prop_assert_eq!(bind, Bind::WithoutIpv4(denied)),
                false => prop_assert_eq!(bind, Bind::Asked(denied)),
            }
            let same = (other.ip().to_canonical(), other.port())
                == (denied.ip().to_canonical(), denied.port());
            prop_assert_eq!(open.allows_connect(other), same);
            prop_assert_eq!(open.bind(other) == Bind::Asked(other), same && !both);
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
