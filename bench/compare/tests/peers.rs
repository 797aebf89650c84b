//! `--peers` where a peer hangs, or is not there: the others are measured, and the
//! table says which one failed and why.
//!
//! There is no image, so that the guest fails, too: nothing here needs a VM.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An empty folder.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Measures `rtt` with commands from that folder alone. Gives standard output, and the
/// first row of the results.
fn measure(folder: &Path) -> (String, Value) {
    let json = folder.join("rows.json");
    let output = Command::new(env!("CARGO_BIN_EXE_arca-compare"))
        .args(["--peers", "--quick", "--pairs=1", "--patience=10", "rtt"])
        .arg("--image=/nonexistent")
        .arg("--json")
        .arg(&json)
        .env("PATH", folder)
        .output()
        .expect("it runs");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stdout}{stderr}");
    assert!(stderr.contains("not measured: rtt"), "{stderr}");
    let text = fs::read_to_string(&json).expect("results");
    let mut rows: Value = serde_json::from_str(&text).expect("JSON");
    (stdout, rows[0].take())
}

fn cell<'a>(row: &'a Value, party: &str) -> &'a Value {
    let mut cells = row["cells"].as_array().expect("a list").iter();
    let found = cells.find(|cell| cell["party"] == party);
    found.unwrap_or_else(|| panic!("no {party} in {row}"))
}

#[track_caller]
fn assert_measured(row: &Value, party: &str) {
    let cell = cell(row, party);
    assert_eq!(cell["state"], "measured", "{cell}");
    assert!(
        cell["median"].as_f64().is_some_and(|median| median > 0.0),
        "{cell}"
    );
}

#[track_caller]
fn assert_failed(row: &Value, party: &str, reason: &str) {
    let cell = cell(row, party);
    assert_eq!(cell["state"], "failed", "{cell}");
    let failure = cell["failures"][0].as_str().unwrap_or_default();
    assert!(failure.contains(reason), "{cell}");
}

#[test]
fn a_peer_that_hangs_has_failed_and_the_others_are_measured() {
    let folder = folder("hangs");
    let pasta = folder.join("pasta");
    let text = folder.join("pasta.sh");
    fs::write(&text, "#!/bin/sh\nexec /bin/sleep 1000\n").expect("written");
    // By another process: of this one, a child of the other test may have it open for writing
    // just when it is to be run.
    let mut install = Command::new("install");
    let status = install.arg("--mode=755").args([&text, &pasta]).status();
    assert!(status.is_ok_and(|status| status.success()));
    let (stdout, row) = measure(&folder);
    assert_failed(&row, "pasta", "no answer within 10s");
    assert_failed(&row, "guest", "Guest ended");
    assert_measured(&row, "native");
    assert_measured(&row, "relay");
    assert!(
        stdout.contains("pasta: failed in 1 of 1 rounds"),
        "{stdout}"
    );
}

#[test]
fn a_peer_that_is_not_installed_is_named() {
    let (stdout, row) = measure(&folder("missing"));
    assert_eq!(cell(&row, "pasta")["state"], "missing", "{row}");
    assert_measured(&row, "native");
    assert_measured(&row, "relay");
    assert!(stdout.contains("pasta is not installed"), "{stdout}");
}
