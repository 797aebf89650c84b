//! What a guest saves that generates and parses where the bytes are: in the ring.
//!
//! Both sides are guests. One has a buffer of its own, which it fills and writes, or
//! reads into and looks at; the other does the same work on what the ring lends.

use crate::plan::{Plan, Workload};
use crate::program::Program;
use crate::row::Row;
use crate::side::Role;
use anyhow::{Context, Result};
use arca_bench::Command;
use arca_bench::service::{Behaviour, Request};
use arca_bench::wire::Header;
use indicatif::ProgressBar;

const GIB: f64 = (1u64 << 30) as f64;

/// What a transfer took.
struct Sample {
    /// Nanoseconds of CPU time of the vCPUs' threads.
    vcpu: u64,
    /// The same, of all threads of the guest's process.
    process: u64,
    /// Nanoseconds.
    ns: u64,
}

/// Measures both directions.
///
/// # Errors
///
/// If a transfer fails.
pub fn in_place(plan: &Plan, vm: &[String], progress: &ProgressBar) -> Result<Vec<Row>> {
    let len = plan.stream_bytes;
    progress.set_length(2 * (plan.pairs as u64 + 1));
    let mut service = Program::start(Role::Service, &[], None)?;
    let mut guest = Program::start(Role::Guest, vm, None)?;
    guest.ready()?;
    guest.count_children()?;
    let mut rows = Vec::new();
    for (way, header) in [
        ("writing", Header { up: len, down: 0 }),
        ("reading", Header { up: 0, down: len }),
    ] {
        service.send(Request::Listen(Behaviour::Transfer))?;
        let address = service.listening()?;
        let (mut copied, mut in_place) = (Vec::new(), Vec::new());
        // The first pair is not counted.
        for number in 0..=plan.pairs {
            for (samples, in_place) in [(&mut copied, false), (&mut in_place, true)] {
                let command = Command::Work {
                    address,
                    header,
                    in_place,
                };
                let sample = sample(&mut guest, command)?;
                if number > 0 {
                    samples.push(sample);
                }
            }
            progress.inc(1);
        }
        let per_gib = len as f64 / GIB * 1e6;
        let row = |metric: &str, unit, value: &dyn Fn(&Sample) -> f64| {
            let values = |samples: &[Sample]| samples.iter().map(value).collect();
            let metric = format!("{way}, {metric}");
            Row::new(
                Workload::InPlace,
                metric,
                unit,
                values(&copied),
                values(&in_place),
            )
            .between("copied", "in place")
        };
        rows.push(row("CPU of the vCPU", "ms/GiB", &|s| s.vcpu as f64 / per_gib).drawn());
        rows.push(row("CPU of the process", "ms/GiB", &|s| {
            s.process as f64 / per_gib
        }));
        rows.push(row("throughput", "GiB/s", &|s| {
            len as f64 / GIB / (s.ns as f64 / 1e9)
        }));
    }
    guest.finish()?;
    service.finish()?;
    Ok(rows)
}

fn sample(guest: &mut Program, command: Command) -> Result<Sample> {
    let (vcpu, process) = (guest.thread_cpu_ns("vcpu")?, guest.cpu_ns()?);
    let outcome = guest.ask(command)?;
    Ok(Sample {
        vcpu: guest.thread_cpu_ns("vcpu")? - vcpu,
        process: guest.cpu_ns()? - process,
        ns: outcome.get("ns").context("no time in the answer")?,
    })
}
