//! `cargo xtask COMMAND`.

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use xtask::run::Run;
use xtask::test::Test;

/// Exit code of a command that could not do its work before any guest ran.
const NOT_STARTED: u8 = 125;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, run and test Arca's networking")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the guest programs
    Build,
    /// Boot a guest program ('demo' if none is named); options come before its
    /// name, and all after it are the program's
    Run(Run),
    /// Prove it end to end
    Test(Test),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Build => xtask::guest::build().map(|()| 0),
        Command::Run(run) => run.run(),
        Command::Test(test) => match test.run() {
            Ok(()) => Ok(0),
            Err(error) => {
                eprintln!("error: {error:#}");
                Ok(1)
            }
        },
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(NOT_STARTED)
        }
    }
}
