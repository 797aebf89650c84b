//! `list`: the guest programs, and what each does.

use crate::guest;
use anyhow::Result;
use arca_build::Package;
use clap::Args;
use std::io::{self, Write};
use std::path::PathBuf;

/// What `list` takes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask list
  cargo xtask list --manifest-path ../my-server")]
pub struct List {
    /// List the programs of the package with this Cargo.toml, or in this folder
    #[arg(long, value_name = "PATH")]
    manifest_path: Option<PathBuf>,
}

impl List {
    /// Prints each program's name and what it says of itself.
    ///
    /// # Errors
    ///
    /// If there is no such package, or standard output takes nothing.
    pub fn run(self) -> Result<()> {
        let package = match self.manifest_path {
            Some(path) => Package::open(path)?,
            None => guest::package()?,
        };
        let mut out = io::stdout().lock();
        for (name, description) in package.descriptions()? {
            writeln!(out, "{name}\n    {description}")?;
        }
        Ok(())
    }
}
