//! Programs that were built elsewhere: in the emulated machine there is no cargo.

use anyhow::{Context, Result, bail};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The variable that names the folder with what was built, each by its name: guest
/// images and commands of the workspace.
pub const FOLDER: &str = "ARCA_BUILT";
/// The variable that names the image that `run` boots, whatever its options say of
/// how to come by one.
pub const IMAGE: &str = "ARCA_BUILT_IMAGE";

/// The folder, if this process is to build nothing.
#[must_use]
pub fn folder() -> Option<PathBuf> {
    env::var_os(FOLDER).map(PathBuf::from)
}

/// The image for `run`, if it is given.
#[must_use]
pub fn image() -> Option<PathBuf> {
    env::var_os(IMAGE).map(PathBuf::from)
}

/// A program in the folder.
///
/// # Errors
///
/// If there is no such program.
pub fn find(folder: &Path, name: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut known = Vec::new();
    for entry in entries {
        known.push(entry?.file_name().to_string_lossy().into_owned());
    }
    known.sort();
    if !known.iter().any(|known| known == name) {
        bail!(
            "there is no program '{name}'; there are {}",
            known.join(", ")
        );
    }
    Ok(folder.join(name))
}
