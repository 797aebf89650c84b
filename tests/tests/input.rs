//! Standard input: read when the guest asks for it, and no more than that.

use arca_tests::data::assert_same;
use arca_tests::guest::{Guest, deadline, image, vmm};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;
use nix::unistd::tcgetpgrp;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

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

/// The programs, as a shell's variables by which it runs them.
fn programs(shell: &mut Command) {
    for (name, program) in [("CAT", "cat"), ("HELLO", "hello")] {
        let run = format!("{} {}", vmm().display(), image(program).display());
        shell.env(name, run);
    }
}

/// Runs a script of a shell, in which `$CAT` and `$HELLO` are guests.
fn shell(script: &str) -> Guest {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null());
    programs(&mut command);
    Guest::spawn(command)
}

#[test]
fn a_guest_that_never_reads_takes_nothing() {
    let ended = shell("printf 'a\\nb\\nc\\n' | while read l; do $HELLO $l; done").finish();
    ended.expect_code(0);
    let text = String::from_utf8(ended.stdout).expect("text");
    let wanted: String = ["a", "b", "c"]
        .map(|l| format!("hello from Arca\nargument 1: {l}\n"))
        .concat();
    assert_eq!(text, wanted);
}

#[test]
fn a_guest_takes_no_more_than_it_reads() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let numbers: String = (1..=30_000).map(|n| format!("{n}\n")).collect();
    fs::write(file.path(), &numbers).expect("a regular file");
    let path = file.path().display();
    let readers = "{ $CAT 1000 && $CAT 0 && $HELLO >&2 && $CAT 70001 && $CAT; }";
    for source in ["cat FILE | READERS", "READERS < FILE"] {
        let script = source.replace("FILE", &path.to_string());
        let ended = shell(&script.replace("READERS", readers)).finish();
        ended.expect_code(0).expect_stderr("hello from Arca");
        assert_same(&ended.stdout, numbers.as_bytes());
    }
}

#[test]
fn an_input_that_cannot_be_read_is_an_error() {
    let mut command = Command::new(vmm());
    let directory = File::open("/").expect("a directory");
    command.arg(image("cat")).stdin(directory);
    let ended = Guest::spawn(command).finish();
    ended.expect_code(1).expect_stderr("is a directory");
    let ended = shell("exec $CAT <&-").finish();
    ended.expect_code(1).expect_stderr("bad descriptor");
    // Who does not read it does not notice.
    shell("exec $HELLO <&-").finish().expect_code(0);
    shell("exec $HELLO < /").finish().expect_code(0);
}

#[test]
fn an_input_that_does_not_block_is_waited_for() {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let flags = FcntlArg::F_SETFL(OFlag::O_NONBLOCK);
    fcntl(&reader, flags).expect("an open file");
    let mut command = Command::new(vmm());
    command.arg(image("cat")).stdin(reader);
    let guest = Guest::spawn(command);
    for piece in 0..5_u8 {
        thread::park_timeout(Duration::from_millis(100));
        writer.write_all(&[piece; 1000]).expect("the guest reads");
    }
    drop(writer);
    let ended = guest.finish();
    ended.expect_code(0);
    let wanted: Vec<u8> = (0..5).flat_map(|piece| [piece; 1000]).collect();
    assert_same(&ended.stdout, &wanted);
}

/// A terminal of its own, with an interactive shell that has job control.
struct Terminal {
    screen: File,
    shell: std::process::Child,
    said: String,
}

impl Terminal {
    fn start() -> Self {
        let pty = openpty(None, None).expect("a terminal");
        let slave: OwnedFd = pty.slave;
        let mut command = Command::new("setsid");
        command.args(["--ctty", "bash", "--norc", "--noprofile", "-i"]);
        command.env("PS1", "").env("TERM", "dumb");
        programs(&mut command);
        command.stdin(slave.try_clone().expect("a descriptor"));
        command.stdout(slave.try_clone().expect("a descriptor"));
        command.stderr(slave);
        let shell = command.spawn().expect("a shell");
        let flags = FcntlArg::F_SETFL(OFlag::O_NONBLOCK);
        fcntl(&pty.master, flags).expect("an open file");
        Self {
            screen: pty.master.into(),
            shell,
            said: String::new(),
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.screen, "{line}").expect("the terminal takes it");
    }

    /// Waits until a job of the shell's, and not itself, has the terminal.
    fn wait_in_front(&self) {
        let end = Instant::now() + deadline();
        let shell = self.shell.id() as i32;
        while tcgetpgrp(&self.screen).expect("a terminal").as_raw() == shell {
            assert!(Instant::now() < end, "the shell keeps the terminal");
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Waits until the screen shows `text` after what was waited for before.
    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + deadline();
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.said.find(text) {
                self.said.drain(..at + text.len());
                return;
            }
            assert!(Instant::now() < end, "no {text:?} in {:?}", self.said);
            match self.screen.read(&mut buffer) {
                Ok(len) => self.said.push_str(&String::from_utf8_lossy(&buffer[..len])),
                Err(_) => thread::park_timeout(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

#[test]
fn in_the_background_of_a_terminal_a_read_stops_the_guest_until_it_is_in_front() {
    let mut terminal = Terminal::start();
    // The words are split, so that the echo of a line is not taken for its answer.
    terminal.say("$HELLO front; echo code''=$?");
    terminal.wait_for("hello from Arca");
    terminal.wait_for("code=0");
    // Who does not read is not stopped.
    terminal.say("$HELLO back & wait $!; echo code''=$?");
    terminal.wait_for("hello from Arca");
    terminal.wait_for("code=0");
    // Who reads is, as `cat` natively is, and goes on in front.
    terminal.say("set -b; $CAT &");
    terminal.wait_for("Stopped");
    terminal.say("fg; echo code''=$?");
    terminal.wait_in_front();
    terminal.say("typed by hand");
    terminal.wait_for("typed by hand\r\ntyped by hand\r\n");
    terminal.say("\x04");
    terminal.wait_for("code=0");
    terminal.say("exit");
}
