//! Standard streams: nothing that a guest wrote is lost.

use arca_tests::data::assert_same;
use arca_tests::guest::{Guest, image, vmm};
use arca_tests::platform;
use arca_vmm::Platform;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What `print 1048576` prints.
fn expected() -> Vec<u8> {
    let ended = Guest::start(&[], "print", &["1048576"]).finish();
    ended.expect_code(0);
    assert_eq!(ended.stdout.len(), 1 << 20);
    ended.stdout
}

fn print() -> Command {
    let mut command = Command::new(vmm());
    command
        .arg(image("print"))
        .arg("1048576")
        .stdin(Stdio::null());
    command
}

#[test]
fn a_guest_that_prints_and_exits_loses_nothing_to_a_file() {
    let mut file = tempfile::tempfile().expect("a temporary file");
    let copy: File = file.try_clone().expect("a second handle");
    Guest::spawn_to(print(), copy.into())
        .finish()
        .expect_code(0);
    let mut bytes = Vec::new();
    file.rewind().expect("a regular file");
    file.read_to_end(&mut bytes).expect("a regular file");
    assert_same(&bytes, &expected());
}

#[test]
fn nor_to_a_slow_reader() {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let guest = Guest::spawn_to(print(), writer.into());
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        // A reader that is slower than the guest, by about the time given.
        thread::park_timeout(Duration::from_millis(1));
        match reader.read(&mut piece).expect("a pipe") {
            0 => break,
            len => bytes.extend(&piece[..len]),
        }
    }
    guest.finish().expect_code(0);
    assert_same(&bytes, &expected());
}

/// Starts `print` with these arguments, its standard output being `stdout`.
fn print_to(args: &[&str], stdout: Stdio) -> Guest {
    let mut command = Command::new(vmm());
    command.arg(image("print")).args(args).stdin(Stdio::null());
    Guest::spawn_to(command, stdout)
}

/// The first bytes of what `print` prints.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// Takes `piece` bytes every tenth of a second for as long as `slow`, then what
/// there is, to the end.
fn read_slowly(mut reader: impl Read, piece: usize, slow: Duration) -> Vec<u8> {
    let began = Instant::now();
    let mut bytes = Vec::new();
    let mut buffer = vec![0; piece];
    while began.elapsed() < slow {
        thread::park_timeout(Duration::from_millis(100));
        match reader.read(&mut buffer).expect("a pipe") {
            0 => return bytes,
            len => bytes.extend(&buffer[..len]),
        }
    }
    reader.read_to_end(&mut bytes).expect("a pipe");
    bytes
}

#[test]
fn a_reader_that_takes_a_little_now_and_then_gets_all_of_it() {
    // The guest has ended long before: a pipe's 64 KiB, as much again in hand and
    // the rest in the ring. The second takes less than a page while a stalled
    // reader would be given up on.
    for piece in [800, 40] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let guest = print_to(&["190000", "exit"], writer.into());
        let bytes = read_slowly(reader, piece, Duration::from_secs(8));
        assert_same(&bytes, &pattern(190_000));
        guest.finish().expect_code(0);
    }
}

#[test]
fn output_that_nobody_takes_is_named_and_is_not_a_success() {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let ended = print_to(&["100000", "exit"], writer.into()).finish();
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("a pipe");
    assert_same(&bytes, &pattern(bytes.len()));
    let lost = format!("{} bytes of standard output", 100_000 - bytes.len());
    ended.expect_code(74).expect_stderr(&lost);
}

#[test]
fn a_closed_output_kills_nothing_else() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    // The guest sees the closed stream, and ends as it likes: not by a signal.
    let ended = Guest::spawn_to(print(), writer.into()).finish();
    ended.expect_code(1).expect_stderr("broken pipe");
}

/// Starts a guest of `program` by a shell, of which `"$@"` is the command.
fn by_shell(script: &str, program: &str, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]);
    command.arg(vmm()).arg(image(program)).args(args);
    command.stdin(Stdio::null());
    command
}

