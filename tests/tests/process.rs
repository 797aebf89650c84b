//! The process in which a guest runs where there is no KVM: what it may still do, and
//! that it lives and dies with the VMM.

use arca_tests::guest::{Guest, deadline, image, vmm};
use arca_tests::skip;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PROCESS: [&str; 2] = ["--platform", "process"];

/// Waits until `look` gives something.
#[track_caller]
fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited too long for {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// The process of a guest that spins, with its VMM's.
fn spinning() -> (Guest, Pid) {
    let mut guest = Guest::start(&PROCESS, "crash", &["spin"]);
    let vmm = guest.child().id();
    let child = wait("the guest's process", || {
        let threads = fs::read_dir(format!("/proc/{vmm}/task")).ok()?;
        threads.flatten().find_map(|thread| {
            let children = fs::read_to_string(thread.path().join("children")).ok()?;
            children.split_whitespace().next()?.parse::<i32>().ok()
        })
    });
    // It runs the guest once it has a filter.
    wait("its filter", || {
        let status = fs::read_to_string(format!("/proc/{child}/status")).ok()?;
        status.contains("Seccomp:\t2").then_some(())
    });
    (guest, Pid::from_raw(child))
}

/// Whether a process is there, and has not just ended.
fn lives(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").starts_with(" Z"))
}

#[test]
fn a_killed_guest_is_noticed() {
    let (guest, child) = spinning();
    kill(child, Signal::SIGKILL).expect("it is there");
    let ended = guest.finish();
    ended.expect_code(125).expect_stderr("killed by SIGKILL");
    // The program may have said something by then.
    let lines = ended.stderr.lines();
    let ours = lines.filter(|line| line.starts_with("arca: ")).count();
    assert_eq!(ours, 1, "{}", ended.stderr);
}

#[test]
fn a_killed_vmm_takes_the_guest_with_it() {
    let (guest, child) = spinning();
    guest.signal(Signal::SIGKILL);
    assert_eq!(guest.finish().code, None);
    wait("the guest's end", || (!lives(child)).then_some(()));
}

#[test]
fn an_interrupted_vmm_leaves_nothing_behind() {
    let (guest, child) = spinning();
    // Before that the VMM ends at once, and the kernel ends the child after it.
    guest.wait_for("about to end by spin");
    guest.signal(Signal::SIGTERM);
    guest.finish().expect_code(143);
    assert!(!lives(child), "the guest's process is still there");
}

#[test]
fn what_a_terminal_sends_to_all_is_the_vmms_to_answer() {
    let (guest, child) = spinning();
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGUSR1,
    ] {
        kill(child, signal).expect("it is there");
    }
    guest.signal(Signal::SIGTERM);
    guest.finish().expect_code(143);
}

#[test]
fn a_guest_has_two_descriptors_and_no_memory_of_the_vmms() {
    let (guest, child) = spinning();
    let descriptors = fs::read_dir(format!("/proc/{child}/fd")).expect("a list of them");
    let open: Vec<_> = descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .collect();
    assert_eq!(open.len(), 2, "{open:?}");
    for kind in ["eventfd", "pipe:"] {
        let mut names = open.iter().map(|name| name.to_string_lossy());
        assert!(names.any(|name| name.contains(kind)), "{open:?}");
    }
    let maps = fs::read_to_string(format!("/proc/{child}/maps")).expect("a list of them");
    for line in maps.lines() {
        let ours = ["memfd:arca-memory", "memfd:arca-stub"];
        let named = ours.iter().any(|name| line.contains(name));
        // The stub's memory that is no part of its file, and a page for all processes.
        let stub = line.starts_with("6000000") || line.contains("[vsyscall]");
        assert!(named || stub, "{line}\n{maps}");
        let mut fields = line.split_whitespace();
        let rights = fields.nth(1).unwrap_or("");
        assert!(!rights.starts_with("rwx"), "{line}");
    }
    guest.signal(Signal::SIGTERM);
    guest.finish().expect_code(143);
}

/// The calls of `arca_stub::filter`.
const LEFT: [&str; 6] = [
    "futex",
    "sched_yield",
    "write",
    "rt_sigreturn",
    "restart_syscall",
    "exit_group",
];

#[test]
fn after_its_filter_the_child_makes_no_other_call() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let trace = folder.path().join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(&trace).arg(vmm());
    command.args(PROCESS).args(["--vcpus", "2"]);
    command
        .arg(image("print"))
        .arg("1048576")
        .stdin(Stdio::null());
    if Command::new("strace").arg("-V").output().is_err() {
        return skip("no strace here");
    }
    let ended = Guest::spawn(command).finish();
    if ended.stderr.contains("Operation not permitted") {
        return skip("strace may not trace here");
    }
    ended.expect_code(0);
    let trace = fs::read_to_string(&trace).expect("a trace");
    // The one who sets a filter for all its threads is the child, the first time; the VMM
    // asks whether that can be done, with none.
    let filters = |line: &&str| {
        line.contains("seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC")
            && !line.contains("NULL")
    };
    let filter = trace
        .lines()
        .position(|line| filters(&line))
        .expect("a filter");
    let child = trace
        .lines()
        .nth(filter)
        .and_then(|line| line.split(' ').next());
    let child = child.expect("a process").to_owned();
    let mut threads = BTreeSet::from([child.clone()]);
    let mut calls = BTreeSet::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        // In two pieces, if the new thread's first call comes between.
        let made = rest.starts_with("clone(") || rest.starts_with("<... clone resumed");
        if threads.contains(thread) && number <= filter && made {
            let made = rest.rsplit("= ").next().unwrap_or("").trim();
            threads.extend(made.parse::<u32>().ok().map(|made| made.to_string()));
        }
        if threads.contains(thread)
            && number > filter
            && rest.starts_with(|c: char| c.is_ascii_lowercase())
        {
            calls.extend(rest.split_once('(').map(|(name, _)| name.to_owned()));
        }
    }
    assert_eq!(threads.len(), 2, "{threads:?}");
    assert!(
        calls.contains("futex") && calls.contains("write"),
        "{calls:?}"
    );
    let others: Vec<_> = calls
        .iter()
        .filter(|name| !LEFT.contains(&name.as_str()))
        .collect();
    assert!(others.is_empty(), "{others:?}");
}
