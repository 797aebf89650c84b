//! Breaking the pipes of connections while others are in use.

use crate::memory::{store, word};
use crate::{Attack, Random, connections};
use alloc::sync::Arc;
use arca_guest::net::{Error, Shutdown, SocketAddr, connect_async};
use arca_guest::process::ExitCode;
use arca_guest::time::Instant;
use arca_guest::{BootInfo, boot, eprintln, println, runtime, spawn};
use arca_shared::pipe::PipePlace;
use arca_shared::ring::RingHeader;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Breaks pipes on one vCPU while tasks on the others carry data.
pub fn pipes(attack: &mut Attack) -> ExitCode {
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

/// One hostile value in a pipe: a cursor, a flag, an errno, or data that was never put.
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
