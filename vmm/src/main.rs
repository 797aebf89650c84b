//! `arca-vmm`: runs one Arca guest image.

use arca_vmm::cli::Command;
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(Command::parse().run())
}
