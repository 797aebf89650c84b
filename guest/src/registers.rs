//! Stores to the registers of the MMIO page: how the guest talks to the VMM.
//!
//! There is no other way out of ring 3. What the VMM does with each is specified at
//! [`arca_shared::protocol::register`].

use arca_shared::protocol::register::{NO_DEADLINE, Register, YIELD};

/// Stores `value` in a 64-bit register.
fn write(register: Register, value: u64) {
    let address = core::ptr::with_exposed_provenance_mut::<u64>(register.address() as usize);
    // SAFETY: the VMM maps the MMIO page writable at this address for the whole
    // life of the guest, and every register used here is an aligned 64-bit one.
    // No memory is behind it, so the store changes nothing that Rust knows of.
    unsafe { address.write_volatile(value) }
}

/// Wakes the monitor.
pub fn ring_doorbell() {
    write(Register::Doorbell, 1);
}

/// Sleeps until this vCPU is kicked, the monitor wakes it, or the clock reaches
/// `deadline` (nanoseconds since boot). Returns at once if a wake came before.
pub fn park(deadline: Option<u64>) {
    write(Register::Park, deadline.unwrap_or(NO_DEADLINE));
}

/// Lets others run that wait for this vCPU's core, and goes on.
pub fn yield_core() {
    write(Register::Park, YIELD);
}

/// Wakes the vCPU of that index, or lets its next park return at once.
pub fn kick(vcpu: usize) {
    write(Register::Kick, vcpu as u64);
}

/// Ends the guest with `code`.
pub fn exit(code: u8) -> ! {
    write(Register::Exit, u64::from(code));
    abandon()
}

/// Ends the guest as a crash; what went wrong is on the UART already.
pub fn panic() -> ! {
    write(Register::Panic, 1);
    abandon()
}

/// Gives up this vCPU for good: it waits, without using the processor, for an
/// end that another one has brought about or that the VMM is about to.
pub fn abandon() -> ! {
    loop {
        park(None);
    }
}
