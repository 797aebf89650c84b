//! The system calls that are left to the stub and its guest, as a seccomp program.
//!
//! | call | with |
//! |---|---|
//! | futex | FUTEX_WAIT or FUTEX_WAKE: a vCPU sleeps, wakes another, or hands over to the VMM |
//! | sched_yield | a vCPU lets others run on its core |
//! | write | eight bytes to the doorbell's eventfd |
//! | rt_sigreturn | a signal handler ends |
//! | restart_syscall | the kernel's own, after the process was stopped and goes on |
//! | exit_group | the process ends |
//!
//! Two more the kernel keeps for itself and asks no filter about, uretprobe and uprobe:
//! out of their place they do nothing.
//!
//! Each only by an instruction of the stub's. The guest can jump there, so that this
//! keeps nothing from it; but whatever else calls the kernel is caught, and named as a
//! crash of the guest. Everything else is caught too (SIGSYS): nothing of it happens.

use core::ops::Range;

/// One instruction, as seccomp(2) takes it: `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// How many instructions it skips if its comparison holds.
    pub if_true: u8,
    /// How many it skips if not.
    pub if_false: u8,
    /// Its operand.
    pub operand: u32,
}

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const TRAP: u32 = 0x0003_0000;

/// The audit(7) architecture of 64-bit programs.
pub const ARCH_X86_64: u32 = 0xc000_003e;
/// That of 32-bit ones.
pub const ARCH_I386: u32 = 0x4000_0003;

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const POINTER: u32 = 8;
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

/// Numbers of the system calls.
pub mod call {
    /// write(2)
    pub const WRITE: u32 = 1;
    /// rt_sigreturn(2)
    pub const RT_SIGRETURN: u32 = 15;
    /// sched_yield(2)
    pub const SCHED_YIELD: u32 = 24;
    /// futex(2)
    pub const FUTEX: u32 = 202;
    /// restart_syscall(2)
    pub const RESTART_SYSCALL: u32 = 219;
    /// exit_group(2)
    pub const EXIT_GROUP: u32 = 231;
}

/// futex(2): sleep while a word has a value.
pub const FUTEX_WAIT: u32 = 0;
/// futex(2): wake those who sleep on a word.
pub const FUTEX_WAKE: u32 = 1;

/// Length of the program.
const LEN: usize = 27;

