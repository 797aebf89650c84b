//! Building the guest programs.

use crate::cargo;
use crate::root::root;
use anyhow::{Context, Result, bail};
use std::env;
use std::path::PathBuf;
use std::process::Command;

/// Frame pointers make a crash report's backtrace possible.
const RUSTFLAGS: &str = "-C force-frame-pointers=yes";

/// Builds a guest program, and gives its image. Says nothing when there is
/// nothing to do.
///
/// # Errors
///
/// If there is no such program, or cargo fails.
pub fn build(program: &str) -> Result<PathBuf> {
    let programs = programs()?;
    if !programs.iter().any(|known| known == program) {
        let known = programs.join(", ");
        bail!("there is no guest program '{program}'; there are {known}");
    }
    let mut command = command()?;
    command.args(["--bin", program]);
    cargo::build_one(&mut command, program)
        .with_context(|| format!("building the guest program '{program}'"))
}

/// Builds all guest programs; a faulty one does not keep the others from being
/// built.
///
/// # Errors
///
/// If cargo fails.
pub fn build_all() -> Result<()> {
    let mut command = command()?;
    command.args(["--bins", "--keep-going"]);
    cargo::build(&mut command).context("building the guest programs")?;
    Ok(())
}

/// The build of guest programs, but for which.
fn command() -> Result<Command> {
    let mut command = cargo::cargo()?;
    command
        .args(["build", "--package", "arca-guest", "--profile", "guest"])
        .args(["--features", "programs"])
        // The host's own, whatever the user builds for otherwise.
        .args(["--target", &cargo::host_target()?]);
    cargo::shield(
        &mut command,
        RUSTFLAGS,
        env::vars_os().map(|(name, _)| name),
    );
    Ok(command)
}

/// The names of the guest programs, in order.
fn programs() -> Result<Vec<String>> {
    let folder = root()?.join("guest/src/bin");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if let Some(name) = path.file_stem() {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
