//! `cargo xtask run --qemu`: what a user sees is what the same command gives
//! without it, and nothing is left behind.

use arca_tests::data::{assert_same, noise};
use arca_tests::guest::{Ended, Guest, deadline, image, xtask};
use arca_tests::process::install;
use arca_tests::skip;
use nix::sys::signal::Signal;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

/// Whether a machine can be had here; says so if not.
fn machine() -> bool {
    static LACKING: LazyLock<Option<String>> = LazyLock::new(lacking);
    if let Some(reason) = &*LACKING {
        skip(reason);
    }
    LACKING.is_none()
}

/// What a machine lacks here.
fn lacking() -> Option<String> {
    if xtask::built::folder().is_some() {
        return Some("no machine in a machine".into());
    }
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.arg("--version").stdout(Stdio::null());
    if qemu.status().is_err() {
        return Some("qemu-system-x86_64 is not installed".into());
    }
    let ended = run(&["hello"]);
    let no_kernel = ended.code == Some(125) && ended.stderr.contains("--kernel PATH");
    no_kernel.then(|| ended.stderr.trim().to_owned())
}

/// `cargo xtask run --qemu` with these arguments.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new(xtask());
    command.args(["run", "--qemu"]).args(args);
    command.stdin(Stdio::null());
    command
}

/// Runs it to its end.
fn run(args: &[&str]) -> Ended {
    Guest::spawn(command(args)).finish_within(5 * deadline())
}

/// The QEMU processes that a process has started, and that run.
fn machines_of(parent: u32) -> Vec<i32> {
    let processes = fs::read_dir("/proc").expect("a list of processes");
    let stats = processes.flatten().filter_map(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (before, after) = stat.rsplit_once(") ")?;
        let mut fields = after.split(' ');
        let (state, its_parent) = (fields.next()?, fields.next()?);
        let (pid, name) = before.split_once(" (")?;
        let wanted = name.starts_with("qemu") && its_parent == parent.to_string();
        (wanted && state != "Z").then(|| pid.parse().ok())?
    });
    stats.collect()
}

/// Whether a process runs, and has not just not been waited for.
fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some(Some('Z' | 'X')))
}

#[test]
fn a_program_says_and_returns_what_it_does_without() {
    if !machine() {
        return;
    }
    let ended = run(&["hello", "a b", "--qemu", "é"]);
    ended.expect_code(0).expect_stderr("qemu: kernel ");
    let wanted = "hello from Arca\nargument 1: a b\nargument 2: --qemu\nargument 3: é\n";
    assert_same(&ended.stdout, wanted.as_bytes());
    // That line, and whatever a build says, is all that is said beside it.
    let said = ended.stderr.lines().rfind(|line| !line.is_empty());
    assert!(
        said.is_some_and(|line| line.starts_with("qemu: kernel ")),
        "{}",
        ended.stderr
    );

    let ended = run(&["--vcpus", "2", "crash", "null-read"]);
    let report = "guest crashed on vCPU 0 in crash::read_null_pointer: null pointer: read of 0x0";
    ended
        .expect_code(101)
        .expect_stderr(report)
        .expect_stderr("crash.rs:");
}

#[test]
fn standard_input_is_read_when_it_is_asked_for() {
    if !machine() {
        return;
    }
    let sent = noise(5, 300_000);
    let (mut rest, mut writer) = std::io::pipe().expect("a pipe");
    let source = sent.clone();
    let writing = thread::spawn(move || writer.write_all(&source).expect("it is read"));
    let mut program = command(&["cat", "200000"]);
    program.stdin(rest.try_clone().expect("a descriptor"));
    let ended = Guest::spawn(program).finish_within(5 * deadline());
    ended.expect_code(0);
    assert_same(&ended.stdout, &sent[..200_000]);
    let mut left = Vec::new();
    rest.read_to_end(&mut left).expect("the rest");
    writing.join().expect("no panic");
    assert_same(&left, &sent[200_000..]);
}

