//! `hostile ATTACK MILLIS SEED [PORT]`: does what a guest must not do, for so many
//! milliseconds, to show that it hurts nobody but itself.
//!
//! | attack | what it does |
//! |---|---|
//! | scribble | writes over all of the arena: headers, cursors, ready sets, sleep flags, the control ring, freed regions |
//! | pipes | breaks the pipes of its own live connections to PORT, while other connections carry data that is checked |
//! | frames | sends requests with bogus ids and in any order, then frames that are cut |
//! | storm | rings, kicks, marks and parks as fast as it can |
//! | uart, log | floods the UART, or the log pipe with records of any shape |
//! | registers | writes to any place of the MMIO page |
//! | die | opens 100 connections to PORT and then crashes |
//! | hoard | takes connections to PORT, listeners and accepts until refused |
//!
//! Exits with 0 where the attack leaves the program alive, after saying how much
//! it did. The same seed does the same.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arca_guest::futures::poll;
use arca_guest::net::{AsyncStream, Error, Ipv4Addr, Shutdown, SocketAddr};
use arca_guest::net::{bind_async, connect_async};
use arca_guest::process::{ExitCode, exit};
use arca_guest::time::{Duration, Instant};
use arca_guest::{BootInfo, args, block_on, boot, eprintln, println, registers, runtime, spawn};
use arca_shared::arena::ShmOffset;
use arca_shared::boot::PipePlace;
use arca_shared::layout::{MMIO_BASE, mmio};
use arca_shared::ring::RingHeader;
use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use core::task::Poll;

arca_guest::entry!(main);

/// A generator: xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit.max(1)
    }

    /// A number of the kind that breaks things: small, large, or anything.
    fn telling(&mut self, near: u64) -> u64 {
        match self.below(5) {
            0 => self.below(4),
            1 => near.wrapping_add(self.below(16)).wrapping_sub(8),
            2 => u64::MAX - self.below(16),
            3 => self.below(near.saturating_mul(2)),
            _ => self.next(),
        }
    }
}

struct Attack {
    random: Random,
    end: Instant,
    port: u16,
}

impl Attack {
    fn goes_on(&self) -> bool {
        Instant::now() < self.end
    }

