//! `arca-vmm`: runs one Arca guest image.

use arca_vmm::Image;
use arca_vmm::cli::{self, RunOptions};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Run an Arca guest image under KVM.
#[derive(Parser)]
#[command(
    version,
    after_help = "Options come before IMAGE; all after it are the program's."
)]
struct Command {
    #[command(flatten)]
    options: RunOptions,
    /// The guest's image, and the program's arguments
    #[arg(
        value_names = ["IMAGE", "ARGS"],
        required = true,
        num_args = 1..,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<String>,
}

fn main() -> ExitCode {
    let Command {
        options,
        mut command,
    } = Command::parse();
    let args = command.split_off(1);
    let image = PathBuf::from(command.remove(0));
    let program = image.file_name().map_or_else(
        || image.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    let code = cli::run(&options, Image::Path(image), &program, args, |_| {});
    ExitCode::from(code)
}
