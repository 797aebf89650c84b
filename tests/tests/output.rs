//! Standard streams: nothing that a guest wrote is lost.

use arca_tests::data::assert_same;
use arca_tests::guest::{Guest, image, vmm};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

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

#[test]
fn a_closed_output_kills_nothing_else() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    // The guest sees the closed stream, and ends as it likes: not by a signal.
    let ended = Guest::spawn_to(print(), writer.into()).finish();
    ended.expect_code(1).expect_stderr("Broken pipe");
}

#[test]
fn a_full_disk_is_said_and_kills_nothing_else() {
    let full = File::options().write(true).open("/dev/full");
    let full = full.expect("Linux has /dev/full");
    let ended = Guest::spawn_to(print(), full.into()).finish();
    ended.expect_code(1).expect_stderr("No space left");
}

#[test]
fn standard_input_reaches_the_guest() {
    let input = arca_tests::data::noise(3, 3 << 20);
    let mut command = Command::new(vmm());
    command.arg(image("cat")).stdin(Stdio::piped());
    let mut guest = Guest::spawn(command);
    let mut stdin = guest.child().stdin.take().expect("piped");
    let source = input.clone();
    let writer = thread::spawn(move || stdin.write_all(&source).expect("the guest reads"));
    let ended = guest.finish();
    writer.join().expect("all was written");
    ended.expect_code(0);
    assert_same(&ended.stdout, &input);
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
