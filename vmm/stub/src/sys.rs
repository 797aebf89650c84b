//! System calls, without a C library.

use crate::filter::call;
use core::arch::asm;
use core::sync::atomic::AtomicU32;

/// An errno(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub u64);

/// What a system call gave.
pub type Result = core::result::Result<u64, Errno>;

/// Makes a system call.
///
/// # Safety
///
/// Whatever memory the call reads, writes, maps or unmaps is the caller's to use so.
pub unsafe fn syscall(number: u32, arguments: [u64; 6]) -> Result {
    let [a, b, c, d, e, f] = arguments;
    let result: u64;
    // SAFETY: the instruction changes rax, rcx and r11, and what the call does is the
    // caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") u64::from(number) => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    match result {
        0xffff_ffff_ffff_f001.. => Err(Errno(result.wrapping_neg())),
        value => Ok(value),
    }
}

/// Makes a system call that touches no memory of this process.
pub fn plain(number: u32, arguments: [u64; 6]) -> Result {
    // SAFETY: the caller's promise, kept by looking at the few calls there are: each
    // takes numbers, or addresses that it unmaps before anything is mapped there.
    unsafe { syscall(number, arguments) }
}

/// How long a sleep may be, as futex(2) wants it.
#[repr(C)]
pub struct Timespec {
    /// Seconds.
    pub seconds: i64,
    /// And nanoseconds.
    pub nanoseconds: i64,
}

/// Sleeps while the word has that value. Returns for a wake, at the timeout, for a
/// signal, or for no reason.
pub fn futex_wait(word: &AtomicU32, value: u32, timeout: Option<Timespec>) {
    let timeout = timeout.as_ref().map_or(0, |timeout| {
        core::ptr::from_ref(timeout).expose_provenance() as u64
    });
    let arguments = [
        address(word),
        crate::filter::FUTEX_WAIT.into(),
        value.into(),
        timeout,
        0,
        0,
    ];
    // SAFETY: the kernel reads the word and the timeout, and both outlive the call.
    let _ = unsafe { syscall(call::FUTEX, arguments) };
}

/// Wakes all who sleep on the word.
pub fn futex_wake(word: &AtomicU32) {
    let all = i32::MAX as u64;
    let arguments = [
        address(word),
        crate::filter::FUTEX_WAKE.into(),
        all,
        0,
        0,
        0,
    ];
    // SAFETY: the word's address is only a name.
    let _ = unsafe { syscall(call::FUTEX, arguments) };
}

/// Lets others run that wait for this thread's core.
pub fn yield_core() {
    let _ = plain(call::SCHED_YIELD, [0; 6]);
}

fn address(word: &AtomicU32) -> u64 {
    word.as_ptr().expose_provenance() as u64
}

/// Signals the eventfd.
pub fn signal(eventfd: i32) {
    let one = 1u64;
    let from = core::ptr::from_ref(&one).expose_provenance() as u64;
    // SAFETY: the kernel reads eight bytes of `one`. It can fail only because the
    // counter is full, and then it is signalled.
    let _ = unsafe { syscall(call::WRITE, [eventfd as u64, from, 8, 0, 0, 0]) };
}

/// Ends the process.
pub fn exit() -> ! {
    loop {
        let _ = plain(call::EXIT_GROUP, [1, 0, 0, 0, 0, 0]);
    }
}
