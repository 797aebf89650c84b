//! The ring alone, between two threads, beside memcpy and beside rtrb.
//!
//! The ring carries messages from one thread to another, each copied in and
//! copied out. Beside it:
//!
//! - memcpy: one thread copies the same messages once, from memory to memory: what
//!   comes from another processor is not in one's own cache either;
//! - cached memcpy: the same, one message over and over around a buffer as large
//!   as the ring, all in the processor's own cache;
//! - rtrb's ring of that size.

use crate::plan::{Plan, Workload};
use crate::row::Row;
use crate::target::Target;
use anyhow::{Context, Result};
use arca_shared::memory::Arena;
use arca_shared::memory::BuddyAllocator;
use arca_shared::pipe::PipeRegion;
use arca_shared::pipe::{BidirectionalPipe, RingSize, Side};
use arca_shared::ring::{ArenaRing, Consumer, Producer};
use indicatif::ProgressBar;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::hint::{black_box, spin_loop};
use std::io::{Read, Write};
use std::ptr::NonNull;
use std::thread;
use std::time::{Duration, Instant};

/// Size of the pipe's region: what the monitor gives a connection while there is
/// room.
const REGION: u64 = 512 << 10;
/// Size of the arena that it is in.
const ARENA: usize = 4 << 20;
/// Size of an area that no cache holds, in bytes.
const FAR: usize = 128 << 20;
/// Sizes of the messages.
const SIZES: [usize; 6] = [64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10];
/// Looks at an empty or full ring before the thread lets others run.
const SPINS: u32 = 10_000;

/// Measures all sizes.
///
/// # Errors
///
/// If the ring's memory cannot be had, or a thread fails.
pub fn ring(plan: &Plan, progress: &ProgressBar) -> Result<Vec<Row>> {
    let size = RingSize::for_region(REGION).context("the ring's size")?;
    let capacity = size.get() as usize;
    progress.set_length((SIZES.len() * (plan.ring_pairs + 1)) as u64);
    let mut copies = Copies::new();
    let mut rows = Vec::new();
    for message in SIZES {
        let (mut ring, mut rtrb) = (Vec::new(), Vec::new());
        let (mut memory, mut cached) = (Vec::new(), Vec::new());
        let mut count = (16 << 20) / message;
        for number in 0..=plan.ring_pairs {
            let ours = Ring::new(size)?.carry(message, count)?;
            let far = copies.copy(message, count);
            let near = copied(message, capacity, count);
            let theirs = carried_by_rtrb(message, capacity, count)?;
            if number == 0 {
                // The round that is not counted says how many make a sample.
                let wanted = plan.ring_ns as f64 / 1e9 * ours * GIB;
                count = (wanted as usize / message).max(1);
            } else {
                ring.push(ours);
                memory.push(far);
                cached.push(near);
                rtrb.push(theirs);
            }
            progress.inc(1);
        }
        let name = match message {
            1024.. => format!("{} KiB", message >> 10),
            _ => format!("{message} B"),
        };
        let beside = |other: &'static str, values: Vec<f64>| {
            let metric = format!("{name} beside {other}");
            Row::new(Workload::Ring, metric, "GiB/s", values, ring.clone())
                .between(other, "ring")
                .drawn_at(format!("beside {other}, by bytes (GiB/s)"), message as f64)
        };
        let copy = beside("memcpy", memory);
        rows.push(match message == 64 << 10 {
            true => copy.must(Target::RatioAtLeast(0.8)),
            false => copy,
        });
        rows.push(beside("cached memcpy", cached).detail());
        rows.push(beside("rtrb", rtrb));
    }
    Ok(rows)
}

const GIB: f64 = (1u64 << 30) as f64;

/// GiB per second.
fn rate(message: usize, count: usize, took: Duration) -> f64 {
    (message * count) as f64 / GIB / took.as_secs_f64()
}

