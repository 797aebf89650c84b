//! What it takes to leave the guest: a doorbell, a kick of another vCPU with its wake,
//! and a sleep.
//!
//! Natively the same is a write to an eventfd, a futex between two threads, and a sleep.

use crate::plan::{Plan, Workload};
use crate::program::Program;
use crate::row::Row;
use crate::side::Role;
use anyhow::{Context, Result};
use arca_bench::{Command, Outcome};
use indicatif::ProgressBar;

/// Measures all three. The guest has two vCPUs.
///
/// # Errors
///
/// If a side cannot do it.
pub fn exits(plan: &Plan, vm: &[String], progress: &ProgressBar) -> Result<Vec<Row>> {
    progress.set_length(plan.pairs as u64 + 1);
    let of_two = |option: &String| match option.starts_with("--vcpus=") {
        true => "--vcpus=2".to_owned(),
        false => option.clone(),
    };
    let vm: Vec<String> = vm.iter().map(of_two).collect();
    let mut native = Program::start(Role::Native, &[], None)?;
    let mut guest = Program::start(Role::Guest, &vm, None)?;
    native.ready()?;
    guest.ready()?;
    let command = Command::Exits { count: plan.exits };
    let (mut natives, mut guests) = (Vec::new(), Vec::new());
    // The first pair is not counted.
    for number in 0..=plan.pairs {
        let pair = (native.ask(command)?, guest.ask(command)?);
        if number > 0 {
            natives.push(pair.0);
            guests.push(pair.1);
        }
        progress.inc(1);
    }
    native.finish()?;
    guest.finish()?;
    let row = |metric, name| -> Result<Row> {
        let values = |samples: &[Outcome]| -> Result<Vec<f64>> {
            let micros = samples.iter().map(|sample| {
                let ns = sample.get(name).context("no time in the answer")?;
                Ok(ns as f64 / 1e3)
            });
            micros.collect()
        };
        let (native, guest) = (values(&natives)?, values(&guests)?);
        Ok(Row::new(Workload::Exits, metric, "us", native, guest).drawn())
    };
    Ok(vec![
        row("doorbell", "notify_ns")?,
        row("kick and wake", "hand_over_ns")?,
        row("lateness of a sleep", "late_ns")?,
    ])
}
