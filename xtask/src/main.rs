//! `cargo xtask COMMAND`.

use arca_vmm::cli;
use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;
use xtask::bench::Bench;
use xtask::build::Build;
use xtask::completions::Completions;
use xtask::doctor::Doctor;
use xtask::fuzz::Fuzz;
use xtask::list::List;
use xtask::new::New;
use xtask::run::Run;
use xtask::test::Test;
use xtask::tool::say;

/// Exit code of a command that could not do its work before any guest ran.
const NOT_STARTED: u8 = 125;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    about = "Build, run, test and measure Arca's networking"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Boot a guest program ('demo' if none is named)
    Run(Box<Run>),
    /// List the guest programs, and what each does
    List(List),
    /// Build guest programs, and print where their images are
    Build(Build),
    /// Make a guest crate of one's own, outside of this workspace
    New(New),
    /// Prove it end to end
    Test(Test),
    /// Measure the guest beside a native process
    Bench(Bench),
    /// Fuzz what comes from the other side of a boundary
    Fuzz(Fuzz),
    /// Say what this machine has of what the project can use, and what mends it
    Doctor(Doctor),
    /// Print a script by which a shell completes commands
    Completions(Completions),
    /// The first process of the machine that `--qemu` makes
    #[command(hide = true, name = xtask::qemu::INIT)]
    MachineInit,
}

fn main() -> ExitCode {
    let cli: Cli = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return ExitCode::from(code),
    };
    let result = match cli.command {
        Command::Run(run) => run.run(),
        Command::List(list) => list.run().map(|()| 0),
        Command::Build(build) => build.run().map(|()| 0),
        Command::New(new) => new.run().map(|()| 0),
        Command::Completions(completions) => completions.run(Cli::command()).map(|()| 0),
        Command::Doctor(doctor) => doctor.run().map_err(Into::into),
        Command::MachineInit => xtask::qemu::init().map(|never| match never {}),
        Command::Test(test) => test.run(),
        Command::Bench(bench) => Ok(code(bench.run())),
        Command::Fuzz(fuzz) => Ok(code(fuzz.run().map(|()| true))),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(format_args!("error: {error:#}"));
            ExitCode::from(NOT_STARTED)
        }
    }
}

/// The exit code of a command that checks something.
fn code(good: anyhow::Result<bool>) -> u8 {
    match good {
        Ok(good) => u8::from(!good),
        Err(error) => {
            say(format_args!("error: {error:#}"));
            1
        }
    }
}
