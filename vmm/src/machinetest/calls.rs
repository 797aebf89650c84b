//! System calls by a guest in a process: none is answered, whoever makes it.

use super::*;
use crate::crash::Cause;
use crate::platform::process::STUB;
use crate::testimage::DATA;
use arca_stub::filter::call;
use arca_stub::layout::STUB_BASE;

/// As many as there are, and some more.
const NUMBERS: u32 = 480;

/// The calls that are left to the stub.
const LEFT: [u32; 6] = [
    call::WRITE,
    call::RT_SIGRETURN,
    call::SCHED_YIELD,
    call::FUTEX,
    call::RESTART_SYSCALL,
    call::EXIT_GROUP,
];

/// Calls of the kernel's own about which it asks no filter: uretprobe and uprobe. Out
/// of their place they are refused or answered with an error, and do nothing.
const UNFILTERED: [u32; 2] = [335, 336];

fn crash(code: Code) -> Box<CrashReport> {
    code.crash_on(Platform::Process)
}

#[test]
fn the_guests_own_are_crashes_in_a_process() {
    // The number -1 is left out: it stands for none, and the kernel asks no filter.
    let others = LEFT.into_iter().chain([0x4000_0000, 0x4000_0001]);
    let numbers = others.chain((0..NUMBERS).step_by(7));
    for number in numbers.filter(|number| !UNFILTERED.contains(number)) {
        let report = crash(code().load(number.into()).bytes(&[0x0f, 0x05]).exit(0));
        assert_eq!(report.cause, Cause::SystemCall, "{number}");
    }
}

/// Address of the stub's instruction that makes a system call.
fn stubs_syscall() -> u64 {
    // Its text is at the first page of its file, after the headers.
    let text = &STUB[0x1000..0x4000];
    let at = text.windows(2).position(|bytes| bytes == [0x0f, 0x05]);
    STUB_BASE + at.expect("it makes some") as u64
}

/// Jumps to the stub's instruction with this in rax, rdi, rsi and rdx.
fn by_the_stub(number: u64, arguments: [u64; 3]) -> Code {
    let [first, second, third] = arguments;
    code()
        .load(first)
        .bytes(&[0x48, 0x89, 0xc7]) // mov rdi, rax
        .load(second)
        .bytes(&[0x48, 0x89, 0xc6]) // mov rsi, rax
        .load(third)
        .bytes(&[0x48, 0x89, 0xc2]) // mov rdx, rax
        .load(stubs_syscall())
        .bytes(&[0x48, 0x89, 0xc3]) // mov rbx, rax
        .load(number)
        .bytes(&[0xff, 0xe3]) // jmp rbx
}

#[test]
fn of_the_stubs_only_those_it_needs_are_left_to_a_guest() {
    for number in (0..NUMBERS).filter(|number| ![&LEFT[..], &UNFILTERED].concat().contains(number))
    {
        let report = crash(by_the_stub(number.into(), [1, DATA, 8]));
        assert_eq!(report.cause, Cause::SystemCall, "{number}");
    }
}

#[test]
fn calls_that_no_filter_sees_do_nothing() {
    for number in UNFILTERED {
        let code = code().load(number.into()).bytes(&[0x0f, 0x05]).exit(7);
        let config = VmConfig {
            platform: Platform::Process,
            ..code.config()
        };
        match Vm::new(config).expect("starts").run() {
            ExitStatus::Exited(7) => {}
            ExitStatus::Crashed(report) => assert_eq!(report.cause, Cause::SystemCall),
            other => panic!("{number}: {other}"),
        }
    }
}

#[test]
fn a_guest_that_ends_its_process_has_crashed() {
    let report = crash(by_the_stub(call::EXIT_GROUP.into(), [0; 3]));
    let ended = "its process was made to end (ended with code 0)";
    assert_eq!(report.cause, Cause::Unexpected(ended.into()));
}

#[test]
fn a_guest_writes_to_nothing_but_the_doorbell() {
    for (descriptor, len) in [(0, 8), (2, 8), (3, 8), (1, 7), (1, 4096)] {
        let report = crash(by_the_stub(call::WRITE.into(), [descriptor, DATA, len]));
        assert_eq!(report.cause, Cause::SystemCall, "{descriptor} {len}");
    }
}

#[test]
fn a_guest_sleeps_and_wakes_and_no_more() {
    for operation in 2..32 {
        let report = crash(by_the_stub(call::FUTEX.into(), [DATA, operation, 1]));
        assert_eq!(report.cause, Cause::SystemCall, "{operation}");
    }
}
