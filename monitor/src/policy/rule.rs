//! One rule of the policy, as the user writes it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => most,
        Some(bits) => bits.parse().map_err(|_| "the bits are not a number")?,
    };
    if bits > most {
        return Err("an address of that family has fewer bits");
    }
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
