//! `build`: guest programs, and where their images are.

use crate::guest;
use anyhow::Result;
use arca_build::Package;
use clap::Args;
use std::io::{self, Write};
use std::path::PathBuf;

/// What `build` takes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask build                            all programs of this workspace
  cargo xtask build --manifest-path ../my-server")]
pub struct Build {
    /// Build the programs of the package with this Cargo.toml, or in this folder
    #[arg(long, value_name = "PATH")]
    manifest_path: Option<PathBuf>,
}

impl Build {
    /// Builds the programs, and prints where each image is.
    ///
    /// # Errors
    ///
    /// If there is no such package, or one cannot be built.
    pub fn run(self) -> Result<()> {
        let package = match self.manifest_path {
            Some(path) => Package::open(path)?,
            None => guest::package()?,
        };
        for image in package.build_all()? {
            writeln!(io::stdout(), "{}", image.path.display())?;
        }
        Ok(())
    }
}
