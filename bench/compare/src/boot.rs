//! From process start to main and to the first connection.
//!
//! The times are the program's own: it says what the wall clock showed when it
//! came to its `main`, and when its first connection was there. The guest's wall
//! clock runs from the host's at boot.

use crate::plan::{Plan, Workload};
use crate::program::Program;
use crate::row::Row;
use crate::side::Role;
use crate::target::Target;
use anyhow::{Context, Result};
use arca_bench::Net;
use arca_bench::native::Native;
use arca_bench::service::{Behaviour, Request};
use indicatif::ProgressBar;
use std::net::SocketAddr;

/// Milliseconds to main, to the first connection, and to the answer's arrival
/// here.
type Times = [f64; 3];

/// Starts each side anew, in turn.
///
/// # Errors
///
/// If one does not start.
pub fn boot(plan: &Plan, vm: &[String], progress: &ProgressBar) -> Result<Vec<Row>> {
    let pairs = plan.boots;
    progress.set_length(pairs as u64 + 1);
    let mut service = Program::start(Role::Service, &[], None)?;
    service.send(Request::Listen(Behaviour::Echo))?;
    let address = service.listening()?;
    let (mut native, mut guest) = (Vec::new(), Vec::new());
    for number in 0..=pairs {
        let first = start(Role::Native, &[], address)?;
        let second = start(Role::Guest, vm, address)?;
        if number > 0 {
            native.push(first);
            guest.push(second);
        }
        progress.inc(1);
    }
    service.finish()?;
    let row = |metric: &str, index: usize| {
        let values = |times: &[Times]| times.iter().map(|times| times[index]).collect();
        Row::new(
            Workload::Boot,
            metric,
            "ms",
            values(&native),
            values(&guest),
        )
    };
    Ok(vec![
        row("to main", 0).must(Target::Below(5.0)).drawn(),
        row("to first connection", 1)
            .must(Target::Below(8.0))
            .drawn(),
        row("to first output, seen", 2),
    ])
}

fn start(role: Role, options: &[String], address: SocketAddr) -> Result<Times> {
    let before = Native.unix_now();
    let mut program = Program::start(role, options, Some(address))?;
    let ready = program.ready()?;
    let seen = Native.unix_now();
    program.finish()?;
    let since = |then: u64| then.saturating_sub(before) as f64 / 1e6;
    let said = |name| ready.get(name).with_context(|| format!("no {name}"));
    Ok([
        since(said("unix_ns")?),
        since(said("connected_ns")?),
        since(seen),
    ])
}
