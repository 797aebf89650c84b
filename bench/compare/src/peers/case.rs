//! What is done, and what is made of a sample.

use crate::plan::{Plan, Workload};
use crate::rig::Sample;
use crate::trips::MESSAGE;
use arca_bench::Command;
use arca_bench::service::Behaviour;
use arca_bench::wire::Header;
use std::net::SocketAddr;

const GIB: f64 = (1u64 << 30) as f64;

/// How many times as good as pasta the guest must be: in what is counted or timed, and
/// in streams.
const AHEAD: f64 = 1.6;
const AHEAD_IN_STREAMS: f64 = 1.3;

/// One thing that is done in each sample.
pub struct Case {
    /// What the names of its metrics begin with.
    pub prefix: String,
    pub task: Task,
    pub metrics: Vec<Metric>,
}

/// What a sample consists of.
pub enum Task {
    /// The program connects to the service.
    Connect {
        behaviour: Behaviour,
        /// Connections that are open for all samples.
        open: usize,
        /// Ports of the service that take turns.
        ports: usize,
        command: Box<dyn Fn(SocketAddr) -> Command>,
    },
    /// The service connects to the program, that many times.
    Serve { count: usize, ports: usize },
}

/// A number that is made of a sample.
pub struct Metric {
    pub name: &'static str,
    pub unit: &'static str,
    /// How many times as good as pasta the guest must be. It must be as good as the
    /// relay where there is such a bound.
    pub ahead: Option<f64>,
    pub value: Box<dyn Fn(&Sample) -> f64>,
}

impl Metric {
    fn new(
        name: &'static str,
        unit: &'static str,
        value: impl Fn(&Sample) -> f64 + 'static,
    ) -> Self {
        let value = Box::new(value);
        Self {
            name,
            unit,
            ahead: None,
            value,
        }
    }

    fn ahead(mut self, bound: f64) -> Self {
        self.ahead = Some(bound);
        self
    }

    /// CPU time of the party's processes, without the service's.
    fn cpu(unit: &'static str, per: f64) -> Self {
        Self::new("CPU", unit, move |sample| sample.cpu_ns as f64 / 1e3 / per)
    }

    fn rate(name: &'static str, per: f64) -> Self {
        Self::new(name, "1/s", move |sample| per / (sample.ns() / 1e9)).ahead(AHEAD)
    }

    fn micros(name: &'static str, of: &'static str) -> Self {
        Self::new(name, "us", move |sample| sample.get(of) / 1e3)
    }
}

/// All that a workload does; nothing if it is none that has peers.
pub fn cases(workload: Workload, plan: &Plan) -> Vec<Case> {
    let len = plan.stream_bytes;
    let stream = |up, down| vec![stream(Header { up, down })];
    match workload {
        Workload::Sink => stream(len, 0),
        Workload::Source => stream(0, len),
        Workload::Duplex => stream(len, len),
        Workload::Rtt => vec![rtt(plan.round_trips)],
        Workload::Rr => plan.crowds.iter().map(|&size| rr(size, plan)).collect(),
        Workload::Crr => vec![crr(plan)],
        Workload::Accept => vec![accept(plan)],
        Workload::Fan => {
            let (sizes, total) = plan.fan;
            let both =
                |&size: &usize| [("up", true), ("down", false)].map(|way| fan(size, total, way));
            sizes.iter().flat_map(both).collect()
        }
        _ => Vec::new(),
    }
}

/// A case without a prefix, for which no connection stays open.
fn connect(
    behaviour: Behaviour,
    ports: usize,
    command: impl Fn(SocketAddr) -> Command + 'static,
    metrics: Vec<Metric>,
) -> Case {
    Case {
        prefix: String::new(),
        task: Task::Connect {
            behaviour,
            open: 0,
            ports,
            command: Box::new(command),
        },
        metrics,
    }
}

/// A case that uses all of so many open connections at once.
fn crowd(
    prefix: String,
    behaviour: Behaviour,
    open: usize,
    command: Command,
    metrics: Vec<Metric>,
) -> Case {
    Case {
        prefix,
        task: Task::Connect {
            behaviour,
            open,
            ports: 1,
            command: Box::new(move |_| command),
        },
        metrics,
    }
}

