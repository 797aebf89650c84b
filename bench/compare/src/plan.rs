//! The workloads, and how much of each is done.

use arca_vmm::Platform;
use clap::ValueEnum;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Bulk data from the guest, one connection
    Sink,
    /// Bulk data to the guest, one connection
    Source,
    /// Both at once
    Duplex,
    /// Round trips of 1 byte on one connection
    Rtt,
    /// Round trips of 64 bytes on 64 to 1,024 connections at once
    Rr,
    /// Connect, exchange a byte, close
    Crr,
    /// The same, with the guest as the server
    Accept,
    /// Bulk data over 1 to 1,024 connections at once
    Fan,
    /// HTTP requests to the guest: connections that are kept, and new ones
    Http,
    /// 10,000 open connections that do nothing
    Idle,
    /// From process start to main and to the first connection
    Boot,
    /// Bulk data that the guest generates and parses: with a buffer, and in place
    InPlace,
    /// What it takes to notify, to hand over to another vCPU, and to sleep
    Exits,
    /// The ring alone, between two threads of the host
    Ring,
}

impl Workload {
    /// All of them.
    pub fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sink => "sink",
            Self::Source => "source",
            Self::Duplex => "duplex",
            Self::Rtt => "rtt",
            Self::Rr => "rr",
            Self::Crr => "crr",
            Self::Accept => "accept",
            Self::Fan => "fan",
            Self::Http => "http",
            Self::Idle => "idle",
            Self::Boot => "boot",
            Self::InPlace => "in-place",
            Self::Exits => "exits",
            Self::Ring => "ring",
        }
    }
}

/// How much is done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Pairs of samples, native and guest.
    pub pairs: usize,
    /// Bytes in each direction of a single stream.
    pub stream_bytes: u64,
    /// Round trips of a sample of `rtt`.
    pub round_trips: usize,
    /// Numbers of connections of `rr`.
    pub crowds: &'static [usize],
    /// Round trips of a sample of `rr`, on all of them together.
    pub shared_trips: usize,
    /// Connections of a sample of `crr` and `accept`.
    pub connections: usize,
    /// Numbers of connections of `fan`, and bytes that all move together.
    pub fan: (&'static [usize], u64),
    /// Numbers of connections of `http` that are kept, and requests on all of them
    /// together. With new connections it makes as many as `crr`.
    pub http: (&'static [usize], usize),
    /// Connections of `idle`, and seconds that they are watched.
    pub idle: (usize, f64),
    /// Pairs of `idle`, each of which takes that long twice.
    pub idle_pairs: usize,
    /// Pairs of `boot`.
    pub boots: usize,
    /// Notifications and hand-overs of a sample of `exits`.
    pub exits: usize,
    /// Pairs of `ring`.
    pub ring_pairs: usize,
    /// Nanoseconds that a sample of `ring` takes, about.
    pub ring_ns: u64,
}

impl Plan {
    /// The full amounts, or the small ones.
    pub fn new(quick: bool, pairs: Option<u32>) -> Self {
        let fan = &[1, 16, 256, 1024];
        let crowds = &[64, 256, 1024];
        let kept = &[1, 64, 256];
        let mut plan = if quick {
            Self {
                pairs: 3,
                stream_bytes: 256 << 20,
                round_trips: 2_000,
                crowds,
                shared_trips: 64 * 200,
                connections: 500,
                fan: (fan, 128 << 20),
                http: (kept, 5_000),
                idle: (2_000, 2.0),
                idle_pairs: 1,
                boots: 5,
                exits: 500,
                ring_pairs: 3,
                ring_ns: 10_000_000,
            }
        } else {
            Self {
                pairs: 7,
                stream_bytes: 2 << 30,
                round_trips: 10_000,
                crowds,
                shared_trips: 64 * 1_000,
                connections: 3_000,
                fan: (fan, 1 << 30),
                http: (kept, 50_000),
                idle: (10_000, 10.0),
                idle_pairs: 2,
                boots: 25,
                exits: 5_000,
                ring_pairs: 7,
                ring_ns: 100_000_000,
            }
        };
        if let Some(pairs) = pairs {
            let pairs = pairs as usize;
            plan.pairs = pairs;
            plan.idle_pairs = pairs;
            plan.boots = pairs;
            plan.ring_pairs = pairs;
        }
        plan
    }

    /// Round trips of a sample of `rr` on each of so many connections.
    pub fn trips_each(&self, connections: usize) -> usize {
        (self.shared_trips / connections).max(1)
    }

    /// The amounts in a line.
    pub fn describe(&self, platform: Platform, vcpus: usize) -> String {
        let Self {
            pairs,
            stream_bytes,
            round_trips,
            connections,
            idle,
            idle_pairs,
            boots,
            ..
        } = self;
        format!(
            "platform {platform}, {vcpus} vCPU; {pairs} pairs (idle {idle_pairs}, boot {boots}) of {} MiB, \
             {round_trips} round trips, {connections} connections, {} idle ones for {} s",
            stream_bytes >> 20,
            idle.0,
            idle.1,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for workload in Workload::all() {
            let value = workload.to_possible_value();
            assert_eq!(
                value.map(|value| value.get_name().to_owned()),
                Some(workload.name().into())
            );
        }
    }
}
