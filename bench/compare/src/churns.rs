//! Connections that are opened, used once and closed: crr, accept.

use crate::rig::{Pairs, Rig};
use crate::row::Row;
use crate::target::Target;
use anyhow::Result;
use arca_bench::Command;
use arca_bench::service::{Behaviour, Request};

/// The sides connect. Each sample has a port of its own: the ports that the one
/// before has used up are of no concern to it.
///
/// # Errors
///
/// If a connection fails.
pub fn crr(rig: &mut Rig<'_>) -> Result<Vec<Row>> {
    let count = rig.plan.connections;
    let pairs = rig.plan.pairs;
    rig.progress.set_length(pairs as u64 + 1);
    let pairs = rig.pairs(pairs, |side, service| {
        service.send(Request::Listen(Behaviour::Churn))?;
        let address = service.listening()?;
        side.ask(Command::Churn { address, count })
    })?;
    Ok(rows(&pairs, count))
}

/// The service connects, and measures.
///
/// # Errors
///
/// If a connection fails.
pub fn accept(rig: &mut Rig<'_>) -> Result<Vec<Row>> {
    let count = rig.plan.connections;
    let pairs = rig.plan.pairs;
    rig.progress.set_length(pairs as u64 + 1);
    let pairs = rig.pairs(pairs, |side, service| {
        side.send(Command::Serve { port: 0, count })?;
        let address = side.listening()?;
        let outcome = service.ask(Request::Load(address, count))?;
        side.done()?;
        Ok(outcome)
    })?;
    Ok(rows(&pairs, count))
}

fn rows(pairs: &Pairs, count: usize) -> Vec<Row> {
    let count = count as f64;
    let mut rows = vec![
        pairs
            .row("connections", "1/s", |s| count / (s.ns() / 1e9))
            .must(Target::RatioAtLeast(0.9))
            .drawn(),
    ];
    rows.extend(pairs.cpu_rows("", "us", count));
    rows.extend(pairs.counter_rows("", "per conn", count));
    rows
}
