//! `run`: boots a guest program.

use crate::{demo, guest};
use anyhow::Result;
use arca_build::Package;
use arca_vmm::Image;
use arca_vmm::cli::{self, RunOptions};
use clap::Args;
use std::path::{Path, PathBuf};

/// What `run` takes.
#[derive(Args)]
#[command(after_help = "\
Options come before the program's name; all after it is the program's.

Examples:
  cargo xtask run
  cargo xtask run http-get http://127.0.0.1:8000/FILE > out
  cargo xtask run --vcpus 2 --timeout 10s echo-server 7000
  cargo xtask run --manifest-path ../my-server 8080
  cargo xtask run --image IMAGE 8080")]
pub struct Run {
    #[command(flatten)]
    options: RunOptions,
    /// Boot a program of the package with this Cargo.toml, or in this folder; what
    /// follows the options is then its arguments
    #[arg(long, value_name = "PATH")]
    manifest_path: Option<PathBuf>,
    /// Which program of that package, where it has several
    #[arg(long, value_name = "NAME", requires = "manifest_path")]
    bin: Option<String>,
    /// Boot this image, which is built already; what follows the options is then
    /// its arguments
    #[arg(long, value_name = "PATH", conflicts_with = "manifest_path")]
    image: Option<PathBuf>,
    /// The guest program ('demo' if none is named; `cargo xtask list` lists them)
    /// and its arguments
    #[arg(value_names = ["PROGRAM", "ARGS"], num_args = 0.., trailing_var_arg = true)]
    command: Vec<String>,
}

impl Run {
    /// Builds and boots the program; the exit code is the process's.
    ///
    /// # Errors
    ///
    /// If there is no such program, or it cannot be built.
    pub fn run(self) -> Result<u8> {
        let mut command = self.command.into_iter();
        // Where the demo is asked for and nothing else, its host side is ours to
        // start.
        let mut host = None;
        let (program, image) = if let Some(image) = self.image {
            (name(&image), image)
        } else if let Some(path) = self.manifest_path {
            let package = Package::open(path)?;
            let program = match self.bin {
                Some(program) => program,
                None => package.only_program()?.to_owned(),
            };
            let image = package.build(&program)?;
            (program, image)
        } else {
            let program = command.next().unwrap_or_else(|| "demo".into());
            let image = guest::build(&program)?;
            if program == "demo" && command.len() == 0 {
                host = Some(demo::Host::start()?);
            }
            (program, image)
        };
        let args = match &host {
            Some(host) => host.guest_args(),
            None => command.collect(),
        };
        Ok(cli::run(
            &self.options,
            Image::Path(image),
            &program,
            args,
            |_| {},
        ))
    }
}

/// The name of the program in an image.
fn name(image: &Path) -> String {
    let name = image.file_name().unwrap_or(image.as_os_str());
    name.to_string_lossy().into_owned()
}
