//! The command line of this crate's command.

use crate::cli::{self, RunOptions};
use crate::vm::config::Image;
use clap::Parser;
use std::path::PathBuf;

/// Run an Arca guest image, under KVM or in a process.
#[derive(Parser)]
#[command(
    name = "arca-vmm",
    version,
    after_help = "\
Options come before IMAGE; all after it are the program's.

Examples:
  arca-vmm IMAGE
  arca-vmm --timeout 10s --vcpus 2 IMAGE 7000
  arca-vmm --publish 0.0.0.0:80=8080 --allow-connect example.org:443 IMAGE"
)]
pub struct Command {
    #[command(flatten)]
    options: RunOptions,
    /// The guest's image, and the program's arguments
    #[arg(
        value_names = ["IMAGE", "ARGS"],
        required = true,
        num_args = 1..,
        trailing_var_arg = true
    )]
    command: Vec<String>,
}

impl Command {
    /// Runs the guest. Returns the exit code for the process.
    #[must_use]
    pub fn run(self) -> u8 {
        let Self {
            options,
            mut command,
        } = self;
        let args = command.split_off(1);
        let image = PathBuf::from(command.remove(0));
        let program = image.file_name().map_or_else(
            || image.display().to_string(),
            |name| name.to_string_lossy().into_owned(),
        );
        cli::run(&options, Image::Path(image), &program, args, |_| {})
    }
}
