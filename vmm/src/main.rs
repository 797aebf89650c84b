//! `arca-vmm`: runs one Arca guest image.

use arca_vmm::cli::{self, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(cli::parse::<Command>().map_or_else(|code| code, Command::run))
}
