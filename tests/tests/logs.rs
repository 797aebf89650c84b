//! RUST_LOG filters the logs of host and guest by target.

use arca_tests::guest::{Ended, Guest, image, vmm};
use std::process::{Command, Stdio};

const GUESTS: &str = "echo_server] listening on";
const MONITORS: &str = "is narrowed to";

/// Runs an echo server that listens where its policy narrows it, which the monitor logs,
/// and says so in its own log.
fn run(options: &[&str], filters: &str) -> Ended {
    let mut command = Command::new(vmm());
    command
        .args(options)
        .args(["--timeout", "300ms"])
        .arg(image("echo-server"))
        .args(["0", "0.0.0.0"])
        .env("RUST_LOG", filters)
        .stdin(Stdio::null());
    let ended = Guest::spawn(command).finish();
    ended.expect_code(124);
    ended
}

#[test]
fn by_target() {
    // Whether the guest's record is printed, and the monitor's.
    for (options, filters, wanted) in [
        (&[][..], "", (true, true)),
        (&[], "echo_server=warn", (false, true)),
        (&[], "off,echo_server=info", (true, false)),
        (&["--log", "off"], "echo_server", (true, false)),
        (&["--log", "off"], "arca_monitor=trace", (false, true)),
        (&[], "error", (false, false)),
    ] {
        let ended = run(options, filters);
        let said = [GUESTS, MONITORS].map(|record| ended.stderr.contains(record));
        assert_eq!(
            said,
            <[bool; 2]>::from(wanted),
            "{options:?} {filters:?}:\n{}",
            ended.stderr
        );
    }
}
