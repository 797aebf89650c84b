//! `fuzz`: what comes from the other side of a boundary, made up.

mod planted;

use crate::root::root;
use crate::{cargo, tool};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The fuzz targets.
const TARGETS: [&str; 5] = ["frame", "session", "ring", "buddy", "image"];

/// What `fuzz` takes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask fuzz --smoke                     some seconds of each target
  cargo xtask fuzz --seconds 3600 session      an hour of one")]
pub struct Fuzz {
    /// A short run of each target
    #[arg(long)]
    smoke: bool,
    /// How long each target runs, in seconds
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Plant a bug in a copy of the code that each target checks, and fail unless
    /// it is found
    #[arg(long)]
    planted: bool,
    /// Only these targets
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// How long a target runs with `--smoke`, in seconds.
const SMOKE: u32 = 5;

impl Fuzz {
    /// Runs the targets one after the other, each from its seeds and what
    /// earlier runs here have found worth keeping.
    ///
    /// # Errors
    ///
    /// If a target fails; if one is not known. Where the nightly toolchain or
    /// cargo-fuzz is missing, says so and succeeds.
    pub fn run(self) -> Result<()> {
        for target in &self.targets {
            if !TARGETS.contains(&target.as_str()) {
                bail!(
                    "there is no fuzz target '{target}'; there are {}",
                    TARGETS.join(", ")
                );
            }
        }
        if let Some(missing) = missing() {
            tool::say(format_args!("skipped: {missing}"));
            return Ok(());
        }
        let seconds = if self.smoke { SMOKE } else { self.seconds };
        for target in TARGETS {
            if self.targets.is_empty() || self.targets.iter().any(|t| t == target) {
                self.target(target, seconds)?;
            }
        }
        Ok(())
    }

    fn target(&self, target: &str, seconds: u32) -> Result<()> {
        let built = cargo::target_dir()?;
        let project = match self.planted {
            true => planted::plant(target, &built)?,
            false => root()?.to_owned(),
        };
        // Apart from the run: a target that does not build has found nothing.
        tool::check(&mut fuzz(&project, &built, "build", target)?)?;
        let mut run = fuzz(&project, &built, "run", target)?;
        // What earlier runs found is not for a bug that seeds must lead to.
        let corpus = match self.planted {
            true => project.join("fuzz/corpus"),
            false => built.join("fuzz-corpus"),
        };
        let corpus = corpus.join(target);
        fs::create_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
        run.arg(&corpus)
            .arg(project.join("fuzz/seeds").join(target));
        run.arg("--").arg(format!("-max_total_time={seconds}"));
        run.args(["-print_final_stats=1", "-verbosity=0", "-rss_limit_mb=4096"]);
        let result = tool::check(&mut run);
        match (self.planted, result) {
            (false, result) => result,
            (true, Err(_)) => {
                tool::say(format_args!("{target}: the planted bug was found"));
                Ok(())
            }
            (true, Ok(())) => bail!("{target}: the planted bug was not found"),
        }
    }
}

/// cargo-fuzz at work on the project in that folder; builds of all of them share
/// what is the same.
fn fuzz(project: &Path, built: &Path, verb: &str, target: &str) -> Result<Command> {
    let mut fuzz = cargo_fuzz()?;
    fuzz.current_dir(project);
    fuzz.args(["fuzz", verb, target, "--fuzz-dir", "fuzz", "--target-dir"]);
    fuzz.arg(built.join("fuzz"));
    Ok(fuzz)
}

fn cargo_fuzz() -> Result<Command> {
    let mut cargo = Command::new("cargo");
    cargo.arg("+nightly").current_dir(root()?);
    // Those of the toolchain that runs us.
    for name in [
        "CARGO",
        "RUSTC",
        "RUSTDOC",
        "RUSTUP_TOOLCHAIN",
        "CARGO_ENCODED_RUSTFLAGS",
    ] {
        cargo.env_remove(name);
    }
    Ok(cargo)
}

/// What is missing here to fuzz; cargo-fuzz is installed if it can be.
fn missing() -> Option<&'static str> {
    let works = |args: &[&str]| {
        let output = cargo_fuzz().and_then(|mut cargo| Ok(cargo.args(args).output()?));
        output.is_ok_and(|output| output.status.success())
    };
    if !works(&["--version"]) {
        return Some("fuzzing needs the nightly toolchain: rustup toolchain install nightly");
    }
    if works(&["fuzz", "--version"]) {
        return None;
    }
    let mut install = Command::new("cargo");
    install.args(["install", "--quiet", "cargo-fuzz", "--version", "^0.13"]);
    install.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    match tool::check(&mut install) {
        Ok(()) => None,
        Err(_) => Some("fuzzing needs cargo-fuzz: cargo install cargo-fuzz"),
    }
}
