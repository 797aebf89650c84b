//! The documents: their links lead somewhere, the files that they name are there, and
//! the commands that they show are commands.

use arca_tests::guest::{Guest, xtask};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> &'static Path {
    xtask::root::root().expect("a checkout")
}

/// A document of the project.
struct Document {
    /// Its path in the checkout.
    path: PathBuf,
    text: String,
}

/// All of them.
fn documents() -> Vec<Document> {
    let folders = [root().to_owned(), root().join("docs")];
    let entries = folders.map(|folder| fs::read_dir(folder).expect("a folder"));
    let paths = entries.into_iter().flatten();
    let paths = paths.map(|entry| entry.expect("an entry").path());
    let mut documents: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .map(|path| Document {
            text: fs::read_to_string(&path).expect("text"),
            path: path.strip_prefix(root()).expect("inside").to_owned(),
        })
        .collect();
    documents.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(documents.len() > 8, "where are they?");
    documents
}

impl Document {
    /// The lines outside of blocks of code, and those inside.
    fn lines(&self) -> (Vec<&str>, Vec<&str>) {
        let mut fenced = false;
        let mut program = false;
        let (mut prose, mut code) = (Vec::new(), Vec::new());
        for line in self.text.lines() {
            if let Some(kind) = line.trim_start().strip_prefix("```") {
                fenced = !fenced;
                program = kind.starts_with("rust");
            } else if fenced && !program || line.starts_with("    ") {
                code.push(line.trim());
            } else if !fenced {
                prose.push(line);
            }
        }
        (prose, code)
    }

    /// What stands in single backticks.
    fn quoted(&self) -> Vec<String> {
        // A quotation may go on in the next line, but not in the next paragraph.
        let (prose, _) = self.lines();
        let paragraphs = prose.split(|line| line.is_empty());
        let texts = paragraphs.map(|lines| lines.join(" "));
        let quoted = texts.flat_map(|text| {
            let parts = text.split('`').skip(1).step_by(2);
            parts.map(str::to_owned).collect::<Vec<_>>()
        });
        quoted.collect()
    }

    /// What headings are called in a link.
    fn anchors(&self) -> BTreeSet<String> {
        let (prose, _) = self.lines();
        let headings = prose.into_iter().filter(|line| line.starts_with('#'));
        let anchors = headings.map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
            title
                .chars()
                .filter(kept)
                .collect::<String>()
                .replace(' ', "-")
        });
        anchors.collect()
    }
}

