//! Building the guest programs, and where they are.

use crate::tool::{self, root};
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Frame pointers make a crash report's backtrace possible.
const RUSTFLAGS: &str = "-C force-frame-pointers=yes";

/// The folder that the images are built into.
fn folder() -> PathBuf {
    root().join("target").join("guest")
}

/// Builds all guest programs. Says nothing when there is nothing to do.
///
/// # Errors
///
/// If cargo fails.
pub fn build() -> Result<()> {
    let mut cargo = tool::cargo();
    cargo
        .args(["build", "--quiet", "--package", "arca-guest"])
        .args(["--profile", "guest", "--features", "programs", "--bins"])
        .arg("--target-dir")
        .arg(folder())
        .env("RUSTFLAGS", RUSTFLAGS);
    tool::quiet(&mut cargo).context("building the guest programs")
}

/// Where the image of a program is, whether or not it was built.
#[must_use]
pub fn image(program: &str) -> PathBuf {
    folder().join("guest").join(program)
}

/// The names of the guest programs, in order.
///
/// # Errors
///
/// If the folder of their sources cannot be read.
pub fn programs() -> Result<Vec<String>> {
    let folder = root().join("guest/src/bin");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if let Some(name) = path.file_stem() {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