    fn service(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

fn main() -> ExitCode {
    let mut args = args().skip(1);
    let name = args.next().unwrap_or("");
    let mut number = || args.next().and_then(|text| text.parse::<u64>().ok());
    let (Some(millis), Some(seed)) = (number(), number()) else {
        eprintln!("usage: hostile ATTACK MILLIS SEED [PORT]");
        exit(ExitCode(2));
    };
    let mut attack = Attack {
        random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
        end: Instant::now() + Duration::from_millis(millis),
        port: number().and_then(|port| port.try_into().ok()).unwrap_or(0),
    };
    let done = match name {
        "scribble" => scribble(&mut attack),
        "pipes" => return pipes(&mut attack),
        "frames" => frames(&mut attack),
        "storm" => storm(&mut attack),
        "uart" => flood_uart(&mut attack),
        "log" => flood_log(&mut attack),
        "registers" => write_registers(&mut attack),
        "die" => die(&attack),
        "hoard" => hoard(&mut attack),
        _ => {
            eprintln!("there is no attack {name:?}");
            exit(ExitCode(2));
        }
    };
    println!("{name}: {done} times");
    ExitCode::SUCCESS
}

/// The word of the arena at `offset`, which is below its length.
fn word(info: &BootInfo, offset: u64) -> &'static AtomicU64 {
    let address = info.arena_base + (offset & !7) % info.arena_len;
    let word = core::ptr::with_exposed_provenance::<AtomicU64>(address as usize);
    // SAFETY: aligned and inside the arena, which is mapped for good. That it is
    // not ours to write is the point: what else reaches it are atomics and copies
    // of this program that are prepared for anything.
    unsafe { &*word }
}

fn store(word: &AtomicU64, value: u64) {
    // Relaxed: noise has no order.
    word.store(value, Ordering::Relaxed);
}

/// Opens connections, so that there is something to break, and frees some.
fn connections(attack: &Attack, count: usize) -> Vec<AsyncStream> {
    let connect = async {
        let mut streams = Vec::new();
        for _ in 0..count {
            if let Ok(stream) = connect_async(attack.service()).await {
                streams.push(stream);
            }
        }
        streams
    };
    let mut streams = block_on(connect);
    streams.truncate(count / 2);
    streams
}

fn scribble(attack: &mut Attack) -> u64 {
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

/// Breaks pipes on one vCPU while tasks on the others carry data.
fn pipes(attack: &mut Attack) -> ExitCode {
    const CARRIERS: u64 = 8;
    static LEFT: AtomicUsize = AtomicUsize::new(CARRIERS as usize);
    static WRONG: AtomicUsize = AtomicUsize::new(0);
    let (info, address, end) = (boot::info(), attack.service(), attack.end);
    for carrier in 0..CARRIERS {
        let carry = async move {
            let mut round = carrier;
            while Instant::now() < end {
                round += CARRIERS;
                if let Err(error) = exchange(address, round, 256 << 10).await {
                    eprintln!("connection {round}: {error}");
                    WRONG.fetch_add(1, Ordering::SeqCst);
                }
            }
            LEFT.fetch_sub(1, Ordering::SeqCst);
            round / CARRIERS
        };
        spawn(carry).detach();
    }
    let mut broken = 0;
    while LEFT.load(Ordering::SeqCst) > 0 {
        let victims = connections(attack, 8);
        for stream in &victims {
            let place = stream.end().place();
            // With both of its flags set the pipe would be given up, and its memory
            // be another's: one of them is left alone.
            let spared = attack.random.below(2);
            for _ in 0..attack.random.below(200) {
                break_pipe(info, place, spared, &mut attack.random);
            }
            runtime::reactor().notify_monitor(stream.shm_offset().into());
        }
        broken += victims.len();
    }
    let wrong = WRONG.load(Ordering::SeqCst);
    println!("pipes: {broken} broken, {wrong} others harmed");
    match wrong {
        0 if broken > 0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// One lie in a pipe: a cursor, a flag, an errno, or data that was never put.
/// Arca's own flag of the ring `spared` is left alone.
fn break_pipe(info: &BootInfo, place: PipePlace, spared: u64, random: &mut Random) {
    let ring = random.below(2);
    let base = place.shm_offset + ring * (RingHeader::SIZE as u64 + place.ring_size);
    match random.below(8) {
        0..4 => store(
            word(info, base + 8 * random.below(2)),
            random.telling(place.ring_size),
        ),
        4 | 5 => {
            // writer_closed of ring A and reader_closed of ring B are Arca's.
            let byte = random.below(8);
            if (ring, byte) != (spared, spared) {
                let address = (info.arena_base + base + 16 + byte) as usize;
                let byte = core::ptr::with_exposed_provenance::<AtomicU8>(address);
                // SAFETY: a byte of a ring header, which is in the arena; see `word`.
                unsafe { &*byte }.store(random.next() as u8, Ordering::Relaxed);
            }
        }
        _ => {
            let at = RingHeader::SIZE as u64 + random.below(place.ring_size - 8);
            store(word(info, base + at), random.next());
        }
    }
}

/// Sends `len` bytes to the echo service and compares what comes back.
async fn exchange(address: SocketAddr, seed: u64, len: usize) -> Result<(), Error> {
    let stream = Arc::new(connect_async(address).await?);
    let sender = stream.clone();
    let sending = spawn(async move {
        let mut random = Random(seed | 1);
        let mut buffer = [0; 4096];
        for _ in 0..len / buffer.len() {
            fill(&mut random, &mut buffer);
            sender.write_all(&buffer).await?;
        }
        sender.shutdown(Shutdown::Write)
    });
    let (mut random, mut expected) = (Random(seed | 1), [0; 4096]);
    for _ in 0..len / expected.len() {
        fill(&mut random, &mut expected);
        let mut got = [0; 4096];
        stream.read_exact(&mut got).await?;
        if got != expected {
            return Err(Error::Protocol("other bytes came back"));
        }
    }
    sending.await?;
    match stream.read(&mut expected).await? {
        0 => Ok(()),
        _ => Err(Error::Protocol("more bytes came back")),
    }
}

fn fill(random: &mut Random, buffer: &mut [u8]) {
    for chunk in buffer.chunks_exact_mut(8) {
        chunk.copy_from_slice(&random.next().to_le_bytes());
    }
}

/// Puts bytes into the control ring as they are, and tells the monitor; `false` if
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
fn frames(attack: &mut Attack) -> u64 {
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

fn storm(attack: &mut Attack) -> u64 {
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

fn flood_uart(attack: &mut Attack) -> u64 {
    let mut count = 0;
    while attack.goes_on() {
        let register = mmio::UART + attack.random.below(mmio::UART_LEN);
        let address = (MMIO_BASE + register) as usize;
        let target = core::ptr::with_exposed_provenance_mut::<u8>(address);
        // SAFETY: a byte-wide register of the UART; no memory is behind it.
        unsafe { target.write_volatile(b'!' + (count % 90) as u8) };
        count += 1;
    }
    count
}

/// Records of any shape, straight into the ring.
fn flood_log(attack: &mut Attack) -> u64 {
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

fn write_registers(attack: &mut Attack) -> u64 {
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
        if at != mmio::PARK {
            // SAFETY: in the MMIO page, behind which no memory is. The access may
            // not be aligned, which the processor takes and the VMM judges.
            unsafe { core::arch::asm!("mov [{}], {}", in(reg) target, in(reg) value) };
        }
        count += 1;
    }
    count
}

fn die(attack: &Attack) -> u64 {
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
fn hoard(attack: &mut Attack) -> u64 {
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
