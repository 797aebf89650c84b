//! A kernel of the distribution's, downloaded by its package manager as any user,
//! and unpacked under the target folder. Nothing is installed.

use anyhow::{Context, Result, bail};
use arca_build::cargo::show;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Packages that depend on the distribution's newest small kernel: Debian's, and
/// Ubuntu's.
const NEWEST: [&str; 2] = ["linux-image-cloud-amd64", "linux-image-virtual"];
/// What the names of packages with a kernel, or a part of one, begin with.
const PARTS: [&str; 2] = ["linux-image-", "linux-modules-"];

/// What a person can do without it.
const INSTEAD: &str = "or name a kernel that is here already with --kernel PATH";

/// The folder of an unpacked package, with `boot` and `lib/modules` in it. It is
/// downloaded if that was not done before.
///
/// # Errors
///
/// If there is no package manager that is known here, or it fails: a line that
/// says what to do.
pub fn folder(cache: &Path) -> Result<PathBuf> {
    if let Some(folder) = newest_in(cache) {
        return Ok(folder);
    }
    if Command::new("apt-get").arg("--version").output().is_err() {
        bail!("a kernel is needed, and there is no apt-get to download one: {INSTEAD}");
    }
    fs::create_dir_all(cache).with_context(|| cache.display().to_string())?;
    let packages = match packages() {
        Some(packages) => packages,
        None => bail!(
            "apt knows no package {}: run `apt-get update` as root, {INSTEAD}",
            NEWEST.join(" or ")
        ),
    };
    let name = packages.first().context("a package has a name")?;
    crate::tool::say(format_args!("qemu: downloading {}", packages.join(" and ")));
    // Complete when it has its name.
    let draft = tempfile::tempdir_in(cache).context("a folder to unpack in")?;
    let mut download = Command::new("apt-get");
    download.args(["--quiet=2", "download"]).args(&packages);
    said_only_if_it_fails(download.current_dir(&draft)).with_context(|| {
        format!("{name} cannot be downloaded: run `apt-get update` as root, {INSTEAD}")
    })?;
    let unpacked = draft.path().join("unpacked");
    for entry in fs::read_dir(&draft)?.flatten() {
        if entry.path().extension().is_some_and(|end| end == "deb") {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("--extract").arg(entry.path()).arg(&unpacked);
            said_only_if_it_fails(&mut unpack)?;
        }
    }
    let folder = cache.join(name);
    // Another command may have been faster.
    match fs::rename(&unpacked, &folder) {
        Err(_) if folder.join("boot").is_dir() => {}
        result => result.with_context(|| folder.display().to_string())?,
    }
    Ok(folder)
}

/// The package that was unpacked last.
fn newest_in(cache: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(cache).ok()?.flatten();
    let folders = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with(PARTS[0]) && entry.path().join("boot").is_dir()
    });
    let newest = folders.max_by_key(|entry| entry.metadata().and_then(|data| data.modified()).ok());
    newest.map(|entry| entry.path())
}

/// The packages that hold the newest kernel and its modules; none where apt knows
/// none.
fn packages() -> Option<Vec<String>> {
    NEWEST.iter().find_map(|newest| {
        let image = parts(newest).into_iter().next()?;
        let mut packages = vec![image];
        packages.extend(parts(&packages[0]));
        Some(packages)
    })
}

/// The packages with parts of a kernel on which a package depends.
fn parts(package: &str) -> Vec<String> {
    let mut command = Command::new("apt-cache");
    command.args(["depends", "--important", package]);
    let output = command.stderr(Stdio::null()).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    depends(&String::from_utf8_lossy(&text))
}

/// Those among the lines of `apt-cache depends`.
fn depends(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    let names = lines.filter_map(|line| line.strip_prefix("Depends: "));
    let names = names.filter(|name| PARTS.iter().any(|part| name.starts_with(part)));
    names.map(str::to_owned).collect()
}

/// Runs a command that says nothing unless it fails.
fn said_only_if_it_fails(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run `{}`", show(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let reason = said.lines().rfind(|line| line.starts_with("E:"));
        bail!(
            "`{}` failed: {}",
            show(command),
            reason.unwrap_or(said.trim())
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_depends_on_those_with_the_kernel() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-48-cloud-amd64\n";
        assert_eq!(depends(text), ["linux-image-6.1.0-48-cloud-amd64"]);
        let text = "linux-image-6.8.0-31-generic\n  Depends: kmod\n |Depends: linux-base\n  \
            Depends: linux-modules-6.8.0-31-generic\n  Conflicts: linux-image-x\n";
        assert_eq!(depends(text), ["linux-modules-6.8.0-31-generic"]);
        assert!(depends("").is_empty());
    }

    #[test]
    fn the_package_that_came_last_is_used() {
        let cache = tempfile::tempdir().expect("a folder");
        assert_eq!(newest_in(&cache.path().join("none")), None);
        let [one, two] = ["linux-image-2", "linux-image-1"].map(|name| cache.path().join(name));
        fs::create_dir_all(one.join("boot")).expect("a folder");
        fs::create_dir_all(cache.path().join("linux-image-3")).expect("a folder");
        assert_eq!(newest_in(cache.path()), Some(one));
        fs::create_dir_all(two.join("boot")).expect("a folder");
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(9);
        let file = fs::File::open(&two).expect("a folder");
        file.set_modified(later).expect("its own folder");
        assert_eq!(newest_in(cache.path()), Some(two));
    }
}