#[test]
fn links_lead_somewhere() {
    let documents = documents();
    let anchors: BTreeMap<_, _> = documents
        .iter()
        .map(|document| (document.path.clone(), document.anchors()))
        .collect();
    let mut bad = Vec::new();
    let mut count = 0;
    for Document { path, .. } in &documents {
        let document = documents.iter().find(|other| other.path == *path);
        let (prose, _) = document.expect("itself").lines();
        let text = prose.join("\n");
        for rest in text.split("](").skip(1) {
            let target = rest.split(')').next().unwrap_or_default();
            if target.contains("://") {
                continue;
            }
            count += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let folder = path.parent().unwrap_or(Path::new(""));
            let found = match file {
                "" => Some(path.clone()),
                file => fs::canonicalize(root().join(folder).join(file))
                    .ok()
                    .and_then(|found| Some(found.strip_prefix(root()).ok()?.to_owned())),
            };
            let known = |found: &PathBuf| {
                anchor.is_empty() || anchors.get(found).is_some_and(|all| all.contains(anchor))
            };
            if !found.as_ref().is_some_and(known) {
                bad.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(count > 20, "only {count} links were found");
    assert!(
        bad.is_empty(),
        "links that lead nowhere:\n{}",
        bad.join("\n")
    );
}

#[test]
fn files_that_are_named_are_there() {
    let mut bad = Vec::new();
    let mut count = 0;
    for document in documents() {
        // What has gone may be named where it is told what changed.
        if document.path.ends_with("CHANGELOG.md") {
            continue;
        }
        for name in document.quoted() {
            let first = name.split('/').next().unwrap_or_default();
            let folders = [
                "bench", "build", "docs", "fuzz", "guest", "monitor", "shared",
            ];
            let folders = folders.into_iter().chain(["tests", "vmm", "xtask", ".ci"]);
            let is_path = name.contains('/') && !name.contains([' ', '*', '<', '{', ':']);
            if is_path && folders.into_iter().any(|folder| folder == first) {
                count += 1;
                // What a run leaves is not there before it; what the guide speaks of is in
                // the crate that is made there.
                let made = name.starts_with("fuzz/artifacts");
                let places = [root().to_owned(), root().join("xtask/template")];
                let there = |place: &PathBuf| place.join(&name).exists();
                if !made && !places.iter().any(there) {
                    bad.push(format!("{}: {name}", document.path.display()));
                }
            }
        }
    }
    assert!(count > 20, "only {count} names of files were found");
    assert!(bad.is_empty(), "there is no such file:\n{}", bad.join("\n"));
}

/// What `cargo xtask` prints that succeeds.
fn printed(args: &[&str]) -> String {
    let mut command = Command::new(xtask());
    command.args(args).stdin(Stdio::null());
    let ended = Guest::spawn(command).finish();
    ended.expect_code(0);
    String::from_utf8(ended.stdout).expect("text")
}

/// `cargo xtask`, as its help has it.
struct Commands {
    /// The help of each command.
    help: BTreeMap<String, String>,
    programs: String,
}

impl Commands {
    fn ask() -> Self {
        let help = printed(&["--help"]);
        let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        let commands = commands.take_while(|line| !line.is_empty());
        let names = commands.filter_map(|line| line.split_whitespace().next());
        let names = names.filter(|name| *name != "help");
        Self {
            // What measures has its own help, and is built for that alone.
            help: names
                .map(|name| {
                    let help = match name {
                        "bench" => String::new(),
                        name => printed(&[name, "--help"]),
                    };
                    (name.to_owned(), help)
                })
                .collect(),
            programs: printed(&["list"]),
        }
    }

    /// What is wrong with a command's words, after `cargo xtask`.
    fn fault(&self, words: &[&str]) -> Option<String> {
        let (name, rest) = words.split_first()?;
        if name.starts_with("--") {
            return None;
        }
        // A placeholder, as in `cargo xtask COMMAND`.
        if name.chars().all(|c| c.is_ascii_uppercase()) {
            return None;
        }
        let Some(help) = self.help.get(*name) else {
            return Some(format!("there is no command {name}"));
        };
        if *name == "bench" {
            return None;
        }
        let mut words = rest.iter();
        while let Some(word) = words.next() {
            if let Some(option) = word.strip_prefix("--") {
                let (option, value) = option.split_once('=').unwrap_or((option, ""));
                let mut lines = help.lines().map(str::trim_start);
                let line = lines.find(|line| {
                    let listed = line.strip_prefix("-h, ").unwrap_or(line);
                    let listed = listed.strip_prefix("--").unwrap_or_default();
                    listed.split([' ', '=', '[']).next() == Some(option)
                });
                let Some(line) = line else {
                    return Some(format!("{name} has no option --{option}"));
                };
                if line.contains('<') && !line.contains("[=") && value.is_empty() {
                    words.next();
                }
                continue;
            }
            let program = word.trim_end_matches(['.', ',']);
            let is_name = program.starts_with(|c: char| c.is_ascii_lowercase());
            let known = || self.programs.lines().any(|line| line == program);
            let elsewhere = rest
                .iter()
                .any(|word| word.starts_with("--image") || word.starts_with("--manifest-path"));
            if *name == "run" && is_name && !elsewhere && !known() {
                return Some(format!("there is no program {program}"));
            }
            return None;
        }
        None
    }
}

#[test]
fn commands_that_are_shown_are_commands() {
    let commands = Commands::ask();
    let mut bad = Vec::new();
    let mut count = 0;
    for document in documents() {
        let (_, code) = document.lines();
        let code = code.into_iter().map(str::to_owned);
        for line in code.chain(document.quoted()) {
            let line = line.strip_prefix("$ ").unwrap_or(&line);
            let Some(rest) = line.strip_prefix("cargo xtask ") else {
                continue;
            };
            count += 1;
            let words = rest.split_whitespace();
            let words: Vec<_> = words.take_while(|word| !word.starts_with('#')).collect();
            if let Some(fault) = commands.fault(&words) {
                bad.push(format!("{}: {line}: {fault}", document.path.display()));
            }
        }
    }
    assert!(count > 30, "only {count} commands were found");
    assert!(
        bad.is_empty(),
        "commands that are none:\n{}",
        bad.join("\n")
    );
    // The check itself sees what is wrong.
    for wrong in [
        &["rum", "hello"][..],
        &["run", "--vcpu", "2", "hello"],
        &["run", "--vcpus", "2", "helo"],
        &["test", "--fast"],
    ] {
        assert!(commands.fault(wrong).is_some(), "{wrong:?}");
    }
    assert_eq!(
        commands.fault(&["run", "--vcpus", "2", "hello", "--x"]),
        None
    );
}
