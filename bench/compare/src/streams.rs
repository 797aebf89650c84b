//! Bulk data: sink, source, duplex, fan.

use crate::plan::Workload;
use crate::program::Program;
use crate::rig::{Pairs, Rig, Sample};
use crate::row::Row;
use crate::target::Target;
use anyhow::Result;
use arca_bench::Command;
use arca_bench::service::Behaviour;
use arca_bench::wire::Header;

const GIB: f64 = (1u64 << 30) as f64;

/// GiB per second, of `bytes` in a sample.
fn rate(bytes: u64) -> impl Fn(&Sample) -> f64 {
    move |sample| bytes as f64 / GIB / (sample.ns() / 1e9)
}

/// One connection.
///
/// # Errors
///
/// If a transfer fails.
pub fn single(rig: &mut Rig<'_>) -> Result<Vec<Row>> {
    let len = rig.plan.stream_bytes;
    let (up, down) = match rig.workload {
        Workload::Source => (0, len),
        Workload::Duplex => (len, len),
        _ => (len, 0),
    };
    let header = Header { up, down };
    let bytes = up + down;
    let pairs = rig.plan.pairs;
    rig.progress.set_length(pairs as u64 + 1);
    let address = rig.listen(Behaviour::Transfer)?;
    let pairs = rig.pairs(pairs, |side, _| {
        side.ask(Command::Transfer { address, header })
    })?;
    let mut rows = vec![
        pairs
            .row("throughput", "GiB/s", rate(bytes))
            .must(Target::RatioAtLeast(0.9))
            .drawn(),
    ];
    rows.extend(costs(&pairs, "", bytes));
    Ok(rows)
}

/// CPU time and the VM's counters, per GiB.
fn costs(pairs: &Pairs, prefix: &str, bytes: u64) -> Vec<Row> {
    let gib = bytes as f64 / GIB;
    let mut rows = pairs.cpu_rows(prefix, "ms/GiB", gib * 1e3);
    rows.extend(pairs.counter_rows(prefix, "per GiB", gib));
    rows
}

/// Many connections at once, which stay open from sample to sample.
///
/// # Errors
///
/// If a transfer fails.
pub fn fan(rig: &mut Rig<'_>) -> Result<Vec<Row>> {
    let (sizes, total) = rig.plan.fan;
    let pairs = rig.plan.pairs;
    rig.progress
        .set_length(2 * (sizes.len() * (pairs + 1)) as u64);
    let mut rows = Vec::new();
    for &count in sizes {
        let address = rig.listen(Behaviour::SharedTransfer)?;
        for side in [&mut rig.native, &mut rig.guest] {
            side.ask(Command::Open { address, count })?;
        }
        let share = total / count as u64;
        let bytes = share * count as u64;
        for (way, header) in [
            ("up", Header { up: share, down: 0 }),
            ("down", Header { up: 0, down: share }),
        ] {
            let action = |side: &mut Program, _: &mut Program| side.ask(Command::Move { header });
            let measured = rig.pairs(pairs, action)?;
            let prefix = format!("{count} {way}: ");
            rows.push(
                measured
                    .row(format!("{prefix}throughput"), "GiB/s", rate(bytes))
                    .must(Target::RatioAtLeast(0.8))
                    .drawn_at(format!("{way}, by connections (GiB/s)"), count as f64),
            );
            let mut costs = costs(&measured, &prefix, bytes).into_iter();
            rows.extend(costs.next());
            rows.extend(costs.map(Row::detail));
        }
        for side in [&mut rig.native, &mut rig.guest] {
            side.ask(Command::Close)?;
        }
    }
    Ok(rows)
}
