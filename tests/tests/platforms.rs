//! What a user sees is the same on each platform: transcript, exit code, crash report.

use arca_tests::guest::{Ended, Guest, image, vmm, xtask};
use arca_tests::skip;
use arca_vmm::Platform;
use arca_vmm::cli::PLATFORM;
use std::process::{Command, Stdio};

/// How a program ends on each platform: under KVM, then in a process. Nothing where
/// there is no KVM to compare with.
fn on_both(program: &str, args: &[&str]) -> Option<[Ended; 2]> {
    on_platforms(|| {
        let mut command = Command::new(vmm());
        command.arg(image(program)).args(args);
        command
    })
}

/// As [`on_both`], of a command that runs a guest.
fn on_platforms(command: impl Fn() -> Command) -> Option<[Ended; 2]> {
    if let Err(error) = Platform::Kvm.check() {
        skip(&format!("nothing to compare a process with: {error}"));
        return None;
    }
    Some([Platform::Kvm, Platform::Process].map(|platform| {
        let mut command = command();
        command.env(PLATFORM, platform.name()).stdin(Stdio::null());
        Guest::spawn(command).finish()
    }))
}

#[track_caller]
fn assert_same(program: &str, args: &[&str]) {
    let Some([kvm, process]) = on_both(program, args) else {
        return;
    };
    let text = |ended: &Ended| {
        (
            ended.code,
            seen(&ended.stdout),
            seen(ended.stderr.as_bytes()),
        )
    };
    assert_eq!(text(&kvm), text(&process), "{program} {args:?}");
}

/// What is written, each run of blanks as one.
fn seen(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.join(" ") + "\n"
    });
    lines.collect()
}

/// As [`seen`], with a sign for each number, but for the digest: the others are times
/// and ports.
fn without_numbers(bytes: &[u8]) -> String {
    let text = seen(bytes);
    let lines = text.lines().map(|line| {
        if line.contains("sha-256") {
            let digest = line
                .split_once("sha-256")
                .map_or(line, |(_, digest)| digest);
            return format!("sha-256{digest}\n");
        }
        let mut shown = String::new();
        for c in line.chars() {
            match c {
                '0'..='9' if shown.ends_with('#') => {}
                '0'..='9' => shown.push('#'),
                c => shown.push(c),
            }
        }
        // Milliseconds have a point, microseconds do not.
        shown.replace("#.#", "#").replace(" ms", " µs") + "\n"
    });
    lines.collect()
}

#[test]
fn transcripts_and_exit_codes() {
    assert_same("hello", &[]);
    assert_same("hello", &["one", "two"]);
    assert_same("print", &["100000"]);
    assert_same("oracle", &[]);
    assert_same("http-get", &["http://127.0.0.1:1/"]);
}

#[test]
fn the_main_jobs_transcript() {
    let _ = image("demo");
    let run = || {
        let mut command = Command::new(xtask());
        command.arg("run");
        command
    };
    if let Some([kvm, process]) = on_platforms(run) {
        kvm.expect_code(0);
        process.expect_code(0);
        let [kvm, process] = [kvm, process].map(|ended| without_numbers(&ended.stdout));
        assert_eq!(kvm, process);
    }
}

#[test]
fn crash_reports() {
    for kind in [
        "null-read",
        "null-write",
        "stack-overflow",
        "write-text",
        "run-data",
        "panic",
        "divide-by-zero",
        "ud2",
        "heap",
    ] {
        assert_same("crash", &[kind]);
    }
}
