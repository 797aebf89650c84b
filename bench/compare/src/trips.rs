//! Round trips: rtt, rr.

use crate::rig::{Rig, Sample};
use crate::row::Row;
use crate::target::Target;
use anyhow::Result;
use arca_bench::Command;
use arca_bench::service::Behaviour;

/// Bytes that go each way in `rr`.
pub const MESSAGE: usize = 64;

/// One byte, one connection.
///
/// # Errors
///
/// If a round trip fails.
pub fn rtt(rig: &mut Rig<'_>) -> Result<Vec<Row>> {
    let count = rig.plan.round_trips;
    let pairs = rig.plan.pairs;
    rig.progress.set_length(pairs as u64 + 1);
    let address = rig.listen(Behaviour::Echo)?;
    let ping = Command::Ping {
        address,
        size: 1,
        count,
    };
    let pairs = rig.pairs(pairs, |side, _| side.ask(ping))?;
    let micros = |name: &'static str| move |sample: &Sample| sample.get(name) / 1e3;
    let mut rows = vec![
        pairs
            .row("p50", "us", micros("p50_ns"))
            .must(Target::RatioAtMost(1.0))
            .drawn(),
        pairs
            .row("p99", "us", micros("p99_ns"))
            .must(Target::RatioAtMost(1.5))
            .drawn(),
        pairs.row("longest", "us", micros("max_ns")),
    ];
    // Those that warm up cost CPU time, too.
    let trips = (count + count / 10) as f64;
    let mut cpu = pairs.cpu_rows("", "us", trips).into_iter();
    let own = cpu.next();
    rows.extend(own.map(|row| row.must(Target::RatioAtMost(2.0)).drawn()));
    rows.extend(cpu);
    rows.extend(pairs.counter_rows("", "per trip", trips));
    Ok(rows)
}

/// 64 bytes, many connections at once.
///
/// # Errors
///
/// If a round trip fails.
pub fn rr(rig: &mut Rig<'_>) -> Result<Vec<Row>> {
    let sizes = rig.plan.crowds;
    let pairs = rig.plan.pairs;
    rig.progress.set_length((sizes.len() * (pairs + 1)) as u64);
    let mut rows = Vec::new();
    for &connections in sizes {
        let address = rig.listen(Behaviour::SharedEcho)?;
        for side in [&mut rig.native, &mut rig.guest] {
            let count = connections;
            side.ask(Command::Open { address, count })?;
        }
        let (size, count) = (MESSAGE, rig.plan.trips_each(connections));
        let measured = rig.pairs(pairs, |side, _| side.ask(Command::Exchange { size, count }))?;
        let trips = (connections * count) as f64;
        let prefix = format!("{connections}: ");
        let at = connections as f64;
        let micros = |name: &'static str| move |sample: &Sample| sample.get(name) / 1e3;
        rows.extend([
            measured
                .row(format!("{prefix}round trips"), "1/s", |s| {
                    trips / (s.ns() / 1e9)
                })
                .must(Target::RatioAtLeast(0.9))
                .drawn_at("round trips, by connections (1/s)", at),
            measured.row(format!("{prefix}p50"), "us", micros("p50_ns")),
            measured
                .row(format!("{prefix}p99"), "us", micros("p99_ns"))
                .must(Target::RatioAtMost(1.5))
                .drawn_at("p99, by connections (us)", at),
        ]);
        rows.extend(measured.cpu_rows(&prefix, "us", trips));
        rows.extend(measured.counter_rows(&prefix, "per trip", trips));
        for side in [&mut rig.native, &mut rig.guest] {
            side.ask(Command::Close)?;
        }
    }
    Ok(rows)
}
