//! `cargo xtask doctor`: a line for each thing, and for each that is lacking the command
//! that mends it.

use arca_tests::guest::{Ended, Guest, xtask};
use arca_tests::skip;
use std::process::{Command, Stdio};

/// What it looks at.
const THINGS: [&str; 8] = [
    "kvm",
    "process",
    "landlock",
    "namespaces",
    "qemu",
    "toolchain",
    "limits",
    "memory",
];

/// What it says of a thing: whether that is lacking, and the rest of the line.
fn said(ended: &Ended, thing: &str) -> (bool, String) {
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    let mut lines = text.lines().map(|line| line.split_at(9));
    let line = lines.find(|(_, rest)| rest.split_whitespace().next() == Some(thing));
    let (how, rest) = line.unwrap_or_else(|| panic!("nothing of {thing}: {text}"));
    (how.trim() == "lacking", rest.to_owned())
}

#[track_caller]
fn lacks(ended: &Ended, thing: &str, command: &str) {
    let (lacking, line) = said(ended, thing);
    assert!(lacking && line.contains(command), "{line}");
}

/// Runs it after shell commands, in namespaces of its own. Whatever it says, each line
/// is of a thing and each that is lacking has a command. `None` where such namespaces
/// cannot be had.
#[track_caller]
fn doctor(prepare: &str) -> Option<Ended> {
    let script = format!("{prepare}\necho prepared >&2; exec \"$0\" doctor");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--mount-proc"]);
    command.args(["sh", "-ec", &script]).arg(xtask());
    command.stdin(Stdio::null());
    let ended = Guest::spawn(command).finish();
    if !ended.stderr.starts_with("prepared\n") {
        skip(&format!("not possible here: {}", ended.stderr.trim()));
        return None;
    }
    let text = String::from_utf8_lossy(&ended.stdout);
    assert_eq!(text.lines().count(), THINGS.len(), "{text}");
    for thing in THINGS {
        let (lacking, line) = said(&ended, thing);
        assert!(!lacking || line.matches('`').count() >= 2, "{line}");
    }
    Some(ended)
}

#[test]
fn a_machine_with_a_platform_will_do() {
    if let Some(ended) = doctor("") {
        assert!(!said(&ended, "process").0, "{:?}", said(&ended, "process"));
        // This test has been built here.
        ended.expect_code(0);
    }
}

#[test]
fn without_kvm_it_says_what_does_without() {
    if let Some(ended) = doctor("mount --bind /dev/null /dev/kvm") {
        lacks(&ended, "kvm", "`cargo xtask run --qemu`");
        ended.expect_code(0);
    }
    if let Some(ended) = doctor("mount -t tmpfs none /dev") {
        let (lacking, line) = said(&ended, "kvm");
        assert!(lacking && line.contains("there is no /dev/kvm"), "{line}");
    }
}

#[test]
fn limits_and_tools_that_are_missing_have_commands() {
    if let Some(ended) = doctor("ulimit -n 64; PATH=/nowhere") {
        lacks(&ended, "limits", "`sudo prlimit");
        lacks(&ended, "qemu", "`sudo apt-get install qemu-system-x86`");
        lacks(&ended, "toolchain", "sh.rustup.rs");
        ended
            .expect_code(1)
            .expect_stderr("cannot be built and booted");
    }
    if let Some(ended) = doctor("ulimit -v 67108864") {
        lacks(&ended, "limits", "`ulimit -v unlimited`");
    }
}

#[test]
fn without_any_platform_it_fails() {
    // This namespace's own setting.
    let prepare =
        "mount --bind /dev/null /dev/kvm; echo 2 >/proc/sys/vm/memfd_noexec; PATH=/nowhere";
    if let Some(ended) = doctor(prepare) {
        lacks(&ended, "process", "`sudo sysctl -w vm.memfd_noexec=0`");
        ended.expect_code(1);
    }
    if let Some(ended) = doctor("mount -t tmpfs none /proc") {
        lacks(&ended, "process", "`sudo mount -t proc proc /proc`");
    }
}
