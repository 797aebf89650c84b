//! What happens when a program panics.
//!
//! The message and its place go to the UART, which needs nothing of the
//! runtime, and if the heap was full, its size and what makes it larger; then the
//! PANIC register ends the guest, and the VMM adds a
//! backtrace from the vCPU's registers. What the program had printed before is
//! in the pipes already, save for an unfinished line, which is pushed after it
//! if that takes no waiting.

use crate::out_of_heap::OutOfHeap;
use crate::uart::Uart;
use crate::{registers, stdio};
use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

/// Set by the first vCPU that panics.
static PANICKING: AtomicBool = AtomicBool::new(false);

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    // Relaxed: the swap alone decides who is first; no other memory depends on
    // it. A second panic, on another vCPU or while the first is being told,
    // has nothing to add.
    if PANICKING.swap(true, Ordering::Relaxed) {
        registers::abandon();
    }
    let mut uart = Uart::open();
    // Writing to the UART cannot fail.
    let _ = match info.location() {
        Some(place) => writeln!(uart, "panicked at {place}:\n{}", info.message()),
        None => writeln!(uart, "panicked:\n{}", info.message()),
    };
    if let Some(out) = OutOfHeap::in_message(info.message()) {
        let _ = writeln!(uart, "{out}");
    }
    stdio::flush_without_waiting();
    registers::panic()
}
