//! What this process holds.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs;

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
