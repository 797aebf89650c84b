//! `completions`: what a shell needs to complete `cargo xtask` and `arca-vmm`.

use crate::guest;
use anyhow::Result;
use arca_build::Package;
use arca_vmm::cli;
use clap::builder::PossibleValuesParser;
use clap::{Args, Command, CommandFactory, ValueEnum};
use clap_complete::{Shell as Script, generate};
use std::io::{self, Write};

/// What `completions` takes.
#[derive(Args)]
#[command(after_help = "\
A shell completes commands by their name, and `cargo xtask` has none of its own: the
script defines `xtask`, which calls it.

Examples:
  source <(cargo xtask completions bash)       then: xtask run --me<TAB>
  cargo xtask completions fish | source")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// A shell that scripts are written for.
#[derive(Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Fish,
    Zsh,
}

impl Completions {
    /// Prints the script. `command` is `cargo xtask`.
    ///
    /// # Errors
    ///
    /// If the programs cannot be listed, or standard output takes nothing.
    pub fn run(self, command: Command) -> Result<()> {
        let mut script = Vec::new();
        // A function, which can be completed where an alias of cargo's cannot.
        writeln!(
            script,
            "{}",
            match self.shell {
                Shell::Fish => "function xtask; cargo xtask $argv; end",
                Shell::Bash | Shell::Zsh => "xtask() { cargo xtask \"$@\"; }",
            }
        )?;
        let shell = match self.shell {
            Shell::Bash => Script::Bash,
            Shell::Fish => Script::Fish,
            Shell::Zsh => Script::Zsh,
        };
        // Names in a command live as long as the process, which prints and ends.
        let package: &'static Package = Box::leak(Box::new(guest::package()?));
        let programs = PossibleValuesParser::new(package.programs());
        let mut command = command.mut_subcommand("run", |run| {
            run.mut_arg("command", |arg| arg.value_parser(programs))
        });
        generate(shell, &mut command, "xtask", &mut script);
        let mut command = cli::Command::command();
        generate(shell, &mut command, "arca-vmm", &mut script);
        Ok(io::stdout().write_all(&script)?)
    }
}
