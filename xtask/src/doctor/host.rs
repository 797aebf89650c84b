//! What a developer's machine has: an emulator, a toolchain, limits, memory.

use super::{Lack, lack};
use nix::sys::resource::{Resource, getrlimit};
use std::fs;
use std::process::Command;

/// The oldest Rust that builds the workspace.
const RUST: &str = env!("CARGO_PKG_RUST_VERSION");
/// Open files for the largest test: a thousand connections in and a thousand out,
/// of which both ends are this machine's.
const FILES: u64 = 4_200;
/// Memory for a build and a guest, in MiB.
const MEMORY: u64 = 1024;

/// The emulator of `--qemu`.
pub fn qemu() -> Result<String, Lack> {
    match first_line("qemu-system-x86_64", "--version") {
        Some(version) => Ok(format!("{version}, for --qemu")),
        None => Err(lack(
            "qemu-system-x86_64 is not installed, without which there is no --qemu",
            "install it: `sudo apt-get install qemu-system-x86`",
        )),
    }
}

/// The compiler.
pub fn toolchain() -> Result<String, Lack> {
    let Some(version) = first_line("rustc", "--version") else {
        return Err(lack(
            "there is no rustc on the path",
            "install Rust: `curl --proto =https -sSf https://sh.rustup.rs | sh`",
        ));
    };
    match new_enough(&version) {
        true => Ok(format!("{version}; {RUST} is needed")),
        false => Err(lack(
            format!("{version} is too old; {RUST} is needed"),
            "get a newer one: `rustup update stable`",
        )),
    }
}

/// Whether a line such as `rustc 1.88.0 (…)` names a version that will do.
fn new_enough(line: &str) -> bool {
    let numbers = |version: &str| -> Vec<u32> {
        let version = version.split('-').next().unwrap_or_default();
        version.split('.').flat_map(str::parse).collect()
    };
    let version = line.split_whitespace().nth(1).unwrap_or_default();
    numbers(version) >= numbers(RUST)
}

/// Limits of this process.
pub fn limits() -> Result<String, Lack> {
    let limit = |resource| getrlimit(resource).map(|(_, hard)| hard);
    let files = limit(Resource::RLIMIT_NOFILE).unwrap_or(0);
    let space = limit(Resource::RLIMIT_AS).unwrap_or(u64::MAX);
    if space != u64::MAX {
        return Err(lack(
            format!(
                "address space is limited to {} MiB, and guests reserve much",
                space >> 20
            ),
            "lift it: `ulimit -v unlimited`, as root where that is refused",
        ));
    }
    match files >= FILES {
        true => Ok(format!(
            "{files} open files; {FILES} are needed by the largest test"
        )),
        false => Err(lack(
            format!(
                "{files} open files are allowed; the largest test needs {FILES} and is skipped"
            ),
            format!("allow more: `sudo prlimit --pid $$ --nofile={}`", 1 << 20),
        )),
    }
}

/// Memory that could be had.
pub fn memory() -> Result<String, Lack> {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    enough(&text)
}

fn enough(meminfo: &str) -> Result<String, Lack> {
    let mib = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        number.map(|kib| kib >> 10)
    };
    let (Some(free), Some(all)) = (mib("MemAvailable"), mib("MemTotal")) else {
        return Ok("how much is free is not to be seen".into());
    };
    let text = format!("{free} of {all} MiB are free");
    match free >= MEMORY {
        true => Ok(text),
        false => Err(lack(
            format!("{text}; a build and a guest want {MEMORY}"),
            "end other programs, or build with `CARGO_BUILD_JOBS=1`",
        )),
    }
}

/// The first line that a program prints; none where there is no such program.
fn first_line(program: &str, arg: &str) -> Option<String> {
    let output = Command::new(program).arg(arg).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for line in [
            "rustc 1.88.0 (6b00bc388 2025-06-23)",
            "rustc 1.100.0-nightly",
            "rustc 2.0",
        ] {
            assert!(new_enough(line), "{line}");
        }
        for line in ["rustc 1.87.0", "rustc 1.9.0", "rustc", ""] {
            assert!(!new_enough(line), "{line}");
        }
    }

    #[test]
    fn free_memory_is_what_could_be_had() {
        let text = |free| format!("MemTotal:  4194304 kB\nMemAvailable: {free} kB\n");
        assert_eq!(
            enough(&text(2 << 20)).expect("enough"),
            "2048 of 4096 MiB are free"
        );
        let lack = enough(&text(1000)).expect_err("too little");
        assert!(lack.why.contains("0 of 4096 MiB"), "{}", lack.why);
        assert!(enough("").is_ok());
    }
}
