//! Open connections that do nothing.

use crate::host;
use crate::plan::{Plan, Workload};
use crate::program::Program;
use crate::row::Row;
use crate::side::Role;
use crate::target::Target;
use anyhow::Result;
use arca_bench::Command;
use arca_bench::service::{Behaviour, Request};
use indicatif::ProgressBar;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

/// Descriptors that a process needs beside those of the connections.
const OTHERS: usize = 200;
/// How long what was opened may settle.
const SETTLE: Duration = Duration::from_millis(500);

/// What one reading of a side gave.
struct Look {
    /// Percent of a core that its process took.
    cpu: f64,
    /// Resident memory for each connection, in KiB.
    memory: f64,
    /// Microseconds to open one, several at a time.
    open: f64,
    /// Microseconds for a round trip on all of them at once, each.
    exchange: f64,
}

/// Opens connections on each side in turn, uses each once, and watches what they
/// cost while nothing happens on them. Each look is at a new process: what one had
/// in memory for its connections it may keep for the next.
///
/// # Errors
///
/// If a connection fails.
pub fn idle(plan: &Plan, vm: &[String], progress: &ProgressBar) -> Result<Vec<Row>> {
    let (wanted, seconds) = plan.idle;
    let count = wanted.min(host::descriptor_limit().saturating_sub(OTHERS));
    if count < wanted {
        progress.suspend(|| {
            crate::say(format_args!(
                "idle: {count} connections for want of descriptors (ulimit -n)"
            ));
        });
    }
    let pairs = plan.idle_pairs;
    progress.set_length(2 * pairs as u64);
    let mut service = Program::start(Role::Service, &[], None)?;
    let watch = Duration::from_secs_f64(seconds);
    let (mut native, mut guest) = (Vec::new(), Vec::new());
    for _ in 0..pairs {
        for (role, options, looks) in [
            (Role::Native, &[][..], &mut native),
            (Role::Guest, vm, &mut guest),
        ] {
            service.send(Request::Listen(Behaviour::SharedEcho))?;
            let address = service.listening()?;
            looks.push(look(role, options, address, count, watch)?);
            progress.inc(1);
        }
    }
    service.finish()?;
    let row = |metric: &str, unit, value: fn(&Look) -> f64| {
        let values = |looks: &[Look]| looks.iter().map(value).collect();
        let metric = format!("{count}: {metric}");
        Row::new(
            Workload::Idle,
            metric,
            unit,
            values(&native),
            values(&guest),
        )
    };
    Ok(vec![
        row("CPU", "% core", |look| look.cpu)
            .must(Target::Below(1.0))
            .drawn(),
        row("memory each", "KiB", |look| look.memory)
            .must(Target::AtMost(16.0))
            .drawn(),
        row("open, each", "us", |look| look.open),
        row("round trip, each", "us", |look| look.exchange),
    ])
}

fn look(
    role: Role,
    options: &[String],
    address: SocketAddr,
    count: usize,
    watch: Duration,
) -> Result<Look> {
    let mut side = Program::start(role, options, None)?;
    side.ready()?;
    side.count_children()?;
    // What the first connection brings with it is not counted to all.
    side.ask(Command::Open { address, count: 1 })?;
    side.ask(Command::Exchange { size: 1, count: 1 })?;
    let before = side.resident()?;
    let opened = side.ask(Command::Open {
        address,
        count: count - 1,
    })?;
    let exchanged = side.ask(Command::Exchange { size: 1, count: 1 })?;
    thread::sleep(SETTLE);
    let resident = side.resident()?.saturating_sub(before);
    let (start, cpu) = (Instant::now(), side.cpu_ns()?);
    thread::sleep(watch);
    let cpu = side.cpu_ns()? - cpu;
    let elapsed = start.elapsed();
    // They still work.
    side.ask(Command::Exchange { size: 1, count: 1 })?;
    side.ask(Command::Close)?;
    side.finish()?;
    let each = |ns: Option<u64>| ns.map_or(f64::NAN, |ns| ns as f64 / 1e3 / count as f64);
    Ok(Look {
        cpu: cpu as f64 / elapsed.as_nanos() as f64 * 100.0,
        memory: resident as f64 / 1024.0 / count as f64,
        open: each(opened.get("ns")),
        exchange: each(exchanged.get("ns")),
    })
}
