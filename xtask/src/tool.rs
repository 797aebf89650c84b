//! Running programs, with what is run shown.

use anyhow::{Context, Result, bail};
use arca_build::cargo::show;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::Command;

/// Says a line on standard error. Where that is closed, nobody can be told, and
/// the work goes on.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Runs a command, shown on standard error first.
///
/// # Errors
///
/// If it cannot be run, or fails.
pub fn check(command: &mut Command) -> Result<()> {
    let shown = show(command);
    say(format_args!("$ {shown}"));
    let status = command
        .status()
        .with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}
