//! `cargo xtask run`: the main job, as a user starts it.

use arca_tests::guest::{Guest, image, xtask};
use std::process::{Command, Stdio};

#[test]
fn run_without_a_program_does_the_main_job() {
    let _ = image("demo");
    let mut command = Command::new(xtask());
    command.arg("run").stdin(Stdio::null());
    let ended = Guest::spawn(command).finish();
    ended.expect_code(0);
    let transcript = String::from_utf8(ended.stdout).expect("text");
    // Each step with what moved; the host's digest was compared by the guest.
    for step in ["connect", "greet", "8388608", "sha-256", "listen", "accept"] {
        assert!(transcript.contains(step), "no {step:?} in:\n{transcript}");
    }
}

#[test]
fn no_such_program_is_one_line_that_names_those_there_are() {
    let mut command = Command::new(xtask());
    command
        .args(["run", "no-such-program"])
        .stdin(Stdio::null());
    let ended = Guest::spawn(command).finish();
    ended.expect_code(125).expect_stderr("http-get");
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert_eq!(ended.stdout, b"");
}
