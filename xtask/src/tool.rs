//! Running programs, with what is run shown.

use anyhow::{Context, Result, bail};
use arca_build::cargo::show;
use std::process::Command;

/// Runs a command, shown on standard error first.
///
/// # Errors
///
/// If it cannot be run, or fails.
pub fn check(command: &mut Command) -> Result<()> {
    let shown = show(command);
    eprintln!("$ {shown}");
    let status = command
        .status()
        .with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}
