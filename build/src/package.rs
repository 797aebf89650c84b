//! The guest programs of a package, and building them.

use crate::cargo;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Frame pointers make a crash report's backtrace possible; `getrandom` asks the
/// runtime for its bytes.
const RUSTFLAGS: &str = "-C force-frame-pointers=yes --cfg getrandom_backend=\"custom\"";

/// The profile, and what no image can do without. The rest of it is the package's
/// to set.
const PROFILE: &str = "guest";
const SETTINGS: [&str; 3] = [
    r#"profile.guest.inherits="release""#,
    // There is no unwinder on bare metal.
    r#"profile.guest.panic="abort""#,
    // So that a crash report can name functions, files and lines.
    r#"profile.guest.debug="line-tables-only""#,
];

/// A package with guest programs.
#[derive(Debug)]
pub struct Package {
    name: String,
    manifest: PathBuf,
    programs: Vec<Program>,
}

/// A guest program, as the package's manifest has it.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    name: String,
    /// The file with its `main`.
    source: PathBuf,
    /// What it needs to be built.
    features: Vec<String>,
}

impl Package {
    /// The package of a `Cargo.toml`, or of the folder that has one.
    ///
    /// # Errors
    ///
    /// If there is none, or cargo cannot read it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let manifest = match path.is_dir() {
            true => path.join("Cargo.toml"),
            false => path.to_owned(),
        };
        // Cargo says it in its own words what it cannot read in there.
        let manifest = fs::canonicalize(&manifest)
            .with_context(|| format!("{} cannot be opened", manifest.display()))?;
        let metadata = cargo::metadata(folder(&manifest))?;
        let packages = metadata["packages"].as_array();
        let package = packages.into_iter().flatten().find(|package| {
            let path = package["manifest_path"].as_str();
            path.is_some_and(|path| Path::new(path) == manifest)
        });
        let package =
            package.with_context(|| format!("{} is of no single package", manifest.display()))?;
        Ok(Self {
            name: package["name"].as_str().context("a package's name")?.into(),
            programs: programs(package),
            manifest,
        })
    }

    /// The names of its programs, in order.
    #[must_use]
    pub fn programs(&self) -> Vec<&str> {
        let names = self.programs.iter().map(|program| &*program.name);
        names.collect()
    }

    /// What each program says of itself: the first sentence of its documentation.
    ///
    /// # Errors
    ///
    /// If a program's file cannot be read.
    pub fn descriptions(&self) -> Result<Vec<(&str, String)>> {
        let described = self.programs.iter().map(|program| {
            let text = fs::read_to_string(&program.source)
                .with_context(|| program.source.display().to_string())?;
            Ok((&*program.name, description(&text)))
        });
        described.collect()
    }

    /// The name of its only program.
    ///
    /// # Errors
    ///
    /// If there is none, or a choice.
    pub fn only_program(&self) -> Result<&str> {
        match &self.programs[..] {
            [program] => Ok(&program.name),
            [] => bail!("{} has no program", self.manifest.display()),
            _ => {
                let (manifest, known) = (self.manifest.display(), self.programs().join(", "));
                bail!("{manifest} has several programs; choose one: {known}")
            }
        }
    }

    /// Builds a program, and gives its image. Says nothing when there is nothing
    /// to do.
    ///
    /// # Errors
    ///
    /// If there is no such program, or cargo fails.
    pub fn build(&self, program: &str) -> Result<PathBuf> {
        let Some(known) = self.programs.iter().find(|known| known.name == program) else {
            return Err(self.unknown(program));
        };
        let mut command = self.command(&known.features)?;
        command.args(["--bin", program]);
        cargo::build_one(&mut command, program)
            .with_context(|| format!("building the guest program '{program}'"))
    }

    /// Builds all its programs, and gives the images; a faulty one does not keep
    /// the others from being built.
    ///
    /// # Errors
    ///
    /// If cargo fails, or a file looks like a program and is none.
    pub fn build_all(&self) -> Result<Vec<cargo::Program>> {
        if let Some(file) = self.files().find(|file| !self.knows(file)) {
            return Err(self.unknown(&stem(&file)));
        }
        let features = self.programs.iter().flat_map(|program| &program.features);
        let mut command = self.command(features)?;
        command.args(["--bins", "--keep-going"]);
        cargo::build(&mut command).context("building the guest programs")
    }

    /// The build of programs, but for which.
    fn command<'a>(&self, features: impl IntoIterator<Item = &'a String>) -> Result<Command> {
        let mut command = cargo::cargo(folder(&self.manifest));
        command
            .args(["build", "--package", &self.name, "--profile", PROFILE])
            // The host's own, whatever the user builds for otherwise.
            .args(["--target", &cargo::host_target()?]);
        for feature in features {
            command.args(["--features", feature]);
        }
        for setting in SETTINGS {
            command.args(["--config", setting]);
        }
        // So that a debugger can show the program's variables too.
        let debug = format!(r#"profile.guest.package.{}.debug="full""#, self.name);
        command.args(["--config", &debug]);
        cargo::shield(
            &mut command,
            RUSTFLAGS,
            env::vars_os().map(|(name, _)| name),
        );
        Ok(command)
    }

    /// Why there is no such program.
    fn unknown(&self, program: &str) -> anyhow::Error {
        let manifest = self.manifest.display();
        if let Some(file) = self.files().find(|file| stem(file) == program) {
            let path = file.strip_prefix(folder(&self.manifest)).unwrap_or(&file);
            return anyhow::anyhow!(
                "{} has no entry in {manifest}; add\n\n[[bin]]\nname = {program:?}\n\
                 path = {path:?}\nrequired-features = {:?}\ntest = false\nbench = false\n",
                file.display(),
                self.common_features(),
            );
        }
        let known = self.programs().join(", ");
        anyhow::anyhow!("there is no guest program '{program}'; there are {known}")
    }

    /// What each of its programs needs.
    fn common_features(&self) -> Vec<&String> {
        let Some((first, others)) = self.programs.split_first() else {
            return Vec::new();
        };
        let needed =
            |feature: &&String| others.iter().all(|other| other.features.contains(feature));
        first.features.iter().filter(needed).collect()
    }

    fn knows(&self, file: &Path) -> bool {
        self.programs().contains(&&*stem(file))
    }

    /// The files that are programs to whoever wrote them: what cargo would take
    /// for programs by itself.
    fn files(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(folder(&self.manifest).join("src/bin"));
        let paths = entries.into_iter().flatten().flatten();
        let files = paths.map(|entry| match entry.path() {
            path if path.is_dir() => path.join("main.rs"),
            path => path,
        });
        files.filter(|file| file.is_file() && file.extension().is_some_and(|end| end == "rs"))
    }
}

