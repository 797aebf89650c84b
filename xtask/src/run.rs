//! `run`: boots a guest program.

use crate::qemu::interrupts::Interrupts;
use crate::qemu::stdin::MachineStdin;
use crate::qemu::{self, QemuOptions};
use crate::{built, demo, guest};
use anyhow::{Context, Result};
use arca_build::Package;
use arca_vmm::cli::{self, RunOptions};
use arca_vmm::{Image, Input, VmConfig};
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
  cargo xtask run --image IMAGE 8080
  cargo xtask run --qemu hello")]
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
    #[command(flatten)]
    qemu: QemuOptions,
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
    /// If there is no such program, or it cannot be built, or there is no machine
    /// to boot it in.
    pub fn run(mut self) -> Result<u8> {
        // In the machine that is asked for, this command runs again.
        let in_machine = built::image().is_some();
        if self.qemu.qemu && !in_machine {
            let interrupts = Interrupts::take()?;
            let (_, image) = self.choose()?;
            let RunOptions { memory, arena, .. } = self.options;
            let memory = memory.0.saturating_add(arena.0);
            return qemu::run::run(&self.qemu, &interrupts, &image, memory);
        }
        let named = self.image.is_some() || self.manifest_path.is_some();
        let (program, image) = self.choose()?;
        // Where the demo is asked for and nothing else, its host side is ours to
        // start.
        let host = match !named && program == "demo" && self.command.is_empty() {
            true => Some(demo::Host::start()?),
            false => None,
        };
        let args = match &host {
            Some(host) => host.guest_args(),
            None => self.command,
        };
        let stdin = match in_machine {
            true => Input::Reader(Box::new(MachineStdin::open().context("standard input")?)),
            false => Input::Inherit,
        };
        let set_stdin = |config: &mut VmConfig| config.stdin = stdin;
        let image = Image::Path(image);
        Ok(cli::run(&self.options, image, &program, args, set_stdin))
    }

    /// Which program it is, taken from the command line, and its image, which is
    /// built if that is to be done.
    fn choose(&mut self) -> Result<(String, PathBuf)> {
        let named = self.image.is_some() || self.manifest_path.is_some();
        let program = match named {
            true => None,
            false if self.command.is_empty() => Some("demo".into()),
            false => Some(self.command.remove(0)),
        };
        let image = if let Some(image) = built::image().or_else(|| self.image.clone()) {
            image
        } else if let Some(path) = &self.manifest_path {
            let package = Package::open(path)?;
            match &self.bin {
                Some(program) => package.build(program)?,
                None => package.build(package.only_program()?)?,
            }
        } else {
            guest::build(program.as_deref().unwrap_or_default())?
        };
        let program = program.unwrap_or_else(|| name(&image));
        Ok((program, image))
    }
}

/// The name of the program in an image.
fn name(image: &Path) -> String {
    let name = image.file_name().unwrap_or(image.as_os_str());
    name.to_string_lossy().into_owned()
}
