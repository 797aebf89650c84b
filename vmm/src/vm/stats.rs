//! What a guest did, in numbers.

use crate::platform::Platform;
use arca_monitor::MonitorStats;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a guest did so far.
#[derive(Clone, Debug, Default)]
pub struct VmStats {
    /// What carries the guest.
    pub platform: Platform,
    /// The monitor's part.
    pub monitor: MonitorStats,
    /// How often a vCPU left the kernel for the VMM.
    pub vcpu_exits: u64,
    /// How often a vCPU asked to sleep.
    pub parks: u64,
    /// How often one really slept: no token was waiting, no deadline past.
    pub sleeps: u64,
    /// How often the monitor or a vCPU woke one, or left it a token.
    pub wakes: u64,
    /// How many of those wakes came from another vCPU.
    pub kicks: u64,
    /// Bytes of standard output that the guest wrote and the host took.
    pub stdout_bytes: u64,
}

impl VmStats {
    /// Every number with its name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let own = [
            ("vcpu_exits", self.vcpu_exits),
            ("parks", self.parks),
            ("sleeps", self.sleeps),
            ("wakes", self.wakes),
            ("kicks", self.kicks),
            ("stdout_bytes", self.stdout_bytes),
        ];
        self.monitor.named().chain(own)
    }
}

/// A line for each number, its name first.
impl fmt::Display for VmStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "statistics\n  {:<18} {}", "platform", self.platform)?;
        self.named()
            .try_for_each(|(name, value)| write!(f, "\n  {name:<18} {value}"))
    }
}

/// A number that goes up.
///
/// Relaxed throughout: a counter orders nothing, and whoever needs the final
/// number has joined the threads that count.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The VMM's own counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub vcpu_exits: Counter,
    pub parks: Counter,
    pub sleeps: Counter,
    pub wakes: Counter,
    pub kicks: Counter,
}
