//! The control pipe: requests that nobody should send, and too many of them.

use crate::Attack;
use crate::memory::word;
use alloc::boxed::Box;
use alloc::vec::Vec;
use arca_guest::futures::poll;
use arca_guest::net::{Ipv4Addr, bind_async, connect_async};
use arca_guest::{BootInfo, block_on, boot, eprintln, println, registers, runtime};
use arca_shared::memory::ShmOffset;
use arca_shared::ring::RingHeader;
use core::sync::atomic::Ordering;
use core::task::Poll;

/// Puts bytes into the control ring as they are, and notifies the monitor; `false` if
/// there is no room.
fn put_raw(info: &BootInfo, bytes: &[u8]) -> bool {
    let place = info.control;
    let cursor = word(info, place.shm_offset + 8);
    let read = word(info, place.shm_offset);
    let written = cursor.load(Ordering::Relaxed);
    let room = place.ring_size - written.wrapping_sub(read.load(Ordering::Acquire));
    if room < bytes.len() as u64 {
        return false;
    }
    for (at, byte) in (written..).zip(bytes) {
        let offset = place.shm_offset + RingHeader::SIZE as u64 + at % place.ring_size;
        let address = (info.arena_base + offset) as usize;
        let target = core::ptr::with_exposed_provenance_mut::<u8>(address);
        // SAFETY: inside the data of ring A of the control pipe, which is this
        // side's to write.
        unsafe { target.write_volatile(*byte) };
    }
    cursor.store(written + bytes.len() as u64, Ordering::Release);
    runtime::reactor().notify_monitor(ShmOffset(place.shm_offset).into());
    true
}

/// Well-formed frames of every known request with fields of any value, then ones
/// that are not.
pub fn frames(attack: &mut Attack) -> u64 {
    const REQUESTS: [(u8, usize); 11] = [
        (1, 6),
        (3, 6),
        (8, 4),
        (10, 12),
        (15, 4),
        (16, 4),
        (22, 4),
        (24, 5),
        (26, 14),
        (27, 6),
        (200, 9),
    ];
    let info = boot::info();
    let mut count = 0;
    while attack.goes_on() {
        let random = &mut attack.random;
        let (kind, len) = REQUESTS[random.below(REQUESTS.len() as u64) as usize];
        let mut frame = [0; 32];
        frame[0] = kind;
        frame[1] = len as u8;
        // Few ids, many times: each is used again while it waits.
        frame[3] = random.below(8) as u8;
        for (at, byte) in frame[7..7 + len].iter_mut().enumerate() {
            *byte = match (kind, at) {
                // Loopback, so that connects and listens do something.
                (1 | 3, 0) => 127,
                (24 | 26 | 27, 0) => 1 + random.below(2) as u8,
                (1 | 3, 4) => random.next() as u8,
                _ => random.below(3) as u8,
            };
        }
        count += u64::from(put_raw(info, &frame[..7 + len]));
        // Takes the replies, so that requests are not held back for long.
        if count % 64 == 0 {
            runtime::reactor().turn();
        }
    }
    eprintln!("frames: {count} times");
    // Cut short, and then something else where its rest should be. That ends the
    // session, and this program with it.
    let mut rest = [0xFF; 64];
    rest[..5].copy_from_slice(&[3, 6, 0, 1, 0]);
    let mut sent = false;
    loop {
        sent = sent || put_raw(info, &rest);
        runtime::reactor().turn();
        registers::park(Some(arca_guest::time::since_boot_ns() + 100_000));
    }
}

/// Opens a hundred connections and then crashes.
pub fn die(attack: &Attack) -> u64 {
    let kept = block_on(async {
        let mut kept = Vec::new();
        while kept.len() < 100 {
            match connect_async(attack.service()).await {
                Ok(stream) => kept.push(stream),
                Err(error) => panic!("connection {}: {error}", kept.len()),
            }
        }
        kept
    });
    eprintln!("{} connections", kept.len());
    // SAFETY: not kept, on purpose: the instruction is undefined for ever.
    unsafe { core::arch::asm!("ud2", options(noreturn)) }
}

/// Takes until refused, and says how much that was and what refused it.
pub fn hoard(attack: &Attack) -> u64 {
    /// More accepts than may wait.
    const ACCEPTS: usize = 5000;
    let address = attack.service();
    block_on(async {
        let mut kept = Vec::new();
        let refused = loop {
            match connect_async(address).await {
                Ok(stream) => kept.push(stream),
                Err(error) => break error,
            }
        };
        println!("connections: {}, then {refused}", kept.len());
        let mut listeners = Vec::new();
        let refused = loop {
            match bind_async((Ipv4Addr::LOCALHOST, 0).into()).await {
                Ok(listener) => listeners.push(listener),
                Err(error) => break error,
            }
        };
        println!("listeners: {}, then {refused}", listeners.len());
        let Some(listener) = listeners.first() else {
            return 0;
        };
        let accept = || Box::pin(listener.accept_async());
        let mut accepts: Vec<_> = core::iter::repeat_with(accept).take(ACCEPTS).collect();
        for accept in &mut accepts {
            drop(poll!(accept));
        }
        // Requests are begun in order: with this one, all before it were.
        drop(bind_async(listener.local_addr()).await);
        let (mut waiting, mut refused) = (0, None);
        for accept in &mut accepts {
            match poll!(accept) {
                Poll::Pending => waiting += 1,
                Poll::Ready(result) => refused = result.err(),
            }
        }
        match refused {
            Some(error) => println!("accepts: {waiting}, then {error}"),
            None => println!("accepts: {waiting}"),
        }
        kept.len() as u64
    })
}
