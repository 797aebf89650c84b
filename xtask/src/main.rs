//! `cargo xtask COMMAND`.

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use xtask::bench::Bench;
use xtask::build::Build;
use xtask::fuzz::Fuzz;
use xtask::new::New;
use xtask::run::Run;
use xtask::test::Test;

/// Exit code of a command that could not do its work before any guest ran.
const NOT_STARTED: u8 = 125;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Build, run, test and measure Arca's networking"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build guest programs, and print where their images are
    Build(Build),
    /// Boot a guest program ('demo' if none is named)
    Run(Box<Run>),
    /// Make a guest crate of one's own, outside of this workspace
    New(New),
    /// Prove it end to end
    Test(Test),
    /// Fuzz what comes from the other side of a boundary
    Fuzz(Fuzz),
    /// Measure the guest beside a native process
    Bench(Bench),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Build(build) => build.run().map(|()| 0),
        Command::New(new) => new.run().map(|()| 0),
        Command::Run(run) => run.run(),
        Command::Fuzz(fuzz) => Ok(code(fuzz.run().map(|()| true))),
        Command::Test(test) => Ok(code(test.run().map(|()| true))),
        Command::Bench(bench) => Ok(code(bench.run())),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(NOT_STARTED)
        }
    }
}

/// The exit code of a command that checks something.
fn code(good: anyhow::Result<bool>) -> u8 {
    match good {
        Ok(good) => u8::from(!good),
        Err(error) => {
            eprintln!("error: {error:#}");
            1
        }
    }
}
