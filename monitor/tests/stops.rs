//! A stop or an abort is never lost, whatever the monitor is doing when it comes.
//!
//! Each round is a session of its own whose Arca is in the middle of something: it
//! asks, rings and marks until a moment before, so that the monitor is awake, about
//! to sleep, or asleep. After the stop nothing else wakes the monitor.

mod common;

use arca_monitor::{Link, Monitor, MonitorConfig, SessionEnd};
use arca_shared::memory::Arena;
use arca_shared::protocol::message::Request;
use common::{CountingWaker, Peer};
use nix::libc;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// Small, to be made anew in little time.
const SIZE: usize = 1 << 20;
/// A monitor with nothing to deliver ends within microseconds.
const BOUND: Duration = Duration::from_secs(20);
/// Rounds, unless `ARCA_STOPS` says otherwise.
const ROUNDS: u64 = 2_000;

/// Numbers in no order that matters (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Makes memory as it was when it was mapped.
fn clear(arena: &Arena) {
    let base = arena.base().as_ptr().cast();
    // SAFETY: the whole mapping of an arena whose session is over: its monitor has
    // ended, and nothing else holds a pointer into it. Private memory reads as
    // zeros afterwards.
    let result = unsafe { libc::madvise(base, SIZE, libc::MADV_DONTNEED) };
    assert_eq!(result, 0, "memory is given back");
}

/// Lets Arca do something, and stops the session in the middle of it.
fn round(arena: &Arena, random: &mut Random) -> Result<Duration, String> {
    let waker = Arc::new(CountingWaker::default());
    let link = Link::new(arena.clone(), waker, 1).map_err(|error| error.to_string())?;
    let mut peer = Peer::new(&link, arena.clone());
    // One request in a turn: many turns, of which most do not begin with a sleep.
    let mut config = MonitorConfig::default();
    config.limits.frames = 1;
    let monitor = Monitor::new(link, config);
    let mut monitor = monitor.map_err(|error| error.to_string())?;
    let handle = monitor.handle();
    let (sender, ended) = channel();
    let thread = thread::spawn(move || {
        // Nobody listens any more where the session was given up.
        let _ = sender.send(monitor.event_loop());
    });
    // From now on the monitor sleeps until it is woken.
    peer.ring();
    for _ in 0..random.below(4) {
        for _ in 0..random.below(8) {
            peer.send(Request::Accept { listener_id: 9 });
        }
        match random.below(3) {
            0 => {}
            1 => peer.notify_control(),
            _ => peer.ring(),
        }
        for _ in 0..random.below(3_000) {
            std::hint::spin_loop();
        }
    }
    let began = Instant::now();
    match random.below(3) {
        0 => handle.abort(),
        1 => {
            handle.stop();
            handle.abort();
        }
        _ => handle.stop(),
    }
    let end = ended.recv_timeout(BOUND);
    let took = began.elapsed();
    let Ok(end) = end else {
        // It sleeps: the next edge has it look.
        peer.ring();
        let _ = thread.join();
        return Err("it was forgotten: only the next doorbell ended the session".into());
    };
    thread.join().map_err(|_| "the monitor panicked")?;
    match end {
        SessionEnd::Stopped => Ok(took),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn a_stop_at_any_moment_ends_the_session() {
    let rounds = std::env::var("ARCA_STOPS").ok();
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("a number"));
    let arena = common::arena(SIZE);
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let began = Instant::now();
    let (mut longest, mut lost) = (Duration::ZERO, Vec::new());
    for index in 0..rounds {
        match round(&arena, &mut random) {
            Ok(took) => longest = longest.max(took),
            Err(what) => lost.push(format!("round {index}: {what}")),
        }
        clear(&arena);
    }
    let rate = rounds as f64 / began.elapsed().as_secs_f64();
    println!("{rounds} stops, {rate:.0} a second, the slowest took {longest:?}");
    assert!(lost.is_empty(), "{} of {rounds}: {lost:#?}", lost.len());
}
