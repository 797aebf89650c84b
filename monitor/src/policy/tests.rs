//! Tests of the policy: what is allowed, and what a listen is narrowed to.

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
