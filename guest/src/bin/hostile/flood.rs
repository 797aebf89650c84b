//! Too much of everything.

use crate::Attack;
use crate::memory::{store, word};
use arca_guest::{boot, registers, runtime};
use arca_shared::memory::ShmOffset;
use arca_shared::protocol::layout::MMIO_BASE;
use arca_shared::protocol::register::Register;
use arca_shared::ring::RingHeader;
use core::sync::atomic::Ordering;

/// Rings, kicks, marks and parks as fast as it can.
pub fn storm(attack: &mut Attack) -> u64 {
    let info = boot::info();
    let sets = info.notify_offset + 64 * 17;
    let mut count = 0;
    while attack.goes_on() {
        match attack.random.below(4) {
            0 => registers::kick(attack.random.below(u64::from(info.vcpus)) as usize),
            1 => registers::park(Some(0)),
            2 => (0..64).for_each(|at| store(word(info, sets + 8 * at), u64::MAX)),
            _ => registers::ring_doorbell(),
        }
        count += 1;
    }
    count
}

/// Writes to the registers of the UART as fast as it can.
pub fn uart(attack: &mut Attack) -> u64 {
    let mut count = 0;
    while attack.goes_on() {
        let register = Register::Uart(attack.random.below(8) as u8);
        let address = register.address() as usize;
        let target = core::ptr::with_exposed_provenance_mut::<u8>(address);
        // SAFETY: a byte-wide register of the UART; no memory is behind it.
        unsafe { target.write_volatile(b'!' + (count % 90) as u8) };
        count += 1;
    }
    count
}

/// Records of any shape, straight into the ring.
pub fn log(attack: &mut Attack) -> u64 {
    let info = boot::info();
    let place = info.log;
    let (read, written) = (place.shm_offset, place.shm_offset + 8);
    let mut count = 0;
    while attack.goes_on() {
        let cursor = word(info, written).load(Ordering::Relaxed);
        let room = place.ring_size - (cursor - word(info, read).load(Ordering::Acquire));
        if room < place.ring_size / 2 {
            runtime::reactor().notify_monitor(ShmOffset(place.shm_offset).into());
            registers::park(Some(arca_guest::time::since_boot_ns() + 100_000));
            continue;
        }
        for at in (cursor..cursor + place.ring_size / 2).step_by(8) {
            let offset = RingHeader::SIZE as u64 + at / 8 * 8 % place.ring_size;
            store(word(info, place.shm_offset + offset), attack.random.next());
        }
        word(info, written).store(cursor + place.ring_size / 2, Ordering::Release);
        count += 1;
    }
    count
}

/// Writes to any place of the MMIO page, aligned or not.
pub fn registers(attack: &mut Attack) -> u64 {
    let mut count = 0;
    while attack.goes_on() {
        let random = &mut attack.random;
        // Aligned more often than not, and not always what ends the guest.
        let at = match random.below(2) {
            0 => 8 * random.below(4),
            _ => random.below(4096 - 8),
        };
        let value = random.telling(2);
        let address = (MMIO_BASE + at) as usize;
        let target = core::ptr::with_exposed_provenance_mut::<u64>(address);
        if at != Register::Park.offset() {
            // SAFETY: in the MMIO page, behind which no memory is. The access may
            // not be aligned, which the processor takes and the VMM judges.
            unsafe { core::arch::asm!("mov [{}], {}", in(reg) target, in(reg) value) };
        }
        count += 1;
    }
    count
}
