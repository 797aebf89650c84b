//! What `cargo xtask` says of itself, and of a command line that it cannot take.

use arca_tests::guest::{Ended, Guest, xtask};
use std::io::Write;
use std::process::{Command, Stdio};

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(xtask());
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Ended {
    Guest::spawn(command(args)).finish()
}

/// What a command prints that succeeds.
#[track_caller]
fn printed(args: &[&str]) -> String {
    let ended = run(args);
    ended.expect_code(0);
    String::from_utf8(ended.stdout).expect("text")
}

#[test]
fn every_command_has_help_with_examples() {
    let help = printed(&["--help"]);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<_> = commands
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.contains(&"run"), "{help}");
    for name in commands {
        // The program that measures has its own, and is built for that alone.
        if ["help", "bench"].contains(&name) {
            continue;
        }
        let help = printed(&[name, "--help"]);
        let usage = format!("Usage: cargo xtask {name}");
        assert!(help.contains(&usage), "{help}");
        let (_, examples) = help.split_once("\nExamples:\n").expect("examples");
        let example = format!("cargo xtask {name}");
        assert!(examples.contains(&example), "{help}");
    }
}

#[test]
fn a_version_is_told() {
    let version = printed(&["--version"]);
    assert_eq!(
        version,
        format!("cargo xtask {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn programs_are_listed_with_what_they_do() {
    let list = printed(&["list"]);
    let lines: Vec<_> = list.lines().collect();
    for name in ["demo", "echo-server", "hello"] {
        let at = lines.iter().position(|line| *line == name);
        let at = at.unwrap_or_else(|| panic!("no {name} in:\n{list}"));
        assert!(lines[at + 1].len() > 10, "{name} is not described:\n{list}");
    }
}

#[test]
fn a_mistyped_option_is_not_taken_for_a_programs_name() {
    let ended = run(&["run", "--vcpu", "2", "hello"]);
    ended.expect_code(125).expect_stderr("'--vcpu'");
    ended.expect_stderr("'--vcpus'");
    // After the program's name, all is the program's.
    let said = printed(&["run", "--vcpus", "2", "hello", "--vcpu", "2", "--help"]);
    assert_eq!(
        said,
        "hello from Arca\nargument 1: --vcpu\nargument 2: 2\nargument 3: --help\n"
    );
}

#[test]
fn a_value_that_is_none_is_told_what_would_be_one() {
    run(&["run", "--log", "loud", "hello"])
        .expect_code(125)
        .expect_stderr("expected off, error, warn, info, debug or trace");
    run(&["run", "no-such-program"])
        .expect_code(125)
        .expect_stderr("echo-server");
}

#[test]
fn a_closed_standard_error_changes_no_exit_code() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = command(&["run", "no-such-program"]);
    let status = command.stderr(writer).status().expect("it starts");
    assert_eq!(status.code(), Some(125));
}

#[test]
fn completions_complete() {
    let script = printed(&["completions", "bash"]);
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(script.as_bytes()).expect("a file");
    for (words, completed) in [
        ("xtask ru", "run"),
        ("xtask run echo-s", "echo-server"),
        ("xtask run --manif", "--manifest-path"),
        ("arca-vmm --vcp", "--vcpus"),
    ] {
        let (command, word) = (words.split(' ').next(), words.split(' ').next_back());
        let (command, word) = (command.expect("a command"), word.expect("a word"));
        // As bash does it when somebody types the words, then a tab.
        let typed = format!(
            ". {}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             $(complete -p {command} | sed 's/.*-F \\([^ ]*\\).*/\\1/') {command} {word} ''; echo \"${{COMPREPLY[@]}}\"",
            file.path().display()
        );
        let mut bash = Command::new("bash");
        bash.args(["-c", &typed]).stdin(Stdio::null());
        let ended = Guest::spawn(bash).finish();
        let said = String::from_utf8_lossy(&ended.stdout);
        assert_eq!(said.trim(), completed, "{words}: {}", ended.stderr);
    }
    for (shell, says) in [("fish", "manifest-path"), ("zsh", "echo-server")] {
        let script = printed(&["completions", shell]);
        assert!(script.contains(says), "{script}");
    }
}
