//! `tasks [N]`: checks the executor: N tasks (1,000 unless given) that sleep,
//! talk over channels, are notified, stay on their vCPU, are waited for, run out of time
//! and are cancelled; then the clock, which two vCPUs read in turn.
//!
//! Prints what it has checked and on how many vCPUs tasks ran, and exits 0; 1 if
//! something was not as it should be.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arca_guest::sync::{Channel, Mutex, Notify, SendError, channel};
use arca_guest::time::{Duration, Instant};
use arca_guest::{
    Elapsed, args, block_on, boot, eprintln, futures, interval, println, sleep, spawn, spawn_local,
    timeout, vcpu, yield_now,
};
use core::cell::Cell;
use core::fmt;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

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
        closers(count).await?;
        notified(count).await?;
        locals(count).await?;
        ticks().await?;
        ends().await
    })?;
    block_inside_task(count)?;
    clocks()?;
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

/// A channel whose senders go, and one whose receiver does.
async fn closers(count: u64) -> Result<(), Wrong> {
    let (sender, receiver) = channel(4);
    for number in 0..count {
        let sender = sender.clone();
        spawn(async move {
            yield_now().await;
            note_vcpu();
            sender.send(number).await
        })
        .detach();
    }
    drop(sender);
    let mut sum = 0;
    while let Some(number) = receiver.recv().await {
        sum += number;
    }
    let (sender, receiver) = channel(1);
    let full = sender.send(1).await.is_ok() && sender.try_send(2).is_err();
    let waiting = spawn(async move { sender.send(3).await });
    yield_now().await;
    drop(receiver);
    check(
        sum == count * (count - 1) / 2 && full && waiting.await == Err(SendError(3)),
        "a channel ends when either side has gone",
    )
}

/// Tasks that are notified one after the other.
async fn notified(count: u64) -> Result<(), Wrong> {
    let notify = Arc::new((Notify::new(), AtomicU64::new(0)));
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let notify = notify.clone();
            spawn(async move {
                notify.0.notified().await;
                note_vcpu();
                // Relaxed: whoever comes next is told by the notification.
                notify.1.fetch_add(1, Ordering::Relaxed);
                notify.0.notify_one();
            })
        })
        .collect();
    notify.0.notify_one();
    futures::future::join_all(tasks).await;
    check(
        notify.1.load(Ordering::Relaxed) == count,
        "every task was notified, one by another",
    )
}

/// Tasks that may not leave their vCPU, with others in between that may.
async fn locals(count: u64) -> Result<(), Wrong> {
    let home = vcpu::current();
    let at_home = Rc::new(Cell::new(0));
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            let at_home = at_home.clone();
            spawn_local(async move {
                let elsewhere = spawn(async move {
                    sleep(Duration::from_micros(number % 100)).await;
                    note_vcpu();
                });
                elsewhere.await;
                at_home.set(at_home.get() + u64::from(vcpu::current() == home));
            })
        })
        .collect();
    let endless = spawn_local(sleep(Duration::from_secs(3600)));
    futures::future::join_all(tasks).await;
    check(
        at_home.get() == count
            && endless.cancel().await.is_none()
            && Rc::strong_count(&at_home) == 1,
        "local tasks ran where they were started",
    )
}

/// A clock that ticks.
async fn ticks() -> Result<(), Wrong> {
    let period = Duration::from_millis(1);
    let mut clock = interval(period);
    let first = clock.tick().await;
    // The second, third and fourth are due by then, and the fifth is to come.
    sleep(period * 3).await;
    let mut due = first;
    for _ in 0..4 {
        due = clock.tick().await;
    }
    check(
        due == first + period * 4 && Instant::now() >= due,
        "an interval ticks in time and loses no tick",
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

/// How often a vCPU reads the time of the other one, at least.
const TIMES: u64 = 200_000;
/// For how long both read the clock, at most: with one processor for two vCPUs
/// there is hardly ever a new time to see.
const READING: Duration = Duration::from_secs(2);

/// What two vCPUs last read of the clock, each its own, in nanoseconds.
static READ: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// Reads the clock, each time after loading what the other vCPU read last: by
/// how many nanoseconds its own time was behind that, at most.
fn read_clock(own: &AtomicU64, other: &AtomicU64) -> u64 {
    let end = Instant::now() + READING;
    let (mut last, mut seen, mut behind) = (0, 0, 0);
    while seen < TIMES {
        // Acquire pairs with the release below: the other's reading came before.
        let theirs = other.load(Ordering::Acquire);
        let ours = Instant::now();
        own.store(ours.as_boot_ns(), Ordering::Release);
        behind = behind.max(theirs.saturating_sub(ours.as_boot_ns()));
        seen += u64::from(theirs != last);
        last = theirs;
        if ours > end {
            break;
        }
    }
    behind
}

/// The clock on two vCPUs at once, where there are two.
fn clocks() -> Result<(), Wrong> {
    let [first, second] = &READ;
    let behind = match boot::info().vcpus {
        1 => read_clock(first, first),
        _ => {
            let reader = spawn(async move { read_clock(second, first) });
            // This vCPU waits for nothing meanwhile: another one takes the task.
            let behind = read_clock(first, second);
            behind.max(block_on(reader))
        }
    };
    if behind != 0 {
        eprintln!("a clock was {behind} ns behind another");
    }
    check(behind == 0, "time did not go back between vCPUs")
}
