//! `run`: boots a guest program.

use crate::{demo, guest};
use anyhow::Result;
use arca_vmm::Image;
use arca_vmm::cli::{self, RunOptions};
use clap::Args;

/// What `run` takes.
#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    options: RunOptions,
    /// The guest program and its arguments
    #[arg(
        value_names = ["PROGRAM", "ARGS"],
        num_args = 0..,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
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
        let program = command.next().unwrap_or_else(|| "demo".into());
        let mut args: Vec<String> = command.collect();
        let image = guest::build(&program)?;
        // Without arguments, the host side of the demo is ours to start.
        let host = match program == "demo" && args.is_empty() {
            true => Some(demo::Host::start()?),
            false => None,
        };
        if let Some(host) = &host {
            args = host.guest_args();
        }
        Ok(cli::run(
            &self.options,
            Image::Path(image),
            &program,
            args,
            |_| {},
        ))
    }
}
