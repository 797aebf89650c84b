//! The command: its exit codes and what it says.

#[path = "../src/testimage.rs"]
#[allow(dead_code)]
mod testimage;

use arca_shared::protocol::register::{NO_DEADLINE, Register};
use arca_vmm::Platform;
use arca_vmm::cli::PLATFORM;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;
use testimage::ImageBuilder;

fn image(code: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("file");
    file.write_all(&ImageBuilder::new(code).build())
        .expect("written");
    file
}

/// mov rax, value; movabs [register], rax
fn write(register: Register, value: u64) -> Vec<u8> {
    let mut code = vec![0x48, 0xb8];
    code.extend(value.to_le_bytes());
    code.extend([0x48, 0xa3]);
    code.extend(register.address().to_le_bytes());
    code
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arca-vmm"));
    command.args(args).stdin(Stdio::null());
    // Without the notice that it is a process where KVM cannot be used.
    if std::env::var_os(PLATFORM).is_none() {
        command.env(PLATFORM, Platform::Auto.resolve().name());
    }
    command
}

fn run(args: &[&str]) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command(args).output().expect("runs");
    assert!(stdout.is_empty(), "{stdout:?}");
    (status.code(), String::from_utf8(stderr).expect("text"))
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().expect("text")
}

#[test]
fn the_programs_exit_code_is_the_commands() {
    let exits = image(&write(Register::Exit, 7));
    assert_eq!(run(&[path(&exits)]), (Some(7), String::new()));
    // Options come before the image; what follows is the program's.
    let all = ["--vcpus", "2", path(&exits), "--vcpus", "0", "--", "-x"];
    assert_eq!(run(&all), (Some(7), String::new()));
}

#[test]
fn a_crash_is_reported() {
    let crashes = image(&[0x0f, 0x0b]);
    let (code, text) = run(&[path(&crashes)]);
    assert_eq!(code, Some(101));
    assert!(
        text.starts_with("arca: guest crashed on vCPU 0: invalid opcode\n"),
        "{text}"
    );
}

#[test]
fn what_cannot_start_is_one_line() {
    let garbage = {
        let mut file = NamedTempFile::new().expect("file");
        file.write_all(b"garbage").expect("written");
        file
    };
    let exits = image(&write(Register::Exit, 7));
    let arguments = "x".repeat(100 << 10);
    let mut long = vec![path(&exits)];
    long.extend([&arguments[..]; 6]);
    for (args, says) in [
        (&["/no/such/image"][..], "no such image"),
        (&[path(&garbage)], "not a 64-bit x86 ELF file"),
        (
            &["--memory", "1M", path(&exits)],
            "low memory of 1048576 bytes",
        ),
        (&["--vcpus", "99", path(&exits)], "99 vCPUs"),
        (&long, "arguments take"),
    ] {
        let (code, text) = run(args);
        assert_eq!(code, Some(125), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn time_runs_out() {
    let spins = image(&[0xeb, 0xfe]);
    let (code, text) = run(&["--timeout", "50ms", path(&spins)]);
    assert_eq!(code, Some(124), "{text}");
}

/// Starts a guest that never ends, with input that never comes.
fn start(spins: &NamedTempFile) -> Child {
    let child = command(&[path(spins)])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    // Until it has taken its signals over; one before that would simply kill.
    let status = format!("/proc/{}/status", child.id());
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let caught = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:\t"))
            .and_then(|mask| u64::from_str_radix(mask, 16).ok());
        // SIGINT is 2, SIGTERM is 15; the lowest bit is signal 1.
        if caught.is_some_and(|mask| mask & 0x4002 == 0x4002) {
            break;
        }
        assert!(Instant::now() < deadline, "never takes its signals over");
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

#[test]
fn signals_stop_it() {
    let sleeps = image(&[write(Register::Park, NO_DEADLINE), vec![0xeb, 0xfe]].concat());
    for spins in [image(&[0xeb, 0xfe]), sleeps] {
        for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
            let child = start(&spins);
            let pid = Pid::from_raw(child.id().try_into().expect("small"));
            kill(pid, signal).expect("sent");
            let ended = child.wait_with_output().expect("ends");
            let text = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(ended.status.code(), Some(code), "{text}");
        }
    }
}
