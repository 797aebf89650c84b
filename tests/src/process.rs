//! What this process holds.

use crate::guest::deadline;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Descriptors that are open.
///
/// # Panics
///
/// If the kernel does not tell.
#[must_use]
pub fn descriptors() -> usize {
    let entries = fs::read_dir("/proc/self/fd").expect("a list of descriptors");
    // One of them is the list's own.
    entries.count() - 1
}

/// Waits until so many descriptors are open: threads that are about to end may
/// hold some.
///
/// # Panics
///
/// If it is another number by the deadline.
#[track_caller]
pub fn expect_descriptors(wanted: usize) {
    let end = Instant::now() + deadline();
    while descriptors() != wanted {
        let open = descriptors();
        assert!(Instant::now() < end, "{open} descriptors, not {wanted}");
        thread::park_timeout(Duration::from_millis(2));
    }
}

/// Threads that run.
///
/// # Panics
///
/// If the kernel does not tell.
#[must_use]
pub fn threads() -> usize {
    let entries = fs::read_dir("/proc/self/task").expect("a list of threads");
    entries.count()
}

/// Memory in use, in bytes.
///
/// # Panics
///
/// If the kernel does not tell.
#[must_use]
pub fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.expect("a number of kB") << 10
}

/// Lets this process have as many descriptors as it may, and says how many.
///
/// # Panics
///
/// If the kernel does not.
#[must_use]
pub fn raise_descriptors() -> u64 {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("no more than allowed");
    hard
}

/// Puts a copy of a program there, ready to be run. Another process writes it: a child that
/// another test has just forked holds what this process has open for writing until it has become
/// another program, and the kernel runs no such file (ETXTBSY in execve(2)).
///
/// # Panics
///
/// If it cannot be written.
pub fn install(program: &Path, to: &Path) {
    let mut command = Command::new("install");
    let status = command.arg("--mode=755").args([program, to]).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "{}",
        to.display()
    );
}
