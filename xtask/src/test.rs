//! `test`: proves it end to end.

use crate::guest;
use crate::tool::{self, root};
use anyhow::Result;
use clap::Args;

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
