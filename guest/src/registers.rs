//! The registers of the MMIO page: how the guest talks to the VMM.
//!
//! There is no other way out of ring 3. Each function here is one store; what
//! the VMM does with it is told at [`arca_shared::protocol::layout::mmio`].

use arca_shared::protocol::layout::{MMIO_BASE, mmio};

/// Stores `value` in the 64-bit register at `register`.
fn write(register: u64, value: u64) {
    let address = core::ptr::with_exposed_provenance_mut::<u64>((MMIO_BASE + register) as usize);
    // SAFETY: the VMM maps the MMIO page writable at this address for the whole
    // life of the guest, and every register used here is an aligned 64-bit one.
    // No memory is behind it, so the store changes nothing that Rust knows of.
    unsafe { address.write_volatile(value) }
}

/// Wakes the monitor.
pub fn ring_doorbell() {
    write(mmio::DOORBELL, 1);
}

/// Sleeps until this vCPU is kicked, the monitor wakes it, or the clock reaches
/// `deadline` (nanoseconds since boot). Returns at once if a wake came before.
pub fn park(deadline: Option<u64>) {
    write(mmio::PARK, deadline.unwrap_or(mmio::NO_DEADLINE));
}

/// Wakes the vCPU of that index, or lets its next park return at once.
pub fn kick(vcpu: usize) {
    write(mmio::KICK, vcpu as u64);
}

/// Ends the guest with `code`.
pub fn exit(code: u8) -> ! {
    write(mmio::EXIT, u64::from(code));
    abandon()
}

/// Ends the guest as a crash; what went wrong is on the UART already.
pub fn panic() -> ! {
    write(mmio::PANIC, 1);
    abandon()
}

/// Gives up this vCPU for good: it waits, without using the processor, for an
/// end that another one has brought about or that the VMM is about to.
pub fn abandon() -> ! {
    loop {
        park(None);
    }
}
