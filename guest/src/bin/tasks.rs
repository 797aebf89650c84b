//! `tasks [N]`: checks the executor: N tasks (1,000 unless given) that sleep,
//! talk over a channel, are waited for, run out of time and are cancelled.
//!
//! Prints what it has checked and on how many vCPUs tasks ran, and exits 0; 1 if
//! something was not as it should be.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec::Vec;
use arca_guest::sync::{Channel, Mutex};
use arca_guest::time::{Duration, Instant};
use arca_guest::{
    Elapsed, args, block_on, eprintln, futures, println, sleep, spawn, timeout, vcpu, yield_now,
};
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

arca_guest::entry!(main);

/// What was not as it should be.
struct Wrong(&'static str);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

fn check(holds: bool, what: &'static str) -> Result<(), Wrong> {
    if holds {
        println!("ok: {what}");
        return Ok(());
    }
    eprintln!("wrong: {what}");
    Err(Wrong(what))
}

/// A bit for each vCPU that a task ran on.
static USED: AtomicUsize = AtomicUsize::new(0);

fn note_vcpu() {
    // Relaxed: read after all tasks were joined, which orders it.
    USED.fetch_or(1 << vcpu::current(), Ordering::Relaxed);
}

fn main() -> Result<(), Wrong> {
    let count = args().nth(1).and_then(|count| count.parse().ok());
    let count: u64 = count.unwrap_or(1000).max(1);
    block_on(async {
        sleepers(count).await?;
        talkers(count).await?;
        lockers(count).await?;
        ends().await
    })?;
    block_inside_task(count)?;
    println!("ran on {} vCPUs", USED.load(Ordering::Relaxed).count_ones());
    Ok(())
}

/// Tasks that sleep, each for a time of its own, and are joined.
async fn sleepers(count: u64) -> Result<(), Wrong> {
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            spawn(async move {
                let time = Duration::from_micros(number * 7919 % 20_000);
                let start = Instant::now();
                sleep(time).await;
                note_vcpu();
                start.elapsed() >= time
            })
        })
        .collect();
    let slept = futures::future::join_all(tasks).await;
    check(
        slept.len() as u64 == count && slept.iter().all(|&slept| slept),
        "every task slept as long as it wanted, at least",
    )
}

/// Tasks that send over one small channel.
async fn talkers(count: u64) -> Result<(), Wrong> {
    let channel = Arc::new(Channel::<u64, 4>::new());
    for number in 0..count {
        let channel = channel.clone();
        spawn(async move {
            yield_now().await;
            note_vcpu();
            channel.send(number).await;
        })
        .detach();
    }
    let mut sum = 0;
    for _ in 0..count {
        sum += channel.receive().await;
    }
    check(
        sum == count * (count - 1) / 2,
        "what was sent over a channel was received",
    )
}

/// Tasks that hold a mutex over a wait.
async fn lockers(count: u64) -> Result<(), Wrong> {
    let value = Arc::new(Mutex::new(0));
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let value = value.clone();
            spawn(async move {
                let mut value = value.lock().await;
                let before = *value;
                yield_now().await;
                note_vcpu();
                *value = before + 1;
            })
        })
        .collect();
    futures::future::join_all(tasks).await;
    check(
        *value.lock().await == count,
        "a mutex kept tasks apart, also over a wait",
    )
}

/// Time-outs and cancellation.
async fn ends() -> Result<(), Wrong> {
    let long = Duration::from_secs(3600);
    let short = Duration::from_millis(2);
    check(
        timeout(short, sleep(long)).await == Err(Elapsed)
            && timeout(long, sleep(short)).await == Ok(()),
        "a time-out ends a long wait and spares a short one",
    )?;
    let endless = spawn(sleep(long));
    yield_now().await;
    check(
        endless.cancel().await.is_none() && spawn(async { 7 }).await == 7,
        "a task can be cancelled, and another one gives its output",
    )
}

/// Blocking calls inside tasks: others run meanwhile, on the same stack.
fn block_inside_task(count: u64) -> Result<(), Wrong> {
    let tasks: Vec<_> = (0..count.min(100))
        .map(|number| {
            spawn(async move {
                note_vcpu();
                block_on(sleep(Duration::from_micros(number)));
                number
            })
        })
        .collect();
    let total: u64 = block_on(futures::future::join_all(tasks)).iter().sum();
    let count = count.min(100);
    check(
        total == count * (count - 1) / 2,
        "tasks that block let others run",
    )
}
