//! Writing where the program has no business to.

use crate::{Attack, connections};
use alloc::vec::Vec;
use arca_guest::{BootInfo, boot, registers};
use arca_shared::pipe::PipePlace;
use arca_shared::ring::RingHeader;
use core::sync::atomic::{AtomicU64, Ordering};

/// The word of the arena at `offset`, which is below its length.
pub fn word(info: &BootInfo, offset: u64) -> &'static AtomicU64 {
    let address = info.arena_base + (offset & !7) % info.arena_len;
    let word = core::ptr::with_exposed_provenance::<AtomicU64>(address as usize);
    // SAFETY: aligned and inside the arena, which is mapped for good. That it is
    // not ours to write is the point: what else reaches it are atomics and copies
    // of this program that are prepared for anything.
    unsafe { &*word }
}

/// Stores a hostile value.
pub fn store(word: &AtomicU64, value: u64) {
    // Relaxed: noise has no order.
    word.store(value, Ordering::Relaxed);
}

/// Writes over all of the arena, most of all where it hurts.
pub fn scribble(attack: &mut Attack) -> u64 {
    let info = boot::info();
    let streams = match attack.port {
        0 => Vec::new(),
        _ => connections(attack, 8),
    };
    // Where it hurts: pipes that live, were freed, or are everybody's.
    let mut targets: Vec<u64> = streams.iter().map(|s| s.end().place().shm_offset).collect();
    let vital = [info.control, info.stdin, info.stdout, info.log];
    targets.extend(vital.map(|place| place.shm_offset));
    targets.push(info.notify_offset);
    // Some spare the pipes that all depends on, and so live longer.
    let spared = match attack.random.below(2) {
        0 => &vital[..],
        _ => &[],
    };
    let mut count = 0;
    while attack.goes_on() {
        for _ in 0..4096 {
            let random = &mut attack.random;
            let at = match random.below(4) {
                0 => random.below(info.arena_len),
                1 => random.below(info.arena_len) / 4096 * 4096 + random.below(24),
                _ => targets[random.below(targets.len() as u64) as usize] + random.below(4096),
            };
            if !spared.iter().any(|place| extent(place).contains(&at)) {
                store(word(info, at), random.telling(info.control.ring_size));
                count += 1;
            }
        }
        registers::ring_doorbell();
    }
    core::mem::forget(streams);
    count
}

/// The bytes of the arena that a pipe takes.
fn extent(place: &PipePlace) -> core::ops::Range<u64> {
    let size = 2 * (RingHeader::SIZE as u64 + place.ring_size);
    place.shm_offset..place.shm_offset + size
}
