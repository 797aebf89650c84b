//! Round trips: rtt, rr.

use crate::rig::{Rig, Sample};
use crate::row::Row;
use crate::target::Target;
use anyhow::Result;
use arca_bench::Command;
use arca_bench::service::Behaviour;

/// Bytes that go each way in `rr`.
const MESSAGE: usize = 64;

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

/// 64 bytes, 64 connections at once.
///
/// # Errors
///
/// If a round trip fails.
pub fn rr(rig: &mut Rig<'_>) -> Result<Vec<Row>> {
    let (connections, count) = rig.plan.crowd;
    let pairs = rig.plan.pairs;
    rig.progress.set_length(pairs as u64 + 1);
    let address = rig.listen(Behaviour::SharedEcho)?;
    for side in [&mut rig.native, &mut rig.guest] {
        let count = connections;
        side.ask(Command::Open { address, count })?;
    }
    let size = MESSAGE;
    let pairs = rig.pairs(pairs, |side, _| side.ask(Command::Exchange { size, count }))?;
    let trips = (connections * count) as f64;
    let mut rows = vec![
        pairs
            .row("round trips", "1/s", |s| trips / (s.ns() / 1e9))
            .must(Target::RatioAtLeast(0.9))
            .drawn(),
    ];
    rows.extend(pairs.cpu_rows("", "us", trips));
    rows.extend(pairs.counter_rows("", "per trip", trips));
    Ok(rows)
}
