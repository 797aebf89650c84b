//! Running cargo, with outputs wherever the user wants them.

use crate::progress;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::env;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

/// Where cargo puts what it makes. Paths in them are relative to where cargo is
/// started.
const FOLDERS: [&str; 3] = [
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_BUILD_DIR",
];

/// The cargo that runs us, or the one on the path, at work in `folder`.
#[must_use]
pub fn cargo(folder: &Path) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(folder);
    let here = env::current_dir().unwrap_or_default();
    for name in FOLDERS {
        if let Some(folder) = env::var_os(name).filter(|folder| Path::new(folder).is_relative()) {
            command.env(name, here.join(folder));
        }
    }
    command
}

/// A command as one would type it.
#[must_use]
pub fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let mut shown = name.to_string_lossy().into_owned();
    for arg in command.get_args() {
        shown.push(' ');
        shown.push_str(&arg.to_string_lossy());
    }
    shown
}

/// A program that cargo made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
}

/// Runs a `cargo build`, and gives the programs that it made or found to be fresh.
/// Says what cargo says, but for a build with nothing to do.
///
/// # Errors
///
/// If cargo cannot be run, or fails.
pub fn build(command: &mut Command) -> Result<Vec<Program>> {
    Ok(messages(command)?.iter().filter_map(program).collect())
}

/// Runs a build, and gives cargo's messages.
fn messages(command: &mut Command) -> Result<Vec<Value>> {
    command.arg("--message-format=json-render-diagnostics");
    progress::show_as_on_terminal(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{}`", show(command)))?;
    let (messages, said) = (child.stdout.take(), child.stderr.take());
    let (mut messages, said) = messages.zip(said).context("the pipes of cargo")?;
    let speaker = thread::spawn(move || progress::pass(said, &mut io::stderr()));
    let mut text = String::new();
    messages
        .read_to_string(&mut text)
        .context("cargo's messages")?;
    let status = child.wait().context("waiting for cargo")?;
    // It ends with cargo, which held the pipe's other end.
    let _ = speaker.join();
    if !status.success() {
        bail!("`{}` failed: {status}", show(command));
    }
    Ok(parse(&text))
}

/// Builds tests, by a `cargo test --no-run`, and gives the programs, each with the
/// folder of its package, in which cargo would run it.
///
/// # Errors
///
/// As [`build`].
pub fn build_tests(command: &mut Command) -> Result<Vec<(Program, PathBuf)>> {
    let messages = messages(command)?;
    let tests = messages
        .iter()
        .filter(|message| message["profile"]["test"] == true);
    let tests = tests.filter_map(|test| {
        let manifest = Path::new(test["manifest_path"].as_str()?);
        Some((program(test)?, manifest.parent()?.to_owned()))
    });
    Ok(tests.collect())
}

/// The only program that such a build makes.
///
/// # Errors
///
/// As [`build`]; if cargo does not say that it made it.
pub fn build_one(command: &mut Command, name: &str) -> Result<PathBuf> {
    let mut programs = build(command)?.into_iter();
    let program = programs.find(|program| program.name == name);
    let program = program.with_context(|| format!("cargo does not say where it put {name}"))?;
    Ok(program.path)
}

/// Cargo's messages, one of which is a line.
fn parse(text: &str) -> Vec<Value> {
    let lines = text.lines().map(serde_json::from_str);
    lines.filter_map(Result::ok).collect()
}

/// The program that a message is about.
fn program(message: &Value) -> Option<Program> {
    if message["reason"] != "compiler-artifact" {
        return None;
    }
    Some(Program {
        name: message["target"]["name"].as_str()?.to_owned(),
        path: message["executable"].as_str()?.into(),
    })
}

/// What `cargo metadata` says of the workspace around `folder`.
///
/// # Errors
///
/// If cargo cannot be run, or does not know.
pub fn metadata(folder: &Path) -> Result<Value> {
    let mut command = cargo(folder);
    command.args(["metadata", "--no-deps", "--format-version=1"]);
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot run `{}`", show(&command)))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", show(&command), output.status);
    }
    serde_json::from_slice(&output.stdout).context("what cargo metadata says")
}

/// The target that cargo builds for where none is named.
///
/// # Errors
///
/// If cargo cannot be run, or does not say.
pub fn host_target() -> Result<String> {
    let mut command = cargo(Path::new("."));
    let output = command.arg("-vV").output();
    let output = output.with_context(|| format!("cannot run `{}`", show(&command)))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("cargo does not say its host")?.to_owned())
}

/// Makes a build depend on the workspace and on `flags` alone: variables with
/// which the user changes builds are for those of the host's programs.
pub fn shield(command: &mut Command, flags: &str, variables: impl Iterator<Item = OsString>) {
    for name in variables {
        let text = name.to_string_lossy();
        let profile = text.starts_with("CARGO_PROFILE_");
        if profile || ["CARGO_INCREMENTAL", "CARGO_BUILD_INCREMENTAL"].contains(&&*text) {
            command.env_remove(&name);
        }
    }
    // Of all places where flags can stand, cargo uses this first, and only one.
    let flags = flags.replace(' ', "\x1f");
    command.env("CARGO_ENCODED_RUSTFLAGS", flags);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn programs_are_what_cargo_says_it_made() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"arca_guest"},"executable":null}"#,
            "\n",
            r#"{"reason":"build-script-executed","package_id":"guest","executable":"/no"}"#,
            "\nnot a message\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"demo"},"executable":"/a b/demo","fresh":true}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let program = Program {
            name: "demo".into(),
            path: "/a b/demo".into(),
        };
        let messages = parse(messages);
        let found: Vec<_> = messages.iter().filter_map(super::program).collect();
        assert_eq!(found, [program]);
    }

    #[test]
    fn what_the_user_changes_builds_with_does_not_reach_a_shielded_one() {
        let mut command = Command::new("cargo");
        let names = [
            "CARGO_PROFILE_GUEST_PANIC",
            "CARGO_PROFILE_RELEASE_STRIP",
            "CARGO_INCREMENTAL",
            "CARGO_TARGET_DIR",
            "PATH",
        ];
        shield(&mut command, "-C a=b -C c", names.iter().map(Into::into));
        let changed: Vec<_> = command.get_envs().collect();
        let removed = |name| changed.contains(&(OsStr::new(name), None));
        assert!(names[..3].iter().all(removed));
        assert!(!names[3..].iter().any(removed));
        let flags = OsStr::new("-C\x1fa=b\x1f-C\x1fc");
        assert!(changed.contains(&(OsStr::new("CARGO_ENCODED_RUSTFLAGS"), Some(flags))));
    }
}
