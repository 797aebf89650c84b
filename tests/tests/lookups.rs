//! Names that nobody answers: what they cost the process, and others.

use arca_tests::local::LocalGuest;
use arca_tests::process::{descriptors, expect_descriptors};
use arca_tests::skip;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::thread;

/// Threads that resolve names, in all of this process.
fn resolvers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("a list of threads");
    let name = |entry: std::io::Result<fs::DirEntry>| {
        fs::read_to_string(entry.ok()?.path().join("comm")).ok()
    };
    let names = tasks.filter_map(name);
    names
        .filter(|name| name.starts_with("arca-resolver"))
        .count()
}

/// Makes this thread, and those that it starts, ask that name server.
fn ask_only(folder: &Path, server: &str) -> nix::Result<()> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let file = folder.join("resolv.conf");
    let content = format!("nameserver {server}\noptions timeout:5 attempts:1\n");
    fs::write(&file, content).expect("a temporary file");
    mount(
        Some(&file),
        "/etc/resolv.conf",
        none,
        MsFlags::MS_BIND,
        none,
    )
}

/// Sessions that end while they wait for a name server that never answers.
#[test]
fn sessions_that_end_with_names_unanswered_leave_little_behind() {
    const SESSIONS: usize = 100;
    let server = "127.0.0.66";
    let folder = tempfile::tempdir().expect("a temporary folder");
    let prepared = UdpSocket::bind((server, 53));
    let path = folder.path().to_owned();
    let test = thread::spawn(move || {
        let silent = match (prepared, ask_only(&path, server)) {
            (Ok(silent), Ok(())) => silent,
            other => return skip(&format!("no name server of the test's own: {other:?}")),
        };
        let before = descriptors();
        for session in 0..SESSIONS {
            let url = format!("http://dead-{session}.arca.test/");
            let guest = LocalGuest::start_with("http-get", &[&url], |config| {
                config.sandbox = true;
            });
            // Its hello, and the name.
            guest.wait_until("asked for a name", |stats| stats.monitor.frames_in >= 2);
            guest.stop();
            assert!(
                resolvers() <= 16,
                "{} after {session} sessions",
                resolvers()
            );
        }
        // Each name that is being asked for has a socket, and nothing else has.
        let open = descriptors();
        assert!(open <= before + 2 * 16, "{open}, and {before} before");
        drop(silent);
        expect_descriptors(before - 1);
    });
    if let Err(panic) = test.join() {
        std::panic::resume_unwind(panic);
    }
}
