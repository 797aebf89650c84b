//! `--peers`: the guest beside what one would use in its place.
//!
//! The same native client runs plainly, behind pasta, and behind a plain relay; the
//! guest takes turns with them. Each of the four has a service of its own: one that
//! hangs is ended with all that it left behind, and holds up no other.
//!
//! | module | holds |
//! |---|---|
//! | [`case`] | what is done, and what is made of a sample |
//! | [`party`] | one of the four: its processes, and a sample of it |
//! | [`pasta`] | a native client behind pasta |
//! | [`rounds`] | taking turns, and what happens to who fails |
//! | [`standing`] | one result |
//! | [`table`] | results on the terminal |

mod case;
mod party;
mod pasta;
mod rounds;
mod standing;
mod table;

pub use standing::Standing;
pub use table::print;

use crate::host::Load;
use crate::plan::{Plan, Workload};
use anyhow::{Result, bail};
use indicatif::ProgressBar;
use party::{Kind, Party};
use rounds::Lane;
use std::time::Duration;

/// What can be measured with them.
pub const WORKLOADS: [Workload; 8] = [
    Workload::Sink,
    Workload::Source,
    Workload::Duplex,
    Workload::Rtt,
    Workload::Rr,
    Workload::Crr,
    Workload::Accept,
    Workload::Fan,
];

/// Measures a workload with all four. An answer that takes longer than `limit` is a
/// failure of who should have given it.
///
/// # Errors
///
/// If it is none of [`WORKLOADS`].
pub fn measure(
    workload: Workload,
    plan: &Plan,
    vm: &[String],
    limit: Duration,
    progress: &ProgressBar,
) -> Result<Vec<Standing>> {
    let cases = case::cases(workload, plan);
    if cases.is_empty() {
        let names = WORKLOADS.map(Workload::name).join(", ");
        bail!("has no peers; those that have: {names}");
    }
    let load = Load::watch()?;
    let there = pasta::is_there();
    progress.set_length((cases.len() * plan.pairs * Kind::ALL.len()) as u64);
    let mut standings = Vec::new();
    let mut ours = 0;
    for case in &cases {
        let mut lanes = Kind::ALL.map(|kind| match (kind, there) {
            (Kind::Pasta, false) => Lane::missing(kind),
            _ => Lane::new(kind),
        });
        let start = |kind| Party::start(kind, &case.task, vm, limit);
        ours += rounds::run(&mut lanes, plan.pairs, start, progress);
        standings.extend(standing::standings(workload, case, &lanes));
    }
    load.warn(workload, ours, progress);
    Ok(standings)
}
