//! What a session's monitor is to allow and how it works.

use crate::connections::sizing::PipeSizes;
use crate::policy::PolicyConfig;
use std::time::Duration;

/// After so long Linux gives an orphaned connection up whose peer reads nothing:
/// with its default settings (tcp_orphan_retries), measured over loopback.
pub const ORPHAN_TIMEOUT: Duration = Duration::from_secs(341);

/// Configuration of a [`Monitor`](crate::Monitor).
#[derive(Clone, Debug)]
pub struct MonitorConfig {
    /// How much of everything there may be.
    pub limits: Limits,
    /// What the guest may reach.
    pub policy: PolicyConfig,
    /// How large data pipes are.
    pub pipe_sizes: PipeSizes,
    /// How long a peer may take nothing of what Arca wrote to it before it closed
    /// both ends, until the connection is given up. Linux has the same bound for a
    /// connection that nobody has open any more. A peer that takes something now
    /// and then is waited for, as Linux waits. The kernel counts in milliseconds: one
    /// at least, 2^31 - 1 at most.
    pub orphan_timeout: Duration,
    /// How long, after a guest is gone that did not end in order, nothing may be
    /// delivered of what its connections still have to send, before that is given
    /// up.
    pub drain: Duration,
    /// How long that may take in all, whatever progress there is: a peer that
    /// takes a byte now and then holds nothing up for ever.
    pub drain_limit: Duration,
    /// The longest that the monitor polls, before it sleeps, for the answer of a guest
    /// that was awake when it was notified. It does so while most answers come within
    /// that time, and lets others have the core in between. Zero is not at all; a
    /// millisecond is the most.
    pub busy_poll: Duration,
    /// Whether pages of rings are filled in before the guest touches them: where its
    /// first access to one is dear, and less so if the host has had it before, as under
    /// KVM, where the VMM has it on. What is filled in is bounded by what connections move.
    pub prefault: bool,
    /// Bytes that a connection may move in each direction before others have
    /// their turn: at least 1, and 64 MiB at most. A system call counts as 4 KiB at
    /// least. Where there are many connections, their rings hold less than that.
    pub turn_budget: usize,
}

/// The most of what others have to wait for while the monitor does it.
const BUSY_POLL_MAX: Duration = Duration::from_millis(1);
const TURN_BUDGET_MAX: usize = 64 << 20;
const FRAMES_MAX: usize = 1 << 16;
/// More than any arena has.
const PIPE_SIZE_MAX: u64 = 1 << 40;

impl MonitorConfig {
    /// The same, with each value that the monitor could not work with replaced by
    /// the nearest that it can.
    pub(crate) fn workable(mut self) -> Self {
        self.busy_poll = self.busy_poll.min(BUSY_POLL_MAX);
        self.turn_budget = self.turn_budget.clamp(1, TURN_BUDGET_MAX);
        self.limits.frames = self.limits.frames.clamp(1, FRAMES_MAX);
        self.limits.arena_percent = self.limits.arena_percent.min(100);
        let sizes = &mut self.pipe_sizes;
        for size in [&mut sizes.largest, &mut sizes.smallest] {
            *size = (*size).min(PIPE_SIZE_MAX);
        }
        self
    }
}

impl Default for MonitorConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            policy: PolicyConfig::default(),
            pipe_sizes: PipeSizes::default(),
            orphan_timeout: ORPHAN_TIMEOUT,
            drain: Duration::from_secs(5),
            drain_limit: Duration::from_secs(60),
            busy_poll: Duration::from_micros(25),
            prefault: false,
            turn_budget: 512 << 10,
        }
    }
}

/// Limits of one session. A request past one gets an error, never less than
/// what others have already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections; past it a connect gets ENFILE, an accept waits.
    pub connections: usize,
    /// Listeners; past it a listen gets ENFILE.
    pub listeners: usize,
    /// Accepts that wait; past it an accept gets EAGAIN.
    pub accepts: usize,
    /// Connects on their way; past it a connect gets EAGAIN.
    pub connects: usize,
    /// Names being resolved; past it a connect by name gets EAGAIN.
    pub lookups: usize,
    /// Requests of any kind that wait for their reply; past it they get EAGAIN.
    /// Never more than those whose replies are sure to fit the reply ring.
    pub requests: usize,
    /// Requests taken in one turn, before connections have theirs: at least 1, and
    /// 65,536 at most.
    pub frames: usize,
    /// Percent of the arena that data pipes may take, 100 at most; past it a connect gets
    /// ENOBUFS, an accept waits.
    pub arena_percent: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 65_536,
            listeners: 1_024,
            accepts: 4_096,
            connects: 4_096,
            lookups: 256,
            requests: 8_192,
            frames: 256,
            arena_percent: 100,
        }
    }
}
