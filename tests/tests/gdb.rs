//! gdb at a guest: breakpoints, steps, crashes and the guest's end.

use arca_tests::guest::{Guest, deadline, image};
use arca_tests::{platform, skip};
use arca_vmm::Platform;
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

/// Starts a program that waits for gdb; `None`, and the test is skipped, where guests
/// are no machines.
fn start(options: &[&str], program: &str, args: &[&str]) -> Option<(Guest, SocketAddr)> {
    if platform() != Platform::Kvm {
        skip("gdb at a guest that is no machine");
        return None;
    }
    // gdb waits for the guest for ever, and is told of its end.
    let timeout = format!("{}s", deadline().as_secs());
    let options = [options, &["--gdb", "0", "--timeout", &timeout]].concat();
    let guest = Guest::start(&options, program, args);
    const SAYS: &str = "target remote ";
    let says = guest.wait_for(SAYS);
    let address = says[SAYS.len()..].trim_end_matches('\'').parse();
    Some((guest, address.expect("an address")))
}

/// Has gdb run these commands, and gives what it said; `None`, and the test is skipped,
/// where there is none.
fn gdb(program: &str, address: SocketAddr, commands: &[&str]) -> Option<String> {
    let mut gdb = Command::new("gdb");
    gdb.args(["-q", "-nx", "-batch"]);
    gdb.args([
        "-ex",
        "set pagination off",
        "-ex",
        "set debuginfod enabled off",
    ]);
    gdb.args(["-ex", &format!("target remote {address}")]);
    for command in commands {
        gdb.args(["-ex", command]);
    }
    gdb.arg(image(program)).stdin(Stdio::null());
    match gdb.output() {
        Ok(output) => {
            let said = [output.stdout, b"\n".to_vec(), output.stderr].concat();
            Some(String::from_utf8_lossy(&said).into_owned())
        }
        Err(error) => {
            skip(&format!("gdb: {error}"));
            None
        }
    }
}

#[track_caller]
fn expect(said: &str, wanted: &[&str]) {
    let mut rest = said;
    for text in wanted {
        let found = rest.find(text);
        let found = found.unwrap_or_else(|| panic!("no {text:?}, in this order, in:\n{said}"));
        rest = &rest[found + text.len()..];
    }
}

#[test]
fn a_session_breaks_steps_prints_and_continues() {
    for vcpus in ["1", "2"] {
        let Some((guest, address)) = start(&["--vcpus", vcpus], "crash", &["spin", "x"]) else {
            return;
        };
        let commands = [
            "info threads",
            "break crash::spin_for_ever",
            "continue",
            "backtrace",
            "x/1xb $rip",
            "print/x $rip == $pc",
            "stepi",
            "stepi",
            "x/1xb $rip",
            "set $r12 = 0x1234",
            "print/x $r12",
            "delete",
            "stepi",
            "print/x $r12",
            "detach",
        ];
        let Some(said) = gdb("crash", address, &commands) else {
            return;
        };
        let wanted = [
            "Thread 1.1",
            "_start",
            "Breakpoint 1, ",
            "spin_for_ever",
            "crash.rs:",
            "#0 ",
            "spin_for_ever",
            "main",
            "_start",
            // A pause, and not the breakpoint in its place.
            "0xf3",
            "$1 = ",
            "$2 = 0x1234",
            "$3 = 0x1234",
        ];
        expect(&said.replace("Thread 1 hit ", ""), &wanted);
        // It goes on without the debugger, and without its breakpoint.
        guest.wait_for("gdb has left");
        guest.signal(Signal::SIGUSR1);
        guest.wait_for("vCPU 0 runs");
        guest.signal(Signal::SIGTERM);
        guest.finish().expect_code(143);
    }
}

#[test]
fn a_variable_is_printed() {
    let Some((guest, address)) = start(&[], "crash", &["stack-overflow"]) else {
        return;
    };
    let commands = [
        "break crash::overflow_stack",
        "continue",
        "print depth",
        "continue",
        "print depth",
        "kill",
    ];
    let Some(said) = gdb("crash", address, &commands) else {
        return;
    };
    expect(&said, &["overflow_stack (depth=", "$1 = ", "$2 = "]);
    assert!(!said.contains("No symbol"), "{said}");
    // As by SIGKILL.
    guest.finish().expect_code(137);
}

#[test]
fn a_breakpoint_on_another_vcpu_stops_all() {
    let Some((guest, address)) = start(&["--vcpus", "2"], "tasks", &["20"]) else {
        return;
    };
    let commands = [
        "break arca_guest::runtime::serve_tasks",
        "continue",
        "info threads",
        "delete",
        "continue",
    ];
    let Some(said) = gdb("tasks", address, &commands) else {
        return;
    };
    let wanted = [
        "Thread 2 hit Breakpoint 1",
        "Thread 1.1",
        "* 2 ",
        "exited normally",
    ];
    expect(&said, &wanted);
    let ended = guest.finish();
    ended.expect_code(0);
    let out = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(out.contains("every task slept"), "{out}");
}