/// The program. `text`: the addresses of the stub's instructions, all with the same
/// upper half; `doorbell`: the descriptor.
#[must_use]
pub fn program(text: Range<u64>, doorbell: u32) -> [Instruction; LEN] {
    const ALLOWED: u8 = LEN as u8 - 2;
    const CAUGHT: u8 = LEN as u8 - 1;
    let load = |offset| Instruction {
        code: LOAD,
        if_true: 0,
        if_false: 0,
        operand: offset,
    };
    // Targets are absolute: the instruction is the `at`th.
    let jump = |code, at: u8, operand, if_true: u8, if_false: u8| Instruction {
        code,
        if_true: if_true - at - 1,
        if_false: if_false - at - 1,
        operand,
    };
    let equal = |at, operand, if_true, if_false| jump(JUMP_EQUAL, at, operand, if_true, if_false);
    let at_least =
        |at, operand, if_true, if_false| jump(JUMP_GREATER_EQUAL, at, operand, if_true, if_false);
    let end = |operand| Instruction {
        code: RETURN,
        if_true: 0,
        if_false: 0,
        operand,
    };
    [
        load(ARCH),
        equal(1, ARCH_X86_64, 2, CAUGHT),
        load(POINTER + 4),
        equal(3, (text.start >> 32) as u32, 4, CAUGHT),
        load(POINTER),
        at_least(5, text.start as u32, 6, CAUGHT),
        at_least(6, text.end as u32, CAUGHT, 7),
        load(NUMBER),
        equal(8, call::FUTEX, 14, 9),
        equal(9, call::WRITE, 18, 10),
        equal(10, call::RT_SIGRETURN, ALLOWED, 11),
        equal(11, call::SCHED_YIELD, ALLOWED, 12),
        equal(12, call::RESTART_SYSCALL, ALLOWED, 13),
        equal(13, call::EXIT_GROUP, ALLOWED, CAUGHT),
        // futex: its operation.
        load(argument(1)),
        equal(15, FUTEX_WAIT, ALLOWED, 16),
        equal(16, FUTEX_WAKE, ALLOWED, CAUGHT),
        // Not reached.
        end(TRAP),
        // write: the descriptor, then how much.
        load(argument(0)),
        equal(19, doorbell, 20, CAUGHT),
        load(argument(2)),
        equal(21, 8, 22, CAUGHT),
        load(argument(2) + 4),
        equal(23, 0, ALLOWED, CAUGHT),
        // Not reached.
        end(TRAP),
        end(ALLOW),
        end(TRAP),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const TEXT: Range<u64> = 0x6000_0000_1000..0x6000_0000_3000;

    /// A system call, as a filter sees it.
    #[derive(Clone, Copy, Debug)]
    struct Call {
        number: u32,
        arch: u32,
        pointer: u64,
        arguments: [u64; 6],
    }

    /// Runs the program as the kernel would.
    fn verdict(call: Call) -> u32 {
        let mut data = Vec::new();
        data.extend(call.number.to_le_bytes());
        data.extend(call.arch.to_le_bytes());
        data.extend(call.pointer.to_le_bytes());
        data.extend(call.arguments.iter().flat_map(|word| word.to_le_bytes()));
        let program = program(TEXT, 1);
        let (mut at, mut value) = (0, 0);
        loop {
            let instruction = program[at];
            at += 1;
            let holds = match instruction.code {
                LOAD => {
                    let from = instruction.operand as usize;
                    value = u32::from_le_bytes(data[from..from + 4].try_into().expect("four"));
                    continue;
                }
                RETURN => return instruction.operand,
                JUMP_EQUAL => value == instruction.operand,
                JUMP_GREATER_EQUAL => value >= instruction.operand,
                other => panic!("{other:#x}"),
            };
            at += usize::from(if holds {
                instruction.if_true
            } else {
                instruction.if_false
            });
        }
    }

    fn call(number: u32, arguments: [u64; 6]) -> Call {
        Call {
            number,
            arch: ARCH_X86_64,
            pointer: TEXT.start + 2,
            arguments,
        }
    }

    fn left() -> [Call; 7] {
        [
            call(call::FUTEX, [7, FUTEX_WAIT.into(), 0, 0, 0, 0]),
            call(call::FUTEX, [7, FUTEX_WAKE.into(), 1, 0, 0, 0]),
            call(call::WRITE, [1, 7, 8, 0, 0, 0]),
            call(call::RT_SIGRETURN, [0; 6]),
            call(call::SCHED_YIELD, [0; 6]),
            call(call::RESTART_SYSCALL, [0; 6]),
            call(call::EXIT_GROUP, [0; 6]),
        ]
    }

    #[test]
    fn the_stubs_own_calls_are_left() {
        for call in left() {
            assert_eq!(verdict(call), ALLOW, "{call:x?}");
            let last = Call {
                pointer: TEXT.end - 1,
                ..call
            };
            assert_eq!(verdict(last), ALLOW, "{call:x?}");
        }
    }

    #[test]
    fn nobody_elses_are() {
        for call in left() {
            for pointer in [
                0,
                0x20_0000,
                TEXT.start - 1,
                TEXT.end,
                TEXT.start + (1 << 32),
                TEXT.start & 0xffff_ffff,
            ] {
                assert_eq!(verdict(Call { pointer, ..call }), TRAP, "{pointer:#x}");
            }
            let arch = ARCH_I386;
            assert_eq!(verdict(Call { arch, ..call }), TRAP);
            // The table of 32-bit addresses.
            let number = call.number | 0x4000_0000;
            assert_eq!(verdict(Call { number, ..call }), TRAP);
        }
    }

    #[test]
    fn arguments_decide() {
        for operation in (2..64).chain([128, 129, 256, u64::from(u32::MAX)]) {
            let call = call(call::FUTEX, [0, operation, 0, 0, 0, 0]);
            assert_eq!(verdict(call), TRAP, "{operation}");
        }
        for (descriptor, len) in [(0, 8), (2, 8), (1, 7), (1, 9), (1, 1 << 32 | 8), (1, 0)] {
            let call = call(call::WRITE, [descriptor, 0, len, 0, 0, 0]);
            assert_eq!(verdict(call), TRAP, "{descriptor} {len}");
        }
    }

    proptest! {
        #[test]
        fn no_other_number_is_left(number: u32, arguments: [u64; 6], inside in 0..0x2000u64) {
            let known = left().iter().any(|call| call.number == number);
            let call = Call { pointer: TEXT.start + inside, ..call(number, arguments) };
            let verdict = verdict(call);
            prop_assert!(known || verdict == TRAP);
        }
    }
}
