//! What the end-to-end tests share.
//!
//! | module | holds |
//! |---|---|
//! | [`guest`] | a guest in a process of its own, as a user runs it |
//! | [`local`] | a guest in the test's process, for what only the library tells |
//! | [`talk`] | such a guest that is talked to by lines |
//! | [`oracle`] | scripts of socket operations, run natively and in a guest |
//! | [`records`] | what was logged in the test's process |
//! | [`process`] | what this process holds: descriptors, memory |
//! | [`data`] | bytes to send, and digests of what came |
//! | [`redis`] | a Redis server |
//! | [`service`] | other TCP services of the host |
//! | [`unread`] | a peer that does not read |
//! | [`web`] | an HTTP server |
//!
//! Every wait has a deadline, and a test that fails prints what the guest logged.

use arca_vmm::Platform;
use arca_vmm::cli::PLATFORM;
use std::env;

pub mod data;
pub mod guest;
pub mod local;
pub mod oracle;
pub mod process;
pub mod records;
pub mod redis;
pub mod service;
pub mod talk;
pub mod unread;
pub mod web;

/// Says that a test could not be done here, and why. `cargo xtask test` counts
/// what was skipped.
pub fn skip(reason: &str) {
    println!("skipped: {reason}");
    xtask::test::record_skip(reason);
}

/// The platform that the tests are run for: the one that ARCA_PLATFORM names, which
/// the commands that a test starts read too, or what they choose without it.
///
/// # Panics
///
/// If it names none.
#[must_use]
pub fn platform() -> Platform {
    let named = env::var(PLATFORM).map(|name| name.parse().expect("the name of a platform"));
    let named: Platform = named.unwrap_or_default();
    named.resolve()
}

/// Whether there is a command of that name here. If not, the test that asks counts as
/// skipped.
#[must_use]
pub fn has(command: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|folder| folder.join(command).is_file());
    if !found {
        skip(&format!("{command} is missing"));
    }
    found
}