fn throughput(bytes: u64) -> Vec<Metric> {
    let gib = bytes as f64 / GIB;
    let rate = move |sample: &Sample| gib / (sample.ns() / 1e9);
    vec![
        Metric::new("throughput", "GiB/s", rate).ahead(AHEAD_IN_STREAMS),
        Metric::cpu("ms/GiB", gib * 1e3),
    ]
}

fn stream(header: Header) -> Case {
    let command = move |address| Command::Transfer { address, header };
    let metrics = throughput(header.up + header.down);
    connect(Behaviour::Transfer, 1, command, metrics)
}

fn rtt(count: usize) -> Case {
    let command = move |address| Command::Ping {
        address,
        size: 1,
        count,
    };
    let metrics = vec![
        Metric::micros("p50", "p50_ns").ahead(AHEAD),
        Metric::micros("p99", "p99_ns"),
        // Those that warm up cost CPU time, too.
        Metric::cpu("us", (count + count / 10) as f64),
    ];
    connect(Behaviour::Echo, 1, command, metrics)
}

fn rr(size: usize, plan: &Plan) -> Case {
    let count = plan.trips_each(size);
    let trips = (size * count) as f64;
    let command = Command::Exchange {
        size: MESSAGE,
        count,
    };
    let metrics = vec![
        Metric::rate("round trips", trips),
        Metric::micros("p99", "p99_ns"),
        Metric::cpu("us", trips),
    ];
    crowd(
        format!("{size}: "),
        Behaviour::SharedEcho,
        size,
        command,
        metrics,
    )
}

/// A port for each sample: the client's ports that the one before has used up are of
/// no concern to the next.
fn ports(plan: &Plan) -> usize {
    plan.pairs + 1
}

fn churn(count: usize) -> Vec<Metric> {
    vec![
        Metric::rate("connections", count as f64),
        Metric::cpu("us", count as f64),
    ]
}

fn crr(plan: &Plan) -> Case {
    let count = plan.connections;
    let command = move |address| Command::Churn { address, count };
    connect(Behaviour::Churn, ports(plan), command, churn(count))
}

fn accept(plan: &Plan) -> Case {
    let count = plan.connections;
    Case {
        prefix: String::new(),
        task: Task::Serve {
            count,
            ports: ports(plan),
        },
        metrics: churn(count),
    }
}

fn fan(size: usize, total: u64, (way, up): (&str, bool)) -> Case {
    let share = total / size as u64;
    let header = match up {
        true => Header { up: share, down: 0 },
        false => Header { up: 0, down: share },
    };
    let metrics = throughput(share * size as u64);
    let prefix = format!("{size} {way}: ");
    let command = Command::Move { header };
    crowd(prefix, Behaviour::SharedTransfer, size, command, metrics)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::WORKLOADS;
    use arca_bench::Outcome;

    #[test]
    fn what_has_peers_has_cases_with_a_bound() {
        let plan = Plan::new(true, None);
        for workload in Workload::all() {
            let cases = cases(workload, &plan);
            assert_eq!(
                WORKLOADS.contains(&workload),
                !cases.is_empty(),
                "{workload:?}"
            );
            for case in &cases {
                let bounds = case.metrics.iter().filter(|metric| metric.ahead.is_some());
                assert_eq!(bounds.count(), 1, "{workload:?} {}", case.prefix);
            }
        }
    }

    #[test]
    fn a_sample_becomes_numbers() {
        let outcome = Outcome::default().with("ns", 500_000_000);
        let sample = Sample::new(outcome, 2_000_000, 0);
        let values = |metrics: &[Metric]| -> Vec<f64> {
            metrics
                .iter()
                .map(|metric| (metric.value)(&sample))
                .collect()
        };
        assert_eq!(values(&throughput(1 << 30)), [2.0, 2.0]);
        assert_eq!(values(&churn(100)), [200.0, 20.0]);
    }
}
