//! The program of the stub: sets the process up, gives up what it does not need, and
//! runs the guest, a thread for each vCPU. `lib.rs` says what it is for.
//!
//! It has no C runtime and allocates nothing. Its own modules:
//!
//! | module | holds |
//! |---|---|
//! | `setup` | from the first instruction to the guest's |
//! | `trap` | what happens when the guest leaves: the signal handler |
//! | `sys` | system calls |

#![no_std]
#![no_main]

mod alu;
#[allow(dead_code, reason = "half of it is for the VMM")]
mod area;
mod decode;
#[allow(dead_code, reason = "half of it is for the VMM")]
mod filter;
#[allow(dead_code, reason = "half of it is for the VMM")]
mod layout;
#[allow(dead_code, reason = "half of it is for the VMM")]
mod park;

mod setup;
mod sys;
mod trap;

use core::arch::global_asm;

// The process's own stack is given up with the rest of what it starts with.
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "lea rsp, [rip + {stacks} + {size}]",
    "call {main}",
    "ud2",
    stacks = sym setup::STACKS,
    size = const setup::STACK_SIZE,
    main = sym setup::main,
);

// What the compiler calls for copies and core has no body for; and what core refers to
// for unwinding, which nothing does.
global_asm!(
    ".globl rust_eh_personality",
    "rust_eh_personality:",
    ".globl _Unwind_Resume",
    "_Unwind_Resume:",
    "ud2",
    ".globl memcpy",
    "memcpy:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    ".globl memset",
    "memset:",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit()
}
