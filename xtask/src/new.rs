//! `new`: makes a guest crate of one's own, outside of this workspace.

use crate::root::root;
use crate::tool::say;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};

/// The crate's files, with `{name}` and `{checkout}` to be filled in.
const FILES: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("../template/Cargo.toml")),
    ("build.rs", include_str!("../template/build.rs")),
    ("src/main.rs", include_str!("../template/src/main.rs")),
    ("tests/boot.rs", include_str!("../template/tests/boot.rs")),
    (
        ".cargo/config.toml",
        include_str!("../template/cargo/config.toml"),
    ),
    (".gitignore", include_str!("../template/gitignore")),
];

/// What `new` takes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask new my-server                    makes the folder my-server
  cargo xtask new my-server --path ~/projects/my-server")]
pub struct New {
    /// The crate's name
    name: String,
    /// The folder to make; by default one of that name, here
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
}

impl New {
    /// Makes the crate and says what can be done with it.
    ///
    /// # Errors
    ///
    /// If the name is none for a crate, or the folder holds something.
    pub fn run(self) -> Result<()> {
        let Self { name, path } = self;
        check(&name)?;
        let path = path.unwrap_or_else(|| PathBuf::from(&name));
        let checkout = root()?;
        make(&name, &path, checkout).with_context(|| format!("making {}", path.display()))?;
        let path = path.display();
        say(format_args!(
            "made a guest crate in {path}: src/main.rs is the program, tests/boot.rs boots it\n\
             \n\
             cd {path}\n\
             cargo arca        builds it and boots it; then, elsewhere: curl http://127.0.0.1:8080\n\
             cargo test        boots it and talks to it"
        ));
        Ok(())
    }
}

fn make(name: &str, path: &Path, checkout: &Path) -> Result<()> {
    if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("the folder is there, and is not empty; choose another with --path");
    }
    let checkout_text = checkout
        .to_str()
        .context("the checkout's path is no text")?;
    if checkout_text.contains(['"', '\\']) {
        bail!(
            "the checkout's path has a quote or a backslash, which a manifest cannot hold as it is"
        );
    }
    for (file, text) in FILES {
        let file = path.join(file);
        let text = text.replace("{name}", name);
        let text = text.replace("{checkout}", checkout_text);
        let folder = file.parent().context("a file in a folder")?;
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        fs::write(&file, text).with_context(|| file.display().to_string())?;
    }
    // The versions that are known to work together, and that may be there already.
    let lock = "Cargo.lock";
    fs::copy(checkout.join(lock), path.join(lock)).context(lock)?;
    Ok(())
}

/// Checks a name: cargo would refuse a bad one later, in a file that nobody
/// wrote.
fn check(name: &str) -> Result<()> {
    let starts = name.starts_with(|first: char| first.is_ascii_lowercase());
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    if !starts || !name.chars().all(rest) {
        bail!(
            "'{name}' is no name for a crate: it takes a lower-case letter, then such letters, \
             digits, - and _"
        );
    }
    const TAKEN: [&str; 8] = [
        "alloc",
        "build",
        "core",
        "deps",
        "examples",
        "incremental",
        "std",
        "test",
    ];
    if TAKEN.contains(&name) || name.starts_with("arca") {
        bail!("'{name}' is taken; choose another name");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_cargo_takes() {
        for name in ["my-server", "a", "x_1"] {
            assert!(check(name).is_ok(), "{name}");
        }
        for name in [
            "", "1a", "-a", "a b", "A", "é", "a/b", "..", "test", "arca-vmm",
        ] {
            assert!(check(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_there_stays() {
        let place = tempfile::tempdir().expect("a folder");
        let checkout = root().expect("a checkout");
        fs::write(place.path().join("Cargo.toml"), "mine").expect("a file");
        let error = make("my", place.path(), checkout).expect_err("something is there");
        assert!(error.to_string().contains("not empty"), "{error}");
        assert_eq!(fs::read_dir(place.path()).expect("a folder").count(), 1);
        let new = place.path().join("new/my");
        make("my", &new, checkout).expect("made");
        for (file, _) in FILES {
            let text = fs::read_to_string(new.join(file)).expect("a file");
            for hole in ["{name}", "{checkout}"] {
                assert!(!text.contains(hole), "{file}: {hole}");
            }
        }
    }
}
