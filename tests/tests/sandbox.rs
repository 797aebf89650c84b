//! The threads that serve a guest have given up what they do not need; one option
//! leaves them as they were.

use arca_tests::guest::{Guest, deadline};
use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

/// Of each thread, by name: its seccomp mode, and whether it may gain rights.
fn threads(pid: u32) -> BTreeMap<String, (String, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    let mut threads = BTreeMap::new();
    for task in tasks.flatten() {
        // One that has ended meanwhile is none of those looked for.
        let Ok(status) = fs::read_to_string(task.path().join("status")) else {
            continue;
        };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        let rights = (field("Seccomp:"), field("NoNewPrivs:"));
        threads.insert(field("Name:"), rights);
    }
    threads
}

/// The seccomp mode with a filter; none is 0.
const FILTERED: &str = "2";

#[test]
fn the_threads_of_a_guest_are_confined() {
    for (options, filtered) in [(&[][..], true), (&["--no-sandbox"], false)] {
        let mut guest = Guest::start(options, "echo-server", &["0"]);
        guest.address();
        let names = ["vcpu", "monitor", "stdout", "log"];
        // A thread that ends while the folder is read can hide another. And a guest in a
        // process may run before the vCPU's thread has given up what it does not need to
        // serve it.
        let end = Instant::now() + deadline();
        let threads = loop {
            let threads = threads(guest.child().id());
            let seen = |name| threads.get(name);
            let done = |(seccomp, _): &(String, String)| !filtered || seccomp == FILTERED;
            if names.iter().all(|name| seen(*name).is_some_and(done)) || Instant::now() > end {
                break threads;
            }
        };
        for name in names {
            let found = threads.get(name);
            let (seccomp, no_new) = found.unwrap_or_else(|| panic!("{name}: {threads:?}"));
            assert_eq!(seccomp == FILTERED, filtered, "{name}: {threads:?}");
            assert_eq!(no_new == "1", filtered, "{name}: {threads:?}");
        }
    }
}
