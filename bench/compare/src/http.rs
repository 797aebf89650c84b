//! HTTP requests to a server on picoserve: over connections that are kept, and with a
//! new one for each.

use crate::program::Program;
use crate::rig::{Rig, Sample};
use crate::row::Row;
use crate::target::Target;
use anyhow::Result;
use arca_bench::http::load::Use;
use arca_bench::service::Request;
use arca_bench::{Command, Outcome};

/// Requests that are under way at a time, where each has a connection of its own.
const NEW: usize = 16;

/// The service is the client, and measures.
///
/// # Errors
///
/// If a request fails.
pub fn http(rig: &mut Rig<'_>) -> Result<Vec<Row>> {
    let (kept, requests) = rig.plan.http;
    let rounds = (kept.len() + 1) * (rig.plan.pairs + 1);
    rig.progress.set_length(rounds as u64);
    let mut rows = Vec::new();
    for &lanes in kept {
        rows.extend(load(rig, lanes, requests, Use::Kept)?);
    }
    rows.extend(load(rig, NEW, rig.plan.connections, Use::New)?);
    Ok(rows)
}

fn load(rig: &mut Rig<'_>, lanes: usize, requests: usize, how: Use) -> Result<Vec<Row>> {
    let (connections, target) = match how {
        Use::Kept => (lanes, 0.9),
        Use::New => (requests, 0.7),
    };
    let action = |side: &mut Program, service: &mut Program| -> Result<Outcome> {
        side.send(Command::Http { count: connections })?;
        let address = side.listening()?;
        let outcome = service.ask(Request::Fetch {
            address,
            lanes,
            requests,
            how,
        })?;
        side.done()?;
        Ok(outcome)
    };
    let measured = rig.pairs(rig.plan.pairs, action)?;
    let count = requests as f64;
    let prefix = format!("{lanes} {}: ", how.name());
    let micros = |name: &'static str| move |sample: &Sample| sample.get(name) / 1e3;
    let rate = measured
        .row(format!("{prefix}requests"), "1/s", |s| {
            count / (s.ns() / 1e9)
        })
        .must(Target::RatioAtLeast(target));
    let p99 = measured
        .row(format!("{prefix}p99"), "us", micros("p99_ns"))
        .must(Target::RatioAtMost(1.5));
    let (rate, p99) = match how {
        Use::Kept => {
            let at = lanes as f64;
            (
                rate.drawn_at("requests, by connections kept (1/s)", at),
                p99.drawn_at("p99, by connections kept (us)", at),
            )
        }
        Use::New => (rate.drawn(), p99),
    };
    let p50 = measured.row(format!("{prefix}p50"), "us", micros("p50_ns"));
    let mut rows = vec![rate, p50, p99];
    rows.extend(measured.cpu_rows(&prefix, "us", count));
    rows.extend(measured.counter_rows(&prefix, "per request", count));
    Ok(rows)
}
