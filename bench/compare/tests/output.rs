//! Where the results go.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

#[test]
fn results_that_nobody_takes_are_an_error_in_a_line() {
    let full = OpenOptions::new().write(true).open("/dev/full");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    for (to, why) in [
        (
            Stdio::from(full.expect("a device")),
            "No space left on device",
        ),
        (Stdio::from(writer), "Broken pipe"),
    ] {
        let mut bench = Command::new(env!("CARGO_BIN_EXE_arca-compare"));
        // It gets no further than the machine's description.
        bench.args(["--image", "/nonexistent", "rtt"]).stdout(to);
        let output = bench.stderr(Stdio::piped()).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("cannot write the results"), "{said}");
        assert!(said.contains(why), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}
