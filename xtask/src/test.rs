//! `test`: proves it end to end.

use crate::guest;
use crate::tool::{self, root};
use anyhow::Result;
use clap::Args;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

/// What `test` takes.
#[derive(Args)]
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
        guest::build()?;
        // Left from an earlier run, or not there at all.
        let _ = fs::remove_file(skips());
        let result = self.cargo();
        let skipped = fs::read_to_string(skips()).unwrap_or_default();
        for reason in skipped.lines() {
            eprintln!("skipped: {reason}");
        }
        eprintln!("{} tests skipped", skipped.lines().count());
        result
    }

    fn cargo(&self) -> Result<()> {
        let mut cargo = tool::cargo();
        cargo.args(["test", "--quiet", "--release", "--workspace"]);
        if !self.filter.is_empty() {
            // libtest runs what any of the filters names.
            cargo.arg("--").args(&self.filter);
            return tool::check(&mut cargo);
        }
        tool::check(&mut cargo)?;
        let mut models = tool::cargo();
        models
            .args(["test", "--quiet", "--release", "--package", "arca-shared"])
            .args(["--test", "loom", "--target-dir"])
            .arg(root().join("target").join("loom"))
            .env("RUSTFLAGS", "--cfg loom");
        tool::check(&mut models)
    }
}

/// Where the tests say what they skipped, a line each.
fn skips() -> PathBuf {
    root().join("target").join("skipped")
}

/// Says that a test could not be done here, and why.
pub fn record_skip(reason: &str) {
    let file = File::options().create(true).append(true).open(skips());
    // Where the note cannot be kept, the test's own output still has it.
    if let Ok(mut file) = file {
        let _ = writeln!(file, "{}", reason.replace('\n', " "));
    }
}