/// Keeps the calling thread on one processor, where there are two: which of them
/// the two threads get is not left to luck.
fn pin(processor: usize) {
    let mut set = CpuSet::new();
    if thread::available_parallelism().is_ok_and(|count| count.get() > processor)
        && set.set(processor).is_ok()
    {
        // Where it is forbidden, it is left to luck.
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}

/// Waits for a peer that has not come far enough.
struct Spin(u32);

impl Spin {
    fn wait(&mut self) {
        self.0 += 1;
        match self.0.is_multiple_of(SPINS) {
            true => thread::yield_now(),
            false => spin_loop(),
        }
    }
}

/// Runs two threads and gives the time from the first one's start to the last
/// one's end.
fn race(
    send: impl FnOnce() -> Result<()> + Send,
    receive: impl FnOnce() -> Result<()> + Send,
) -> Result<Duration> {
    thread::scope(|scope| {
        let start = Instant::now();
        let receiver = scope.spawn(|| {
            pin(1);
            receive()
        });
        let sender = scope.spawn(|| {
            pin(0);
            send()
        });
        let gone = |_| anyhow::anyhow!("a thread panicked");
        sender.join().map_err(gone)??;
        receiver.join().map_err(gone)??;
        Ok(start.elapsed())
    })
}

/// One direction of a pipe, and what it lies in.
struct Ring {
    producer: Producer<ArenaRing>,
    consumer: Consumer<ArenaRing>,
    _region: PipeRegion,
    _memory: Vec<u128>,
}

impl Ring {
    fn new(size: RingSize) -> Result<Self> {
        // Not zeros from the allocator: pages that were never written.
        let mut memory = vec![1u128; ARENA / size_of::<u128>()];
        memory.fill(0);
        let base = NonNull::from(memory.as_mut_slice()).cast();
        // SAFETY: the vector is the ring's, neither moved nor looked at before
        // the ring is dropped, and its memory is writable. The arena's blocks
        // are only reached through it.
        let arena = unsafe { Arena::new(base, ARENA) };
        let allocator = BuddyAllocator::new(arena);
        let region = PipeRegion::allocate(&allocator, size)
            .ok()
            .context("the ring's memory")?;
        let join = |side| BidirectionalPipe::join(allocator.arena(), region.place(), side);
        let (producer, _) = join(Side::A).context("the pipe")?.into_split();
        let (_, consumer) = join(Side::B).context("the pipe")?.into_split();
        Ok(Self {
            producer,
            consumer,
            _region: region,
            _memory: memory,
        })
    }

    fn carry(&mut self, message: usize, count: usize) -> Result<f64> {
        let Self {
            producer, consumer, ..
        } = self;
        let send = || {
            let source = vec![0x5a; message];
            for _ in 0..count {
                let mut spin = Spin(0);
                while producer.free_for(message)? < message {
                    spin.wait();
                }
                producer.write(&source)?;
            }
            Ok(())
        };
        let receive = || {
            let mut target = vec![0; message];
            for _ in 0..count {
                let mut spin = Spin(0);
                while consumer.available_for(message)? < message {
                    spin.wait();
                }
                consumer.read(&mut target)?;
            }
            black_box(target);
            Ok(())
        };
        Ok(rate(message, count, race(send, receive)?))
    }
}

fn carried_by_rtrb(message: usize, capacity: usize, count: usize) -> Result<f64> {
    let (mut producer, mut consumer) = rtrb::RingBuffer::<u8>::new(capacity);
    let send = || {
        let source = vec![0x5a; message];
        for _ in 0..count {
            let mut spin = Spin(0);
            while producer.slots() < message {
                spin.wait();
            }
            producer.write_all(&source)?;
        }
        Ok(())
    };
    let receive = || {
        let mut target = vec![0; message];
        for _ in 0..count {
            let mut spin = Spin(0);
            while consumer.slots() < message {
                spin.wait();
            }
            consumer.read_exact(&mut target)?;
        }
        black_box(target);
        Ok(())
    };
    Ok(rate(message, count, race(send, receive)?))
}

/// Two areas too large for any cache.
struct Copies {
    source: Vec<u8>,
    target: Vec<u8>,
    at: usize,
}

impl Copies {
    fn new() -> Self {
        Self {
            source: vec![0x5a; FAR],
            target: vec![1; FAR],
            at: 0,
        }
    }

    /// Copies messages once, on this thread.
    fn copy(&mut self, message: usize, count: usize) -> f64 {
        let start = Instant::now();
        for _ in 0..count {
            if self.at + message > FAR {
                self.at = 0;
            }
            let range = self.at..self.at + message;
            self.target[range.clone()].copy_from_slice(&self.source[range]);
            self.at += message;
        }
        black_box(&self.target);
        rate(message, count, start.elapsed())
    }
}

/// Copies one message over and over, on this thread.
fn copied(message: usize, capacity: usize, count: usize) -> f64 {
    let source = vec![0x5a_u8; message];
    let mut target = vec![1_u8; capacity.max(message)];
    let mut at = 0;
    let start = Instant::now();
    for _ in 0..count {
        if at + message > target.len() {
            at = 0;
        }
        target[at..at + message].copy_from_slice(black_box(&source));
        at += message;
    }
    black_box(&target);
    rate(message, count, start.elapsed())
}
