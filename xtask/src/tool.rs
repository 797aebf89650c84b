//! Running programs, with what is run shown.

use anyhow::{Context, Result, bail};
use arca_build::cargo::show;
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};

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
    check_with(command, |child| child.wait())
}

/// As [`check`]; what it writes to standard output goes there, and is given too.
///
/// # Errors
///
/// As [`check`].
pub fn check_and_keep(command: &mut Command) -> Result<String> {
    let mut kept = Vec::new();
    command.stdout(Stdio::piped());
    check_with(command, |child| {
        if let Some(mut output) = child.stdout.take() {
            let mut chunk = [0; 4096];
            // At once, not by lines: a test's dot says that it goes on.
            while let Ok(len @ 1..) = output.read(&mut chunk) {
                kept.extend_from_slice(&chunk[..len]);
                let mut out = io::stdout();
                let _ = out.write_all(&chunk[..len]).and_then(|()| out.flush());
            }
        }
        child.wait()
    })?;
    Ok(String::from_utf8_lossy(&kept).into_owned())
}

fn check_with(
    command: &mut Command,
    wait: impl FnOnce(&mut Child) -> io::Result<ExitStatus>,
) -> Result<()> {
    let shown = show(command);
    say(format_args!("$ {shown}"));
    let status = command
        .spawn()
        .and_then(|mut child| wait(&mut child))
        .with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}
