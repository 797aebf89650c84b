//! The command line's say in what a guest may reach, and how much of everything
//! it may have.

use arca_monitor::{MonitorConfig, Rule};
use clap::Args;
use std::net::SocketAddr;

/// Options about what a guest may reach and have.
#[derive(Args, Clone, Debug, Default)]
pub struct AccessOptions {
    /// Let the guest connect there, besides to this host's loopback: an address,
    /// network or host name, with ports (10.0.0.0/8:80-90, [::1]:443,
    /// example.org:443, *:8000-9000, any)
    #[arg(long, value_name = "RULE")]
    pub allow_connect: Vec<Rule>,
    /// Let the guest listen there, besides on this host's loopback: an address or
    /// network, with ports. [::] takes IPv4 too where 0.0.0.0 is allowed as well
    #[arg(long, value_name = "RULE")]
    pub allow_listen: Vec<Rule>,
    /// Bind the guest's listener on a port to this address of the host; the
    /// guest's port is the same unless given
    #[arg(long, value_name = "HOST:PORT[=GUEST_PORT]", value_parser = parse_publish)]
    pub publish: Vec<(SocketAddr, u16)>,
    /// Resolve no host names for the guest: a question alone already reaches the
    /// host's name servers. Nor may it ask one itself: a rule for all ports does not
    /// cover ports 53 and 853 then, one that names them does
    #[arg(long)]
    pub no_names: bool,
    /// Most connections that the guest may have
    #[arg(long, value_name = "N")]
    pub limit_connections: Option<usize>,
    /// Most listeners that the guest may have
    #[arg(long, value_name = "N")]
    pub limit_listeners: Option<usize>,
    /// Most accepts of the guest that may wait
    #[arg(long, value_name = "N")]
    pub limit_accepts: Option<usize>,
    /// Most connects of the guest that may be on their way
    #[arg(long, value_name = "N")]
    pub limit_connects: Option<usize>,
    /// Most host names that may be resolved for the guest at a time
    #[arg(long, value_name = "N")]
    pub limit_lookups: Option<usize>,
    /// Most requests of the guest, of any kind, that may wait for their reply
    #[arg(long, value_name = "N")]
    pub limit_requests: Option<usize>,
    /// Percent of the arena that connections may take
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub limit_arena: Option<u8>,
}

impl AccessOptions {
    /// The monitor's configuration as these options want it.
    #[must_use]
    pub fn config(&self) -> MonitorConfig {
        let mut config = MonitorConfig::default();
        let policy = &mut config.policy;
        policy.allow_connect.extend_from_slice(&self.allow_connect);
        policy.allow_listen.extend_from_slice(&self.allow_listen);
        policy.publish.extend_from_slice(&self.publish);
        policy.resolve_names = !self.no_names;
        let limits = &mut config.limits;
        for (limit, wanted) in [
            (&mut limits.connections, self.limit_connections),
            (&mut limits.listeners, self.limit_listeners),
            (&mut limits.accepts, self.limit_accepts),
            (&mut limits.connects, self.limit_connects),
            (&mut limits.lookups, self.limit_lookups),
            (&mut limits.requests, self.limit_requests),
        ] {
            *limit = wanted.unwrap_or(*limit);
        }
        limits.arena_percent = self.limit_arena.unwrap_or(limits.arena_percent);
        config
    }
}

/// HOST:PORT, or HOST:PORT=GUEST_PORT. The host's address must be said: a port
/// is not opened to the whole network by leaving something out.
fn parse_publish(text: &str) -> Result<(SocketAddr, u16), String> {
    let (host, guest) = match text.split_once('=') {
        Some((host, guest)) => (host, Some(guest)),
        None => (text, None),
    };
    let wrong = || {
        "expected an address of this host and a port, such as 127.0.0.1:8080, \
         or 127.0.0.1:8080=80 where the guest listens on another"
            .to_owned()
    };
    let host: SocketAddr = host.parse().map_err(|_| wrong())?;
    let guest = match guest {
        Some(guest) => guest.parse().map_err(|_| wrong())?,
        None => host.port(),
    };
    if guest == 0 {
        return Err("the guest's port cannot be 0: give it after '='".into());
    }
    Ok((host, guest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        access: AccessOptions,
    }

    fn config(args: &[&str]) -> Result<MonitorConfig, String> {
        let line = Line::try_parse_from([&["arca"], args].concat());
        let line = line.map_err(|error| error.to_string())?;
        Ok(line.access.config())
    }

    #[test]
    fn without_options_it_is_the_default() {
        let (ours, default) = (config(&[]).expect("valid"), MonitorConfig::default());
        assert_eq!(ours.limits, default.limits);
        assert_eq!(ours.policy.allow_connect, default.policy.allow_connect);
        assert_eq!(ours.policy.allow_listen, default.policy.allow_listen);
        assert!(ours.policy.publish.is_empty() && ours.policy.resolve_names);
    }

    #[test]
    fn options_widen_and_limit() {
        let config = config(&[
            "--allow-connect",
            "10.0.0.0/8:80-90",
            "--allow-connect",
            "example.org:443",
            "--allow-listen",
            "any",
            "--publish",
            "127.0.0.1:8080=80",
            "--publish",
            "[::1]:9000",
            "--no-names",
            "--limit-connections",
            "7",
            "--limit-arena",
            "50",
        ])
        .expect("valid");
        assert_eq!(config.policy.allow_connect.len(), 4);
        assert_eq!(config.policy.allow_listen.len(), 3);
        let published: Vec<_> = config
            .policy
            .publish
            .iter()
            .map(|(host, guest)| format!("{host}={guest}"))
            .collect();
        assert_eq!(published, ["127.0.0.1:8080=80", "[::1]:9000=9000"]);
        assert!(!config.policy.resolve_names);
        assert_eq!(config.limits.connections, 7);
        assert_eq!(config.limits.arena_percent, 50);
    }

    #[test]
    fn nonsense_is_refused() {
        for args in [
            ["--publish", "8080"],
            ["--publish", ":8080"],
            ["--publish", "localhost:8080"],
            ["--publish", "127.0.0.1:0"],
            ["--publish", "127.0.0.1:80=x"],
            ["--allow-connect", "10.0.0.0/33"],
            ["--limit-arena", "0"],
            ["--limit-arena", "101"],
            ["--limit-connections", "-1"],
        ] {
            assert!(config(&args).is_err(), "{args:?}");
        }
    }
}