#[test]
fn a_crash_stops_first_and_is_reported_then() {
    let Some((guest, address)) = start(&[], "crash", &["null-read"]) else {
        return;
    };
    let commands = ["continue", "backtrace 1", "print/x $rax", "continue"];
    let Some(said) = gdb("crash", address, &commands) else {
        return;
    };
    let wanted = [
        "SIGSEGV",
        "read_null_pointer",
        "$1 = 0x0",
        "exited with code 0145",
    ];
    expect(&said, &wanted);
    guest
        .finish()
        .expect_code(101)
        .expect_stderr("guest crashed on vCPU 0 in crash::read_null_pointer: null pointer");
}

/// gdb's remote protocol, as far as these tests need it.
struct Remote(TcpStream);

impl Remote {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the guest waits");
        stream
            .set_read_timeout(Some(deadline()))
            .expect("an option");
        Self(stream)
    }

    fn send(&mut self, packet: &str) {
        let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
        write!(self.0, "${packet}#{sum:02x}").expect("a stub");
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.0.read_exact(&mut byte).expect("a stub");
        byte[0]
    }

    /// The next packet, which is acknowledged.
    fn receive(&mut self) -> String {
        while self.byte() != b'$' {}
        let mut packet = String::new();
        loop {
            match self.byte() {
                b'#' => break,
                // The one before, so many times more.
                b'*' => {
                    let more = self.byte() - 29;
                    let last = packet.chars().last().expect("one before");
                    (0..more).for_each(|_| packet.push(last));
                }
                byte => packet.push(byte.into()),
            }
        }
        self.0.read_exact(&mut [0; 2]).expect("a sum");
        self.0.write_all(b"+").expect("a stub");
        packet
    }

    fn ask(&mut self, packet: &str) -> String {
        self.send(packet);
        self.receive()
    }
}

#[test]
fn a_guest_that_spins_or_sleeps_is_interrupted() {
    for (program, args) in [("crash", &["spin"][..]), ("echo-server", &["0"])] {
        let Some((guest, address)) = start(&["--vcpus", "2"], program, args) else {
            return;
        };
        let mut remote = Remote::connect(address);
        let mut places = Vec::new();
        for _ in 0..20 {
            remote.send("c");
            remote.0.write_all(&[3]).expect("a stub");
            let stopped = remote.receive();
            assert!(stopped.starts_with("T02"), "SIGINT: {stopped}");
            // Its registers can be read, the instruction pointer among them.
            let registers = remote.ask("g");
            assert!(registers.len() > 300, "{registers}");
            places.push(registers[256..272].to_owned());
        }
        assert!(places.iter().all(|place| place != "0000000000000000"));
        assert_eq!(remote.ask("D;1"), "OK");
        guest.wait_for("gdb has left");
        guest.signal(Signal::SIGTERM);
        guest.finish().expect_code(143);
    }
}

#[test]
fn a_guest_that_waits_for_gdb_can_be_stopped() {
    for connect in [false, true] {
        let Some((guest, address)) = start(&[], "crash", &["spin"]) else {
            return;
        };
        let connection = connect.then(|| Remote::connect(address));
        guest.signal(Signal::SIGTERM);
        guest.finish().expect_code(143);
        drop(connection);
    }
}

#[test]
fn garbage_from_a_debugger_does_no_harm() {
    let Some((guest, address)) = start(&[], "crash", &["spin"]) else {
        return;
    };
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"$m0,ffffffffffffffff#00$Zz#ff\x03\x03",
        &[0xff; 5000],
    ] {
        let mut stream = TcpStream::connect(address).expect("the guest waits");
        let _ = stream.write_all(garbage);
    }
    let mut remote = Remote::connect(address);
    // Memory that is not the program's is refused; so is what is not there.
    for refused in [
        "m0,8",
        "m10000,8",
        "mffffffffffffffff,8",
        "M0,1:00",
        "Z0,0,1",
    ] {
        let answer = remote.ask(refused);
        assert!(
            answer.starts_with('E') || answer.is_empty(),
            "{refused}: {answer}"
        );
    }
    drop(remote);
    guest.signal(Signal::SIGTERM);
    guest.finish().expect_code(143);
}

#[test]
fn where_the_guest_is_a_process_one_line_says_what_to_use() {
    let options = ["--platform", "process", "--gdb", "0"];
    let ended = Guest::start(&options, "crash", &["spin"]).finish();
    ended.expect_code(125);
    let said = ended.stderr.lines().last().unwrap_or_default();
    assert!(said.contains("gdb IMAGE -p PID"), "{}", ended.stderr);
}
