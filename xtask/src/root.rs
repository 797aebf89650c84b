//! Where the workspace is, found when the program runs: a checkout may be moved
//! or copied together with what was built in it.

use anyhow::{Context, Result};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The folder of the workspace: the one that cargo runs a package of, or else
/// the one around the working directory, or around this program's own file.
///
/// # Errors
///
/// If none of these is in a checkout of this workspace.
pub fn root() -> Result<&'static Path> {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(root) = ROOT.get() {
        return Ok(root);
    }
    let found = find_root([
        env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from),
        env::current_dir().ok(),
        env::current_exe().ok(),
    ]);
    let found = found.context(
        "this is not a checkout of the workspace, nor a folder in one: \
         change to the checkout and run `cargo xtask`",
    )?;
    Ok(ROOT.get_or_init(|| found))
}

/// The workspace around the first of these places that is in one.
fn find_root(places: impl IntoIterator<Item = Option<PathBuf>>) -> Option<PathBuf> {
    let mut places = places.into_iter().flatten();
    places.find_map(|place| {
        let mut around = place.ancestors();
        around.find(|folder| is_root(folder)).map(Path::to_owned)
    })
}

/// Whether a folder is this workspace's, and not another project's.
fn is_root(folder: &Path) -> bool {
    let says = |file: &str, text: &str| {
        fs::read_to_string(folder.join(file)).is_ok_and(|manifest| manifest.contains(text))
    };
    says("Cargo.toml", "[workspace]") && says("guest/Cargo.toml", "name = \"arca-guest\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkout(folder: &Path) {
        fs::create_dir_all(folder.join("guest/src/bin")).expect("a folder");
        fs::write(folder.join("Cargo.toml"), "[workspace]\n").expect("a file");
        let manifest = "[package]\nname = \"arca-guest\"\n";
        fs::write(folder.join("guest/Cargo.toml"), manifest).expect("a file");
    }

    #[test]
    fn the_root_is_that_of_the_first_place_in_a_checkout() {
        let folder = tempfile::tempdir().expect("a folder");
        let [one, two, other] = ["one", "two", "other"].map(|name| folder.path().join(name));
        checkout(&one);
        checkout(&two);
        // Another project's workspace, around a checkout of ours or alone.
        fs::create_dir_all(other.join("src")).expect("a folder");
        fs::write(other.join("Cargo.toml"), "[workspace]\n").expect("a file");
        let of = |places: [&Path; 2]| find_root(places.map(|place| Some(place.to_owned())));
        let missing = folder.path().join("no/such/folder");
        assert_eq!(of([&one, &two]), Some(one.clone()));
        assert_eq!(of([&two.join("guest/src/bin"), &one]), Some(two.clone()));
        assert_eq!(of([&other.join("src"), &one]), Some(one));
        assert_eq!(of([&missing, &two]), Some(two));
        assert_eq!(of([&other, &missing]), None);
        assert_eq!(find_root([None, None]), None);
    }

    #[test]
    fn a_checkout_that_was_moved_is_found_where_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let [before, after] = ["before", "after"].map(|name| folder.path().join(name));
        checkout(&before);
        let find = |place: &Path| find_root([Some(place.join("target/release/xtask"))]);
        assert_eq!(find(&before), Some(before.clone()));
        fs::rename(&before, &after).expect("the same file system");
        assert_eq!(find(&before), None);
        assert_eq!(find(&after), Some(after));
    }
}
