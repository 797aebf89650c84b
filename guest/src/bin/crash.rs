//! `crash KIND`: ends in the way named, to show what the host makes of it.
//!
//! Each way is a function of its own, so that the report can name it.

#![no_std]
#![no_main]

extern crate alloc;

use arca_guest::process::ExitCode;
use arca_guest::sync::Mutex;
use arca_guest::{args, block_on, eprintln, futures, log, spawn, yield_now};
use core::arch::asm;
use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};

arca_guest::entry!(main);

/// The ways, by name.
const KINDS: &[(&str, fn())] = &[
    ("null-read", read_null_pointer),
    ("null-write", write_null_pointer),
    ("stack-overflow", || _ = overflow_stack(0)),
    ("write-text", write_own_text),
    ("run-data", run_data),
    ("panic", panic_with_message),
    ("divide-by-zero", divide_by_zero),
    ("ud2", execute_undefined_instruction),
    ("heap", exhaust_heap),
    ("spin", spin_for_ever),
    ("deadlock", wait_for_each_other),
];

fn main() -> ExitCode {
    let wanted = args().nth(1).unwrap_or("");
    if let Some((_, crash)) = KINDS.iter().find(|(name, _)| *name == wanted) {
        log::info!("about to end by {wanted}");
        crash();
        eprintln!("error: {wanted} did not end the program");
        return ExitCode::FAILURE;
    }
    eprintln!("usage: crash KIND, where KIND is one of:");
    for (name, _) in KINDS {
        eprintln!("  {name}");
    }
    ExitCode(2)
}

#[inline(never)]
fn read_null_pointer() {
    // SAFETY: not kept, on purpose: the null page is unmapped; it faults.
    // Assembly, because the compiler may take such a read for unreachable.
    unsafe { asm!("mov {0:e}, dword ptr [{0}]", inout(reg) 0_u64 => _, options(nostack)) };
    keep_frame();
}

#[inline(never)]
fn write_null_pointer() {
    // SAFETY: not kept, on purpose: the null page is unmapped; it faults.
    unsafe { asm!("mov dword ptr [{0}], 1", in(reg) 0_u64, options(nostack)) };
    keep_frame();
}

#[inline(never)]
#[allow(unconditional_recursion, reason = "its end is the stack's")]
fn overflow_stack(depth: u64) -> u64 {
    let frame = black_box([depth; 32]);
    overflow_stack(depth + 1) + black_box(frame[7])
}

#[inline(never)]
fn write_own_text() {
    let text = write_own_text as fn() as *mut u8;
    // SAFETY: not kept, on purpose: the text is not writable; it faults.
    unsafe { text.write_volatile(0x90) };
    keep_frame();
}

#[inline(never)]
fn run_data() {
    let code = black_box([0xc3_u8; 16]);
    // SAFETY: not kept, on purpose: the stack is not executable; it faults.
    unsafe { asm!("call {0}", in(reg) code.as_ptr(), clobber_abi("C")) };
    keep_frame();
}

#[inline(never)]
fn panic_with_message() {
    panic!("as asked for, with {} arguments", args().count());
}

#[inline(never)]
fn divide_by_zero() {
    // SAFETY: not kept, on purpose: the division faults. Assembly, because
    // Rust's own division panics instead.
    unsafe {
        asm!(
            "div {0:e}",
            in(reg) black_box(0_u32),
            inout("eax") 1_u32 => _,
            inout("edx") 0_u32 => _,
            options(nostack),
        );
    }
    keep_frame();
}

#[inline(never)]
fn execute_undefined_instruction() {
    // SAFETY: not kept, on purpose: the instruction is undefined for ever.
    unsafe { asm!("ud2", options(nostack)) };
    keep_frame();
}

#[inline(never)]
fn exhaust_heap() {
    let mut taken = alloc::vec::Vec::new();
    loop {
        taken.push(black_box(alloc::vec![1_u8; 1 << 20]));
    }
}

#[inline(never)]
fn spin_for_ever() {
    loop {
        core::hint::spin_loop();
    }
}

/// Locks that two tasks take in different orders.
static LOCKS: [Mutex<()>; 2] = [Mutex::new(()), Mutex::new(())];

/// How many tasks have their first. Relaxed: a number to wait for, and no more.
static HELD: AtomicUsize = AtomicUsize::new(0);

async fn take_both(first: usize, second: usize) {
    let _first = LOCKS[first].lock().await;
    HELD.fetch_add(1, Ordering::Relaxed);
    while HELD.load(Ordering::Relaxed) < LOCKS.len() {
        yield_now().await;
    }
    let _second = LOCKS[second].lock().await;
}

fn wait_for_each_other() {
    let tasks = [spawn(take_both(0, 1)), spawn(take_both(1, 0))];
    block_on(futures::future::join_all(tasks));
}

/// Something left to do after the crash, so that no caller's frame is given up
/// for a tail call before it.
#[inline(always)]
fn keep_frame() {
    black_box(());
}