#[test]
fn a_full_disk_is_the_programs_error_however_little_it_writes() {
    for bytes in ["1", "1000", "100000", "1048576"] {
        let ended = Guest::spawn(by_shell("exec \"$@\" > /dev/full", "print", &[bytes])).finish();
        ended.expect_code(1).expect_stderr("no space left");
    }
    let mut command = by_shell("exec \"$@\" > /dev/full", "cat", &[]);
    command.stdin(File::open(image("hello")).expect("built"));
    let ended = Guest::spawn(command).finish();
    ended.expect_code(1).expect_stderr("no space left");
}

#[test]
fn a_full_disk_that_the_program_does_not_ask_about_is_no_success() {
    let ended = Guest::spawn(by_shell("exec \"$@\" > /dev/full", "hello", &[])).finish();
    ended.expect_code(74).expect_stderr("No space left");
    // A code of the program's own stays.
    let script = "exec \"$@\" > /dev/full";
    let ended = Guest::spawn(by_shell(script, "crash", &["null-read"])).finish();
    ended.expect_code(101);
}

#[test]
fn a_code_of_the_programs_own_stays_whatever_is_lost() {
    // So few that there is no end of a line among them: all come at once.
    let ended = Guest::spawn(by_shell("exec \"$@\" > /dev/full", "print", &["10"])).finish();
    let lost = "10 bytes of standard output could not be delivered";
    ended.expect_code(1).expect_stderr(lost);
}

#[test]
fn an_output_that_was_closed_from_the_start_is_an_error() {
    let ended = Guest::spawn(by_shell("exec \"$@\" >&-", "print", &["1000"])).finish();
    ended.expect_code(1).expect_stderr("bad descriptor");
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_no_signal() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let script = format!("ulimit -f 8; exec \"$@\" > {}", file.path().display());
    let ended = Guest::spawn(by_shell(&script, "print", &["100000"])).finish();
    if platform() == Platform::Process {
        // The kernel counts the file of guest memory too.
        ended.expect_code(125).expect_stderr("ulimit -f");
        return;
    }
    ended.expect_code(1).expect_stderr("file too large");
    let written = std::fs::read(file.path()).expect("a regular file");
    assert_same(&written, &pattern(written.len()));
    assert_eq!(written.len() % 512, 0, "whole blocks");
    assert_ne!(written.len(), 0);
}

/// Makes the open file behind a descriptor, which others may share, one that does
/// not block.
fn unblock(file: &impl AsFd) {
    fcntl(file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("an open file");
}

#[test]
fn an_output_that_does_not_block_gets_all_of_it() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    unblock(&writer);
    let guest = print_to(&["1048576"], writer.into());
    let bytes = read_slowly(reader, 8 << 10, Duration::from_secs(1));
    assert_same(&bytes, &pattern(1 << 20));
    guest.finish().expect_code(0);
}

#[test]
fn so_does_a_standard_error_that_does_not_block() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    unblock(&writer);
    let mut command = Command::new(vmm());
    command.arg(image("print")).args(["500000", "stderr"]);
    command.stdin(Stdio::null()).stderr(writer);
    let mut child = command.spawn().expect("the command starts");
    drop(command);
    let bytes = read_slowly(reader, 8 << 10, Duration::from_secs(1));
    assert_same(&bytes, &[b'x'; 500_000]);
    assert_eq!(child.wait().expect("a child").code(), Some(0));
}

#[test]
fn a_standard_error_that_is_full_is_no_success() {
    let script = "exec \"$@\" 2> /dev/full";
    let ended = Guest::spawn(by_shell(script, "print", &["1000", "stderr"])).finish();
    assert_eq!(ended.code, Some(74));
}

#[test]
fn arguments_arrive_as_they_are() {
    let ended = Guest::start(&[], "hello", &["--flag", "two words", "", "ü"]).finish();
    ended.expect_code(0);
    let text = String::from_utf8(ended.stdout).expect("text");
    for argument in ["--flag", "two words", "ü"] {
        assert!(text.contains(argument), "{text}");
    }
}
