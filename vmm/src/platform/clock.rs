//! The guest's clock as the VMM sees it.
//!
//! The guest computes its time from the time-stamp counter. Its counter is the
//! host's plus an offset that hardware KVM chooses when it makes the vCPU;
//! without hardware virtualization the offset is 0.

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;
use std::arch::x86_64::_rdtsc;
use std::time::Duration;

/// The model-specific register of the time-stamp counter.
const IA32_TIME_STAMP_COUNTER: u32 = 0x10;

/// The clock that the guest's deadlines are in.
#[derive(Clone, Copy, Debug)]
pub struct GuestClock {
    /// Frequency of the time-stamp counter, in kHz; not 0.
    khz: u64,
    /// The guest's counter less the host's.
    offset: u64,
    /// The guest's counter at boot.
    boot: u64,
}

impl GuestClock {
    /// A clock that starts now. `khz` is not 0.
    pub fn start(khz: u64, offset: u64) -> Self {
        Self {
            khz,
            offset,
            boot: host_counter().wrapping_add(offset),
        }
    }

    /// Frequency of the counter, in kHz.
    pub fn khz(&self) -> u64 {
        self.khz
    }

    /// The guest's counter at boot.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// Nanoseconds since boot.
    pub fn now(&self) -> u64 {
        self.at(host_counter().wrapping_add(self.offset))
    }

    /// Nanoseconds from boot to a value of the guest's counter.
    pub fn at(&self, counter: u64) -> u64 {
        let ticks = counter.wrapping_sub(self.boot);
        // A tick below the boot's, by the error of measuring the offset, is
        // time 0, not the end of time.
        let ticks = if ticks > u64::MAX / 2 { 0 } else { ticks };
        (u128::from(ticks) * 1_000_000 / u128::from(self.khz)) as u64
    }

    /// How long it is until a deadline; `None` once it has passed.
    pub fn until(&self, deadline: u64) -> Option<Duration> {
        let left = deadline.checked_sub(self.now())?;
        (left > 0).then(|| Duration::from_nanos(left))
    }
}

/// How far a vCPU's time-stamp counter is ahead of the host's, modulo 2^64.
pub fn counter_offset(vcpu: &VcpuFd) -> u64 {
    let entry = kvm_msr_entry {
        index: IA32_TIME_STAMP_COUNTER,
        ..Default::default()
    };
    let Ok(mut msrs) = Msrs::from_entries(&[entry]) else {
        return 0;
    };
    let before = host_counter();
    let read = vcpu.get_msrs(&mut msrs);
    let after = host_counter();
    if !matches!(read, Ok(1)) {
        return 0;
    }
    let guest = msrs.as_slice()[0].data;
    if (before..=after).contains(&guest) {
        return 0;
    }
    guest.wrapping_sub(before + (after - before) / 2)
}

fn host_counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and it touches
    // nothing.
    unsafe { _rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_at_the_counters_rate() {
        let clock = GuestClock::start(2_000_000, 12345);
        let first = clock.now();
        let second = clock.now();
        assert!(first <= second);
        assert!(clock.until(first).is_none());
        assert!(clock.until(0).is_none());
        assert!(clock.until(u64::MAX).is_some());
    }
}
