//! The thresholds of waking and polling.

use std::time::Duration;

/// Every threshold by which wakes are deferred and work is polled for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WakePolicy {
    /// How long a busy monitor defers a wake. What the guest waits for is late by no
    /// more than it takes to wake a vCPU, which is tens of microseconds.
    pub(crate) hold: Duration,
    /// How long a vCPU that is awake has to take the mark that is watched before another is
    /// woken for it; one that came later may stand for twice as long. A
    /// vCPU that was just woken, and runs what it took then, needs some of that.
    pub(crate) hold_for_awake: Duration,
    /// A wake that carried so many bytes is one of a stream: a program that asks and
    /// waits for its answer moves less.
    pub(crate) bulk_bytes: usize,
    /// From a wake of a stream to the next. Half of the largest ring fills in that
    /// time, so that the guest takes from one half what goes into the other.
    pub(crate) bulk_pause: Duration,
    /// A wake that carried so many marks is one of a crowd: the next is likely to
    /// carry as many if it waits.
    pub(crate) crowd_marks: u32,
    /// From a wake of a crowd to the next. Shorter than after a stream's, because
    /// each member of a crowd waits for its own answer.
    pub(crate) crowd_pause: Duration,
    /// The longest that the monitor polls for the answer of a guest that was awake when
    /// it was notified: about what a doorbell and the wake-up by it cost where an exit
    /// takes 10 to 17 µs.
    pub(crate) busy_poll: Duration,
    /// How long of that it keeps its core to itself. After that others have it between
    /// two polls: a peer on this host may have been waiting for it. Not so for a while
    /// after one has kept it for a time slice.
    pub(crate) keep_core: Duration,
    /// Polls of the ready set for each read of the clock, which costs as much as
    /// several of them.
    pub(crate) polls_per_clock_read: u32,
    /// Turns in a row that begin with a guest's answer and skip the epoll, before the
    /// network has its turn.
    pub(crate) max_turns_without_epoll: u32,
    /// How long the monitor sleeps at most amid a burst of doorbells, of which one may be
    /// deferred: how late it learns of what a task wrote that then ran for longer than was
    /// foreseen, or on a vCPU that then lost its core. Longer than a tick of a kernel with
    /// 250 a second, so that setting the timer and taking it back touches no hardware.
    pub(crate) look_again: Duration,
    /// The tick of polling mode while something moves: the delay of a request to a
    /// peer that never rings.
    pub(crate) tick_min: Duration,
    /// The tick of polling mode that an idle session backs off to: a thousand wake-ups
    /// a second are few enough for a host.
    pub(crate) tick_max: Duration,
}

impl WakePolicy {
    /// The policy of a session that polls for a guest's answer for `busy_poll`.
    pub(crate) const fn new(busy_poll: Duration) -> Self {
        Self {
            hold: Duration::from_micros(100),
            hold_for_awake: Duration::from_micros(200),
            bulk_bytes: 64 << 10,
            bulk_pause: Duration::from_micros(300),
            crowd_marks: 8,
            crowd_pause: Duration::from_micros(80),
            busy_poll,
            keep_core: Duration::from_micros(3),
            polls_per_clock_read: 4,
            max_turns_without_epoll: 16,
            look_again: Duration::from_millis(5),
            tick_min: Duration::from_micros(50),
            tick_max: Duration::from_millis(1),
        }
    }
}
