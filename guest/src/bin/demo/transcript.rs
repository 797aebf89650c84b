//! What is printed.

use alloc::format;
use arca_guest::println;
use arca_guest::time::{Duration, Instant};
use core::fmt;

/// Prints each step as it is done, with its time.
pub(crate) struct Transcript {
    start: Instant,
    step_start: Instant,
    steps: u32,
}

impl Transcript {
    pub(crate) fn start() -> Transcript {
        println!("Arca demo: a guest without a network stack, on the host's sockets");
        let now = Instant::now();
        Transcript {
            start: now,
            step_start: now,
            steps: 0,
        }
    }

    /// Ends a step; what follows belongs to the next one.
    pub(crate) fn step(&mut self, name: &str, what: fmt::Arguments<'_>) {
        let took = self.step_start.elapsed();
        self.steps += 1;
        println!("{:3}. {name:<8} {:>9}  {what}", self.steps, Time(took));
        self.step_start = Instant::now();
    }

    pub(crate) fn finish(self) {
        println!(
            "done: {} steps in {}",
            self.steps,
            Time(self.start.elapsed())
        );
    }
}

/// A duration as people read it.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0.as_micros() {
            micros @ 0..1_000 => format!("{micros} µs"),
            micros @ 1_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
            micros => format!("{:.2} s", micros as f64 / 1e6),
        };
        f.pad(&text)
    }
}
