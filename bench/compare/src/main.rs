//! What `cargo xtask bench` runs: the guest beside a native process, pair by pair.
//!
//! Each workload is one piece of client code (the crate `arca_bench`) that runs
//! both in a native process and in a guest, against the same host service, which
//! is a process of its own. The two sides take turns, so that whatever else the
//! machine does befalls both.
//!
//! | module | holds |
//! |---|---|
//! | [`plan`] | the workloads, and how much of each is done |
//! | [`side`] | the processes of both sides and of the service |
//! | [`program`] | such a process, as this one sees it: commands, CPU time, memory |
//! | [`rig`] | the three of them, and measuring in pairs |
//! | [`streams`], [`trips`], [`churns`], [`http`], [`idle`], [`boot`], [`in_place`], [`exits`], [`ring`] | the workloads |
//! | [`peers`] | the same beside what one would use in the guest's place |
//! | [`relay`] | one of those: a plain relay |
//! | [`statistics`] | medians, percentiles, ratios |
//! | [`row`], [`target`] | one result; what it must reach |
//! | [`table`], [`chart`] | results on the terminal; as pictures |
//! | [`host`] | the machine |

mod boot;
mod chart;
mod churns;
mod exits;
mod host;
mod http;
mod idle;
mod in_place;
mod peers;
mod plan;
mod program;
mod relay;
mod rig;
mod ring;
mod row;
mod side;
mod statistics;
mod streams;
mod table;
mod target;
mod trips;

use anyhow::{Context, Result};
use arca_vmm::Platform;
use arca_vmm::cli::PLATFORM;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use peers::Standing;
use plan::{Plan, Workload};
use rig::Rig;
use row::Row;
use serde::Serialize;
use side::Side;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

/// Exit code of one of the processes that could not do its work.
const NOT_STARTED: u8 = 125;

fn main() -> ExitCode {
    let result = match env::args().nth(1) {
        Some(first) if first == side::COMMAND => {
            let side = Side::parse_from(env::args().skip(1)).run();
            side.map_err(|error| (NOT_STARTED, error))
        }
        _ => {
            let good = Bench::parse().run();
            good.map(|good| u8::from(!good)).map_err(|error| (1, error))
        }
    };
    let code = result.unwrap_or_else(|(code, error)| {
        say(format_args!("error: {error:#}"));
        code
    });
    ExitCode::from(code)
}

/// Says a line on standard error. Where that is closed, nobody can be told, and
/// the work goes on.
fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes a line of the results to standard output.
///
/// # Errors
///
/// If nobody takes it.
fn show(line: impl Display) -> Result<()> {
    writeln!(io::stdout(), "{line}").context("cannot write the results to standard output")
}

/// Measure the guest beside a native process
#[derive(Parser)]
#[command(
    name = "cargo xtask bench",
    after_help = "\
Examples:
  cargo xtask bench --quick                    all of it, within a minute each
  cargo xtask bench --pairs 9 --json rows.json sink
  cargo xtask bench --vcpus 2 --vm=--arena=2G rr
  cargo xtask bench --platform process boot
  cargo xtask bench --peers rtt crr            pasta and a plain relay beside them"
)]
struct Bench {
    /// The image of the guest's side
    #[arg(long, value_name = "FILE", hide = true)]
    image: PathBuf,
    /// Small amounts: done within a minute, and noisier
    #[arg(long)]
    quick: bool,
    /// Fail if a result falls short of what it must reach
    #[arg(long)]
    check: bool,
    /// Write the results to this file, as a list of objects
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a picture for each workload into this folder
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    /// Print the finer points, too: all that --json writes
    #[arg(long, short)]
    verbose: bool,
    /// Measure this many pairs of each workload
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pairs: Option<u32>,
    /// Number of vCPUs
    #[arg(long, value_name = "N", default_value_t = 1)]
    vcpus: usize,
    /// Measure the same native client behind pasta and behind a plain relay, too
    #[arg(long, conflicts_with_all = ["svg", "verbose"])]
    peers: bool,
    /// With --peers: seconds that an answer may take before its party has failed
    #[arg(long, value_name = "SECONDS", default_value_t = 30, requires = "peers",
        value_parser = clap::value_parser!(u64).range(1..))]
    patience: u64,
    /// What carries the guest: kvm, process, or auto
    #[arg(long, value_name = "NAME", env = PLATFORM, default_value_t)]
    platform: Platform,
    /// An option of `run` for the guest, such as --vm=--arena=2G; may be repeated
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    vm: Vec<String>,
    /// The workloads; all if none is named
    #[arg(value_name = "WORKLOAD")]
    workloads: Vec<Workload>,
}

