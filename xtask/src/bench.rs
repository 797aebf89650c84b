//! `bench`: the guest beside a native process. What measures is a program of its
//! own, built when it is asked for.

use crate::{cargo, guest};
use anyhow::{Context, Result};
use clap::Args;
use std::ffi::OsString;
use std::process::Command;

/// The package that measures, and its program.
const PACKAGE: &str = "arca-compare";

/// What `bench` takes: all of it is for the program that measures.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct Bench {
    /// Options and workloads; `--help` lists them
    #[arg(num_args = 0.., trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

impl Bench {
    /// Builds both sides and measures them. False if `--check` was given and a
    /// result fell short, or a workload could not be done.
    ///
    /// # Errors
    ///
    /// If something cannot be built or started.
    pub fn run(self) -> Result<bool> {
        let mut build = cargo::cargo()?;
        build.args(["build", "--release", "--package", PACKAGE]);
        let program = arca_build::cargo::build_one(&mut build, PACKAGE)?;
        let image = guest::build("bench")?;
        let mut command = Command::new(&program);
        command.arg("--image").arg(image).args(self.args);
        let status = command.status();
        let status = status.with_context(|| format!("cannot run {}", program.display()))?;
        Ok(status.success())
    }
}