/// The name that a program in that file has.
fn stem(file: &Path) -> String {
    let named = match file.ends_with("main.rs") {
        true => file.parent().unwrap_or(file),
        false => file,
    };
    let stem = named.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

/// The first sentence of a file's documentation.
fn description(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    let paragraph = lines.map(str::trim).take_while(|line| !line.is_empty());
    let paragraph = paragraph.collect::<Vec<_>>().join(" ");
    let end = paragraph.find(". ").unwrap_or(paragraph.len());
    paragraph[..end].trim_end_matches('.').to_owned()
}

/// The folder of a file.
fn folder(file: &Path) -> &Path {
    file.parent().unwrap_or(file)
}

/// The programs of a package, from what `cargo metadata` says of it.
fn programs(package: &Value) -> Vec<Program> {
    let strings = |list: &Value| {
        let strings = list.as_array().into_iter().flatten();
        let strings = strings.filter_map(|text| text.as_str().map(str::to_owned));
        strings.collect::<Vec<_>>()
    };
    let targets = package["targets"].as_array().into_iter().flatten();
    let programs = targets.filter_map(|target| {
        let name = target["name"].as_str()?.to_owned();
        let program = strings(&target["kind"]).contains(&"bin".to_owned());
        program.then(|| Program {
            name,
            source: target["src_path"].as_str().unwrap_or_default().into(),
            features: strings(&target["required-features"]),
        })
    });
    let mut programs: Vec<_> = programs.collect();
    programs.sort_by(|one, other| one.name.cmp(&other.name));
    programs
}

/// The image of a guest program: of the package in `folder`, built if that is to
/// be done.
///
/// # Errors
///
/// If there is no such program, or cargo fails.
pub fn image(folder: impl AsRef<Path>, program: &str) -> Result<PathBuf> {
    Package::open(folder)?.build(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A package in a folder of its own.
    fn package(files: &[(&str, &str)]) -> tempfile::TempDir {
        let place = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = place.path().join(name);
            fs::create_dir_all(folder(&path)).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        place
    }

    const MANIFEST: &str = "[package]\nname = \"some\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
        autobins = false\n[workspace]\n[features]\nimage = []\n[[bin]]\nname = \"two\"\n\
        path = \"src/bin/two.rs\"\nrequired-features = [\"image\"]\n[[bin]]\n\
        name = \"one\"\npath = \"src/one.rs\"\n";

    #[test]
    fn programs_are_those_of_the_manifest() {
        let place = package(&[
            ("Cargo.toml", MANIFEST),
            ("src/bin/two.rs", ""),
            ("src/one.rs", ""),
        ]);
        for path in [place.path().to_owned(), place.path().join("Cargo.toml")] {
            let package = Package::open(path).expect("a package");
            assert_eq!(package.programs(), ["one", "two"]);
            assert_eq!(package.programs[1].features, ["image"]);
            let error = package.only_program().expect_err("there are two");
            assert!(
                error.to_string().ends_with("choose one: one, two"),
                "{error}"
            );
            let error = package.build("three").expect_err("there is none");
            assert_eq!(
                error.to_string(),
                "there is no guest program 'three'; there are one, two"
            );
        }
    }

    #[test]
    fn a_file_without_an_entry_is_told_so() {
        let place = package(&[
            ("Cargo.toml", MANIFEST),
            ("src/bin/two.rs", ""),
            ("src/one.rs", ""),
            ("src/bin/three/main.rs", ""),
            ("src/bin/three/part.rs", ""),
            ("src/bin/notes.txt", ""),
        ]);
        let package = Package::open(place.path()).expect("a package");
        for error in [
            package.build("three").expect_err("it is no program"),
            package.build_all().expect_err("one is no program"),
        ] {
            let said = error.to_string();
            assert!(
                said.contains("src/bin/three/main.rs has no entry in "),
                "{said}"
            );
            assert!(said.contains("[[bin]]\nname = \"three\"\npath = \"src/bin/three/main.rs\"\n"));
        }
        let error = package.build("part").expect_err("it is none");
        assert!(error.to_string().starts_with("there is no guest program"));
    }

    #[test]
    fn a_program_is_described_by_its_first_sentence() {
        for (text, says) in [
            ("//! One line.\n\nuse core;\n", "One line"),
            (
                "//! `x N`: two\n//! lines. And more.\n//!\n//! More.\n",
                "`x N`: two lines",
            ),
            ("use core;\n", ""),
            ("", ""),
        ] {
            assert_eq!(description(text), says, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_package_is_said() {
        let place = package(&[("Cargo.toml", "[workspace]\nmembers = []\n")]);
        let error = Package::open(place.path()).expect_err("a workspace");
        assert!(
            error.to_string().contains("of no single package"),
            "{error}"
        );
        let error = Package::open(place.path().join("no")).expect_err("nothing");
        assert!(error.to_string().contains("cannot be opened"), "{error}");
    }
}
