//! Running cargo for the workspace, wherever it is.

use crate::root::root;
use anyhow::{Context, Result};
use arca_build::cargo;
use std::path::PathBuf;
use std::process::Command;

/// Cargo at work on the workspace.
///
/// # Errors
///
/// If there is no workspace.
pub fn cargo() -> Result<Command> {
    Ok(cargo::cargo(root()?))
}

/// The folder that cargo builds into.
///
/// # Errors
///
/// If there is no workspace, or cargo does not say.
pub fn target_dir() -> Result<PathBuf> {
    let metadata = cargo::metadata(root()?)?;
    let folder = metadata["target_directory"].as_str();
    Ok(folder.context("cargo metadata names no folder")?.into())
}
