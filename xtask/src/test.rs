//! `test`: proves it end to end.

use crate::{cargo, guest, tool};
use anyhow::Result;
use arca_build::cargo::shield;
use clap::Args;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::{env, iter};

/// What `test` takes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask test                             everything
  cargo xtask test reset orphan                what has one of these in its name")]
pub struct Test {
    /// Run only tests whose name contains one of these
    filter: Vec<String>,
}

impl Test {
    /// Builds the guest programs and runs every test: those of each crate, those
    /// that boot a guest, the documentation's examples, and the models.
    ///
    /// # Errors
    ///
    /// If one fails.
    pub fn run(self) -> Result<()> {
        guest::package()?.build_all()?;
        let skips = cargo::target_dir()?.join("skipped");
        // Left from an earlier run, or not there at all.
        let _ = fs::remove_file(&skips);
        let result = self.cargo(&skips);
        let skipped = fs::read_to_string(&skips).unwrap_or_default();
        for reason in skipped.lines() {
            tool::say(format_args!("skipped: {reason}"));
        }
        tool::say(format_args!("{} tests skipped", skipped.lines().count()));
        result
    }

    fn cargo(&self, skips: &Path) -> Result<()> {
        let mut tests = cargo::cargo()?;
        tests.args(["test", "--release", "--workspace"]);
        // libtest runs what any of the filters names.
        tests.args(["--", "--quiet"]).args(&self.filter);
        tool::check(tests.env(SKIPS, skips))?;
        if !self.filter.is_empty() {
            return Ok(());
        }
        let mut models = cargo::cargo()?;
        models
            .args(["test", "--release", "--package", "arca-shared"])
            .args(["--test", "loom", "--", "--quiet"]);
        shield(&mut models, "--cfg loom", iter::empty());
        tool::check(&mut models)
    }
}

/// The variable that names the file in which tests say what they skipped, a line
/// each.
const SKIPS: &str = "ARCA_TESTS_SKIPPED";

/// Says that a test could not be done here, and why, to the `cargo xtask test`
/// that runs it, if one does.
pub fn record_skip(reason: &str) {
    let Some(skips) = env::var_os(SKIPS) else {
        return;
    };
    let file = File::options().create(true).append(true).open(skips);
    // Where the note cannot be kept, the test's own output still has it.
    if let Ok(mut file) = file {
        let _ = writeln!(file, "{}", reason.replace('\n', " "));
    }
}
