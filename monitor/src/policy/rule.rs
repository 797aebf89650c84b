//! One rule of the policy, as the user writes it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Addresses and ports that the guest may reach. Written as
///
/// | rule | covers |
/// |---|---|
/// | `any`, `*` | everything |
/// | `10.0.0.5`, `::1` | an address, all ports |
/// | `127.0.0.0/8`, `fe80::/10` | a network |
/// | `10.0.0.5:443`, `[::1]:443` | one port |
/// | `10.0.0.0/8:80-90`, `[fe80::/10]:80-90` | a range of ports |
/// | `*:8000-9000` | these ports everywhere |
/// | `example.org:443` | the addresses of a host (to connect only) |
///
/// An IPv4 address written as IPv6 (`::ffff:10.0.0.5`) is the IPv4 address, in a
/// rule and where the guest asks for it; an IPv6 network holds no such address. A
/// rule is for an address in every zone (`%eth0`). Port 0 stands, where the guest
/// listens, for a port of the host's choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(super) host: Host,
    pub(super) ports: Ports,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Any,
    Network { ip: IpAddr, bits: u8 },
    Name(String),
}

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) first: u16,
    pub(super) last: u16,
}

const ALL_PORTS: Ports = Ports {
    first: 0,
    last: u16::MAX,
};

/// Bits of an IPv6 address that say that it is an IPv4 address.
const MAPPED_BITS: u8 = 96;

/// Why a text is not a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not ADDRESS[/BITS][:PORT[-PORT]], \"*\" or \"any\": {why}")]
pub struct RuleError {
    text: String,
    why: &'static str,
}

impl Rule {
    /// The rules for this host's loopback, of both families.
    #[must_use]
    pub fn loopback() -> [Self; 2] {
        let network = |ip, bits| Self {
            host: Host::Network { ip, bits },
            ports: ALL_PORTS,
        };
        [
            network(Ipv4Addr::new(127, 0, 0, 0).into(), 8),
            network(Ipv6Addr::LOCALHOST.into(), 128),
        ]
    }

    /// The rule that covers one address and port, and nothing else.
    pub(crate) fn exactly(address: SocketAddr) -> Self {
        let (first, last) = (address.port(), address.port());
        Self::address(address.ip(), Ports { first, last })
    }

    /// Whether the rule says which ports it is for.
    pub(super) fn names_ports(&self) -> bool {
        self.ports != ALL_PORTS
    }

    /// The rule for one address.
    pub(super) fn address(ip: IpAddr, ports: Ports) -> Self {
        let ip = ip.to_canonical();
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        Self {
            host: Host::Network { ip, bits },
            ports,
        }
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        parse(text).map_err(|why| RuleError {
            text: text.to_owned(),
            why,
        })
    }
}

/// The rule as it can be written.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.names_ports();
        match &self.host {
            Host::Any if named => f.write_str("*")?,
            Host::Any => f.write_str("any")?,
            Host::Name(name) => f.write_str(name)?,
            Host::Network { ip, bits } => {
                let whole = *bits == if ip.is_ipv4() { 32 } else { 128 };
                let network = match whole {
                    true => format!("{ip}"),
                    false => format!("{ip}/{bits}"),
                };
                match named && ip.is_ipv6() {
                    true => write!(f, "[{network}]")?,
                    false => f.write_str(&network)?,
                }
            }
        }
        let Ports { first, last } = self.ports;
        match named {
            false => Ok(()),
            true if first == last => write!(f, ":{first}"),
            true => write!(f, ":{first}-{last}"),
        }
    }
}

fn parse(text: &str) -> Result<Rule, &'static str> {
    if text == "any" {
        return parse("*");
    }
    let (host, ports) = split(text)?;
    Ok(Rule {
        host: parse_host(host)?,
        ports: ports.map_or(Ok(ALL_PORTS), parse_ports)?,
    })
}

/// Host and ports, taken apart.
fn split(text: &str) -> Result<(&str, Option<&str>), &'static str> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("the bracket is not closed")?;
        if !host.contains(':') {
            return Err("brackets are for IPv6 addresses");
        }
        return match rest.strip_prefix(':') {
            Some(ports) => Ok((host, Some(ports))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("a colon must follow the bracket"),
        };
    }
    match text.split_once(':') {
        // More than one colon: an IPv6 address without a port.
        Some((_, rest)) if rest.contains(':') => Ok((text, None)),
        Some((host, ports)) => Ok((host, Some(ports))),
        None => Ok((text, None)),
    }
}

fn parse_host(host: &str) -> Result<Host, &'static str> {
    if host == "*" {
        return Ok(Host::Any);
    }
    let (address, bits) = match host.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (host, None),
    };
    let Ok(ip) = address.parse::<IpAddr>() else {
        return parse_name(host);
    };
    let most: u8 = if ip.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => most,
        Some(bits) => bits.parse().map_err(|_| "the bits are not a number")?,
    };
    if bits > most {
        return Err("an address of that family has fewer bits");
    }
    let canonical = ip.to_canonical();
    if canonical.is_ipv4() == ip.is_ipv4() {
        return Ok(Host::Network { ip, bits });
    }
    let bits = bits.checked_sub(MAPPED_BITS);
    let bits = bits.ok_or("an IPv4 network written as IPv6 has 96 bits or more")?;
    let ip = canonical;
    Ok(Host::Network { ip, bits })
}

