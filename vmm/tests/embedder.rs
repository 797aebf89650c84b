//! A program that has the VMM as a library, and gives up root once its guests are made:
//! it can end them and is their end, without a right to signal what root started. Each case is in
//! a process of its own, this program again.

#[path = "../src/testimage.rs"]
#[allow(dead_code)]
mod testimage;

use arca_vmm::{Image, Platform, Vm, VmConfig};
use nix::unistd::{Uid, getuid, setresuid};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};
use testimage::ImageBuilder;

/// The variable that says which case this process is.
const CASE: &str = "ARCA_EMBEDDER";
/// Whoever has no rights.
const NOBODY: u32 = 65_534;
/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

fn spinning(timeout: Option<Duration>) -> Vm {
    let image = ImageBuilder::new(&[0xeb, 0xfe]).build();
    let config = VmConfig {
        platform: Platform::Process,
        timeout,
        ..VmConfig::new(Image::Bytes(image.into()), "test")
    };
    Vm::new(config).expect("starts")
}

/// The processes that threads of this one have started.
fn children(process: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("it lives");
    let lists = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .flat_map(str::parse)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Whether a process is there, and has not just ended.
fn lives(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").starts_with(" Z"))
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "waited too long until {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Not a test of its own: what the process of a case does.
#[test]
fn the_case() {
    let Ok(case) = env::var(CASE) else {
        return;
    };
    let vm = spinning((case == "run").then_some(Duration::from_millis(20)));
    let guests = children(std::process::id());
    let nobody = Uid::from_raw(NOBODY);
    setresuid(nobody, nobody, nobody).expect("root may");
    println!("\nguest {}", guests[0]);
    match &*case {
        "drop" => drop(vm),
        "run" => assert_eq!(vm.run().code(), 124),
        _ => drop(vm.run()),
    }
}

/// The process of a case, once it has a guest and is root no more, and the guest's
/// process. Nothing where this one is not root.
fn start(case: &str) -> Option<(Child, u32)> {
    if !getuid().is_root() {
        println!("skipped: only root can give up root");
        return None;
    }
    let this = env::current_exe().expect("a path");
    let mut child = Command::new(this)
        .args(["--exact", "the_case", "--nocapture"])
        .env(CASE, case)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let guest = lines.find_map(|line| line.expect("text").strip_prefix("guest ")?.parse().ok());
    // What it says further nobody reads, and it is not to fail for that.
    thread::spawn(|| lines.count());
    Some((child, guest.expect("it has one")))
}

/// A case that ends by itself, and leaves no process behind.
fn ends(case: &str) {
    let Some((mut child, guest)) = start(case) else {
        return;
    };
    let mut status = None;
    wait_until("it ends", || {
        status = child.try_wait().expect("a child of this process");
        status.is_some()
    });
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    assert!(!lives(guest), "the guest's process is still there");
}

#[test]
fn a_guest_that_never_ran_is_ended_without_rights() {
    ends("drop");
}

#[test]
fn a_guest_whose_time_is_up_is_ended_without_rights() {
    ends("run");
}

#[test]
fn a_killed_embedder_without_rights_takes_its_guest_with_it() {
    let Some((mut child, guest)) = start("for ever") else {
        return;
    };
    assert!(lives(guest));
    child.kill().expect("root may");
    child.wait().expect("a child of this process");
    wait_until("the guest's process is gone", || !lives(guest));
}
