//! The guest programs of this workspace.

use crate::built;
use crate::root::root;
use anyhow::Result;
use arca_build::Package;
use std::path::PathBuf;

/// The package of the guest programs.
///
/// # Errors
///
/// If there is no workspace, or cargo fails.
pub fn package() -> Result<Package> {
    Package::open(root()?.join("guest"))
}

/// Builds a guest program, and gives its image. Says nothing when there is
/// nothing to do.
///
/// # Errors
///
/// If there is no such program, or cargo fails.
pub fn build(program: &str) -> Result<PathBuf> {
    if let Some(folder) = built::folder() {
        return built::find(&folder, program);
    }
    package()?.build(program)
}