fn parse_name(name: &str) -> Result<Host, &'static str> {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.is_empty() || name.len() > 253 || !name.chars().all(is_name) {
        return Err("that is neither an address nor a host name");
    }
    // A mistyped address should not be looked up as a name.
    if name.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err("that is not an address");
    }
    Ok(Host::Name(name.to_owned()))
}

fn parse_ports(ports: &str) -> Result<Ports, &'static str> {
    if ports == "*" {
        return Ok(ALL_PORTS);
    }
    let number = |text: &str| text.parse::<u16>().map_err(|_| "a port is 0 to 65535");
    let (first, last) = match ports.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(ports)?, number(ports)?),
    };
    if first > last {
        return Err("the range of ports is empty");
    }
    Ok(Ports { first, last })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_rule() -> impl Strategy<Value = Rule> {
        let network = |ip: IpAddr, bits: u8| {
            let ip = ip.to_canonical();
            let most = if ip.is_ipv4() { 32 } else { 128 };
            let bits = bits % (most + 1);
            Host::Network { ip, bits }
        };
        let host = prop_oneof![
            Just(Host::Any),
            "[a-z][a-z0-9.-]{0,20}".prop_map(Host::Name),
            (any::<IpAddr>(), any::<u8>()).prop_map(move |(ip, bits)| network(ip, bits)),
        ];
        let ports = prop_oneof![
            Just(ALL_PORTS),
            any::<(u16, u16)>().prop_map(|(a, b)| Ports {
                first: a.min(b),
                last: a.max(b)
            }),
        ];
        let rule = (host, ports).prop_map(|(host, ports)| Rule { host, ports });
        rule.prop_filter("a name that means something else", |rule| {
            rule.host != Host::Name("any".to_owned())
        })
    }

    proptest! {
        #[test]
        fn a_rule_is_written_as_it_is_read(rule in any_rule()) {
            let text = rule.to_string();
            prop_assert_eq!(text.parse(), Ok(rule), "{}", text);
        }
    }

    #[test]
    fn what_is_written_is_what_is_meant() {
        let network = |ip: &str, bits, first, last| Rule {
            host: Host::Network {
                ip: ip.parse().expect(ip),
                bits,
            },
            ports: Ports { first, last },
        };
        for (text, rule) in [
            ("127.0.0.0/8", network("127.0.0.0", 8, 0, 65535)),
            ("10.0.0.5:443", network("10.0.0.5", 32, 443, 443)),
            ("10.0.0.0/8:1-2", network("10.0.0.0", 8, 1, 2)),
            ("[::1]:80-90", network("::1", 128, 80, 90)),
            ("[::1]", network("::1", 128, 0, 65535)),
            ("fe80::/10", network("fe80::", 10, 0, 65535)),
            ("[fe80::/10]:7", network("fe80::", 10, 7, 7)),
            ("0.0.0.0/0:*", network("0.0.0.0", 0, 0, 65535)),
            ("::ffff:10.0.0.5", network("10.0.0.5", 32, 0, 65535)),
            ("[::ffff:10.0.0.5]:7", network("10.0.0.5", 32, 7, 7)),
            ("::ffff:10.0.0.0/104", network("10.0.0.0", 8, 0, 65535)),
            ("[::ffff:0:0/96]:7", network("0.0.0.0", 0, 7, 7)),
            // Not IPv4: compatible, not mapped.
            ("::10.0.0.5", network("::10.0.0.5", 128, 0, 65535)),
        ] {
            assert_eq!(text.parse(), Ok(rule), "{text}");
        }
        let any = "any".parse::<Rule>().expect("any");
        assert_eq!(any.host, Host::Any);
        assert_eq!("*".parse(), Ok(any));
        let ports = "*:8000-9000".parse::<Rule>().expect("ports");
        assert_eq!((ports.ports.first, ports.ports.last), (8000, 9000));
        let name = "example.org:443".parse::<Rule>().expect("a name");
        assert_eq!(name.host, Host::Name("example.org".to_owned()));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            ":80",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8x",
            "10.0.0.1:65536",
            "10.0.0.1:9-8",
            "10.0.0.1:",
            "10.0.0.256",
            "[::1",
            "[::1]80",
            "[10.0.0.1]:80",
            "a b",
            "10.0.0.1/8/9",
            "::ffff:10.0.0.0/95",
            "fe80::1%lo",
            "[fe80::1%1]:80",
        ] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_is_as_long_as_dns_allows() {
        let name = |len: usize| format!("{}.org", "a".repeat(len - 4));
        for len in [252, 253] {
            let rule = name(len).parse::<Rule>().expect("a name");
            assert_eq!(rule.host, Host::Name(name(len)));
        }
        for len in [254, 255] {
            assert!(name(len).parse::<Rule>().is_err(), "{len}");
        }
    }
}