#[test]
fn a_signal_goes_to_the_program_and_the_machine_is_gone() {
    if !machine() {
        return;
    }
    let mut guest = Guest::spawn(command(&["echo-server", "0"]));
    guest.address();
    let machines = machines_of(guest.child().id());
    assert_eq!(machines.len(), 1, "{machines:?}");
    guest.signal(Signal::SIGTERM);
    let ended = guest.finish();
    ended.expect_code(143).expect_stderr("stopped by signal 15");
    assert!(!runs(machines[0]));

    // One that nobody sees coming.
    let mut guest = Guest::spawn(command(&["echo-server", "0"]));
    guest.address();
    let machines = machines_of(guest.child().id());
    assert_eq!(machines.len(), 1, "{machines:?}");
    guest.signal(Signal::SIGKILL);
    assert_eq!(guest.finish().code, None);
    let end = Instant::now() + deadline();
    while runs(machines[0]) {
        assert!(Instant::now() < end, "QEMU goes on");
        thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn an_output_that_is_closed_ends_the_program() {
    if !machine() {
        return;
    }
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let guest = Guest::spawn_to(command(&["print", "10000000"]), writer.into());
    let ended = guest.finish_within(5 * deadline());
    ended.expect_code(1).expect_stderr("broken pipe");
}

/// Fails unless that is one line about what to do, and nothing was run.
#[track_caller]
fn expect_refused(ended: &Ended, says: &str) {
    ended.expect_code(125).expect_stderr(says);
    assert_eq!(ended.stdout, b"");
    assert_eq!(
        ended.stderr.trim_end().lines().count(),
        1,
        "{}",
        ended.stderr
    );
}

/// The command with an image that is built, and a path of its own.
fn alone(path: &Path, args: &[&str]) -> Ended {
    let mut command = command(args);
    command.env("PATH", path).arg("--image").arg(image("hello"));
    Guest::spawn(command).finish()
}

#[test]
fn what_is_missing_is_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    for kernel in ["no/such/kernel", "/", "/dev/null"] {
        let ended = alone(path, &["--kernel", kernel]);
        expect_refused(&ended, &format!("--kernel {kernel}: "));
    }
    // A kernel that has modules, but none for KVM.
    let boot = path.join("boot");
    let modules = path.join("lib/modules/6.0-none/kernel");
    for folder in [&boot, &modules] {
        fs::create_dir_all(folder).expect("a folder");
    }
    let kernel = boot.join("vmlinux");
    fs::write(&kernel, b"\x7fELF Linux version 6.0-none (x)").expect("a file");
    let ended = alone(path, &["--kernel", &kernel.display().to_string()]);
    expect_refused(&ended, "it has no module 'kvm_amd'");
    // One that has neither.
    fs::remove_dir_all(path.join("lib")).expect("its own folder");
    let ended = alone(path, &["--kernel", &kernel.display().to_string()]);
    expect_refused(&ended, "has no kvm-amd built in, and no modules");
    // As far as can be seen it will do; there is no QEMU.
    let with_kvm = b"\x7fELF Linux version 6.0-none (x) kvm_amd.nested";
    fs::write(&kernel, with_kvm).expect("a file");
    let ended = alone(path, &["--kernel", &kernel.display().to_string()]);
    ended
        .expect_code(125)
        .expect_stderr("apt-get install qemu-system-x86");
}

#[test]
fn a_download_that_fails_is_one_line() {
    let installed = fs::read_dir("/boot").into_iter().flatten().flatten();
    let mut names = installed.map(|entry| entry.file_name());
    if names.any(|name| name.to_string_lossy().starts_with("vmlinuz-")) {
        return skip("a kernel is installed here, none would be downloaded");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let tool = |name: &str, script: &str| {
        let text = folder.path().join(format!("{name}.sh"));
        fs::write(&text, format!("#!/bin/sh\n{script}\n")).expect("a file");
        install(&text, &folder.path().join(name));
    };
    let run = || {
        let mut command = command(&["--image"]);
        command.arg(image("hello"));
        command.env("PATH", folder.path());
        // Nothing was downloaded there before.
        command.env("CARGO_TARGET_DIR", folder.path().join("target"));
        Guest::spawn(command).finish()
    };
    expect_refused(&run(), "there is no apt-get");
    tool(
        "apt-get",
        "case $* in *download*) echo 'E: 404 Not Found' >&2; exit 100;; esac",
    );
    tool("apt-cache", "exit 100");
    expect_refused(&run(), "apt knows no package linux-image-cloud-amd64");
    tool(
        "apt-cache",
        "echo '  Depends: linux-image-6.1.0-0-cloud-amd64'",
    );
    let ended = run();
    ended.expect_code(125).expect_stderr("E: 404 Not Found");
    ended.expect_stderr("run `apt-get update` as root");
}