impl Bench {
    /// Measures, and says how it went. False if `--check` was given and a result
    /// fell short, or a workload could not be done.
    ///
    /// # Errors
    ///
    /// If nothing can be measured, or the results cannot be written.
    fn run(self) -> Result<bool> {
        host::raise_descriptor_limit()?;
        let plan = Plan::new(self.quick, self.pairs);
        let workloads = match (self.workloads.is_empty(), self.peers) {
            (true, false) => Workload::all(),
            (true, true) => peers::WORKLOADS.to_vec(),
            (false, _) => self.workloads.clone(),
        };
        let mut vm = vec![
            format!("--image={}", self.image.display()),
            format!("--vcpus={}", self.vcpus),
            format!("--platform={}", self.platform),
        ];
        vm.extend(self.vm.iter().cloned());
        let host = host::describe();
        show(&host)?;
        show(plan.describe(self.platform.resolve(), self.vcpus))?;
        let progress = progress();
        if self.peers {
            return self.with_peers(&workloads, &plan, &vm, &progress);
        }
        let mut rows = Vec::new();
        let mut failed = Vec::new();
        for workload in workloads {
            progress.set_message(workload.name());
            progress.set_position(0);
            match measure(workload, &plan, &vm, &progress) {
                Ok(measured) => {
                    progress.suspend(|| table::print(workload, &measured, self.verbose))?;
                    if let Some(folder) = &self.svg {
                        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
                        chart::draw(folder, workload, &measured, &host)?;
                    }
                    rows.extend(measured);
                }
                Err(error) => {
                    let name = workload.name();
                    progress.suspend(|| say(format_args!("error: {name}: {error:#}")));
                    failed.push(name);
                }
            }
        }
        progress.finish_and_clear();
        self.write_json(&rows)?;
        let short = rows.iter().filter(|row| row.met == Some(false));
        Ok(self.verdict(short, &failed))
    }

    /// As [`Bench::run`], with peers.
    fn with_peers(
        &self,
        workloads: &[Workload],
        plan: &Plan,
        vm: &[String],
        progress: &ProgressBar,
    ) -> Result<bool> {
        let limit = Duration::from_secs(self.patience);
        let mut standings = Vec::new();
        let mut failed = Vec::new();
        for &workload in workloads {
            let name = workload.name();
            progress.set_message(name);
            progress.set_position(0);
            match peers::measure(workload, plan, vm, limit, progress) {
                Ok(measured) => {
                    progress.suspend(|| peers::print(workload, &measured))?;
                    if measured.iter().any(Standing::is_incomplete) {
                        failed.push(name);
                    }
                    standings.extend(measured);
                }
                Err(error) => {
                    progress.suspend(|| say(format_args!("error: {name}: {error:#}")));
                    failed.push(name);
                }
            }
        }
        progress.finish_and_clear();
        self.write_json(&standings)?;
        let short = standings.iter().flat_map(Standing::short);
        Ok(self.verdict(short, &failed))
    }

    fn write_json(&self, rows: &impl Serialize) -> Result<()> {
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(rows)?;
            fs::write(path, text + "\n").with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    /// Says what fell short; whether that is all right.
    fn verdict(&self, short: impl Iterator<Item = impl Display>, failed: &[&str]) -> bool {
        let mut good = true;
        for row in short {
            say(format_args!("below target: {row}"));
            good = false;
        }
        if !failed.is_empty() {
            say(format_args!("not measured: {}", failed.join(", ")));
        }
        failed.is_empty() && (good || !self.check)
    }
}

fn measure(
    workload: Workload,
    plan: &Plan,
    vm: &[String],
    progress: &ProgressBar,
) -> Result<Vec<Row>> {
    let in_rig = |measure: fn(&mut Rig<'_>) -> Result<Vec<Row>>| {
        let mut rig = Rig::start(workload, plan, vm, progress)?;
        let mut rows = measure(&mut rig)?;
        rows.extend(rig.finish()?);
        Ok(rows)
    };
    let mut rows = match workload {
        Workload::Sink | Workload::Source | Workload::Duplex => in_rig(streams::single),
        Workload::Fan => in_rig(streams::fan),
        Workload::Rtt => in_rig(trips::rtt),
        Workload::Rr => in_rig(trips::rr),
        Workload::Crr => in_rig(churns::crr),
        Workload::Accept => in_rig(churns::accept),
        Workload::Http => in_rig(http::http),
        Workload::Idle => idle::idle(plan, vm, progress),
        Workload::Boot => boot::boot(plan, vm, progress),
        Workload::InPlace => in_place::in_place(plan, vm, progress),
        Workload::Exits => exits::exits(plan, vm, progress),
        Workload::Ring => ring::ring(plan, progress),
    }?;
    for row in &mut rows {
        row.judge();
    }
    Ok(rows)
}

/// A line that is drawn between samples only, by no thread of its own: what
/// draws would be measured.
fn progress() -> ProgressBar {
    let bar = ProgressBar::new(1);
    // The template is a constant, and right.
    if let Ok(style) = ProgressStyle::with_template("{msg:>8} {wide_bar} {pos}/{len}") {
        bar.set_style(style);
    }
    bar
}
