//! The two sides and the service, and measuring in pairs.

use crate::host::Load;
use crate::plan::{Plan, Workload};
use crate::program::Program;
use crate::row::Row;
use crate::side::Role;
use anyhow::{Context, Result};
use arca_bench::Outcome;
use arca_bench::service::{Behaviour, Request};
use indicatif::ProgressBar;
use std::net::SocketAddr;

/// What a workload is measured with.
pub struct Rig<'a> {
    pub workload: Workload,
    pub plan: &'a Plan,
    pub progress: &'a ProgressBar,
    pub service: Program,
    pub native: Program,
    pub guest: Program,
    load: Load,
}

/// The VM's counters, what they are called here, and whether that is one of the
/// finer points.
const COUNTERS: [(&str, &str, bool); 9] = [
    ("doorbells", "doorbells", false),
    ("doorbells_saved", "doorbells saved", true),
    ("parks", "parks", false),
    ("sleeps", "parks that slept", true),
    ("wakes", "wakes", false),
    ("vcpu_exits", "vCPU exits", true),
    ("epoll_turns", "epoll turns", true),
    ("ring_full", "ring found full", true),
    ("ring_empty", "ring found empty", true),
];

/// One sample of one side.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What the side measured itself.
    pub outcome: Outcome,
    /// CPU time of the side's process, in nanoseconds.
    pub cpu_ns: u64,
    /// CPU time of the service, in nanoseconds.
    pub service_cpu_ns: u64,
    /// The VM's counters before and after; empty for the native side.
    counters: (Outcome, Outcome),
}

impl Sample {
    /// One without counters.
    pub fn new(outcome: Outcome, cpu_ns: u64, service_cpu_ns: u64) -> Self {
        Self {
            outcome,
            cpu_ns,
            service_cpu_ns,
            counters: Default::default(),
        }
    }

    /// The nanoseconds that it took.
    pub fn ns(&self) -> f64 {
        self.get("ns")
    }

    /// A number that the side measured. All the same if it forgot to: the row
    /// shows it.
    pub fn get(&self, name: &str) -> f64 {
        self.outcome
            .get(name)
            .map_or(f64::NAN, |value| value as f64)
    }

    /// How far a counter went.
    pub fn counted(&self, name: &str) -> f64 {
        let (before, after) = &self.counters;
        match (before.get(name), after.get(name)) {
            (Some(before), Some(after)) => after.saturating_sub(before) as f64,
            _ => f64::NAN,
        }
    }
}

/// Samples of both sides; those of the same number were taken one after the
/// other.
#[derive(Clone, Debug)]
pub struct Pairs {
    pub workload: Workload,
    pub native: Vec<Sample>,
    pub guest: Vec<Sample>,
}

impl<'a> Rig<'a> {
    /// Starts the processes.
    ///
    /// # Errors
    ///
    /// If one cannot be started.
    pub fn start(
        workload: Workload,
        plan: &'a Plan,
        vm: &[String],
        progress: &'a ProgressBar,
    ) -> Result<Self> {
        let load = Load::watch()?;
        let service = Program::start(Role::Service, &[], None)?;
        let mut native = Program::start(Role::Native, &[], None)?;
        let mut guest = Program::start(Role::Guest, vm, None)?;
        native.ready()?;
        guest.ready()?;
        guest.count_children()?;
        Ok(Self {
            workload,
            plan,
            progress,
            service,
            native,
            guest,
            load,
        })
    }

    /// A new listener of the service.
    ///
    /// # Errors
    ///
    /// If there is no port.
    pub fn listen(&mut self, behaviour: Behaviour) -> Result<SocketAddr> {
        self.service.send(Request::Listen(behaviour))?;
        self.service.listening()
    }

    /// Does `action` with each side's process and the service, native first in
    /// the even pairs and guest first in the others, after a round that is not
    /// counted.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn pairs(
        &mut self,
        count: usize,
        mut action: impl FnMut(&mut Program, &mut Program) -> Result<Outcome>,
    ) -> Result<Pairs> {
        let mut pairs = Pairs {
            workload: self.workload,
            native: Vec::new(),
            guest: Vec::new(),
        };
        for number in 0..=count {
            let mut order = [Role::Native, Role::Guest];
            if number % 2 == 1 {
                order.reverse();
            }
            for role in order {
                let sample = self
                    .sample(role, &mut action)
                    .with_context(|| format!("{role:?}, pair {number}"))?;
                match (number, role) {
                    (0, _) => {}
                    (_, Role::Native) => pairs.native.push(sample),
                    _ => pairs.guest.push(sample),
                }
            }
            self.progress.inc(1);
        }
        Ok(pairs)
    }

    fn sample(
        &mut self,
        role: Role,
        action: &mut impl FnMut(&mut Program, &mut Program) -> Result<Outcome>,
    ) -> Result<Sample> {
        let service = &mut self.service;
        let side = match role {
            Role::Guest => &mut self.guest,
            _ => &mut self.native,
        };
        let before = side.counters()?;
        let (cpu, service_cpu) = (side.cpu_ns()?, service.cpu_ns()?);
        let outcome = action(side, service)?;
        let (cpu_after, service_cpu_after) = (side.cpu_ns()?, service.cpu_ns()?);
        let counters = (before, side.counters()?);
        Ok(Sample {
            outcome,
            cpu_ns: cpu_after - cpu,
            service_cpu_ns: service_cpu_after - service_cpu,
            counters,
        })
    }

    /// Ends the processes and says what the machine did beside them.
    ///
    /// # Errors
    ///
    /// If one fails.
    pub fn finish(self) -> Result<Option<Row>> {
        let mut ours = 0;
        for program in [&self.guest, &self.native, &self.service] {
            ours += program.cpu_ns()?;
        }
        let others = self.load.warn(self.workload, ours, self.progress);
        for program in [self.guest, self.native, self.service] {
            program.finish()?;
        }
        let Some(others) = others else {
            return Ok(None);
        };
        let row = Row::new(
            self.workload,
            "load of others",
            "% core",
            Vec::new(),
            vec![others],
        );
        Ok(Some(row.detail()))
    }
}

impl Pairs {
    /// A row of what `value` makes of each sample.
    pub fn row(
        &self,
        metric: impl Into<String>,
        unit: &'static str,
        value: impl Fn(&Sample) -> f64,
    ) -> Row {
        let native = self.native.iter().map(&value).collect();
        let guest = self.guest.iter().map(&value).collect();
        Row::new(self.workload, metric, unit, native, guest)
    }

    /// Rows of CPU time, with and without the service's: what `per` operations
    /// take, in microseconds.
    pub fn cpu_rows(&self, prefix: &str, unit: &'static str, per: f64) -> Vec<Row> {
        let scale = 1e3 * per;
        let both = |s: &Sample| (s.cpu_ns + s.service_cpu_ns) as f64 / scale;
        vec![
            self.row(format!("{prefix}CPU"), unit, |s| s.cpu_ns as f64 / scale),
            self.row(format!("{prefix}CPU with service"), unit, both),
        ]
    }

    /// Rows of the VM's counters: how often each per one of `per` operations.
    pub fn counter_rows(&self, prefix: &str, unit: &'static str, per: f64) -> Vec<Row> {
        let rows = COUNTERS.iter().map(|&(name, title, detail)| {
            let guest = self.guest.iter().map(|s| s.counted(name) / per).collect();
            let metric = format!("{prefix}{title}");
            let row = Row::new(self.workload, metric, unit, Vec::new(), guest);
            if detail { row.detail() } else { row }
        });
        rows.collect()
    }
}
