//! What a vCPU's thread has used of its core, and what that says of others.

use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// Percent of the time in which it is awake that a thread has to run: with less, somebody
/// computes on its core. Short work of others there takes less than a third.
const OWN_PERCENT: u32 = 65;
/// One that is interrupted more often than once in so much of its time awake shares
/// its core with short work; a thread that computes keeps it for milliseconds. A service that
/// the scheduler has put there interrupts it 11 to 22 times in 10 ms.
const INTERRUPTED: Duration = Duration::from_millis(1);
/// Percent of all time that a vCPU is awake if it needs a core for itself: one that polls
/// for each answer is awake for 75 at least. A server of many short connections is for 50 if
/// it has a core to itself, and for 33 beside the monitor, which is faster.
const AWAKE_PERCENT: u32 = 65;
/// Sleeps that are shorter than this on average are those of one that waits for answers. A
/// guest polls for 100 µs at least if its sleeps, exits included, take less than 200.
const BRIEF: Duration = Duration::from_micros(150);

/// Who else used the core of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Neighbour {
    /// Nobody who matters.
    Nobody,
    /// Threads that have short work again and again.
    Brief,
    /// One that computes.
    Computing,
}

/// What a thread had used at some time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pub(super) at: Instant,
    ran: Duration,
    /// What all threads of the process had, this one included.
    process_ran: Duration,
    /// How often it had lost its core while it had something to do.
    interrupted: i64,
}

impl Usage {
    /// What the calling thread and its process have used up to now.
    pub(super) fn now() -> Self {
        // Every thread has all of them.
        let time = |clock| clock_gettime(clock).map(Duration::from).unwrap_or_default();
        let usage = getrusage(UsageWho::RUSAGE_THREAD);
        Self {
            at: Instant::now(),
            ran: time(ClockId::CLOCK_THREAD_CPUTIME_ID),
            process_ran: time(ClockId::CLOCK_PROCESS_CPUTIME_ID),
            interrupted: usage.map_or(0, |usage| usage.involuntary_context_switches()),
        }
    }

    /// What was used since then, in which time the thread has slept so long and so often.
    pub(super) fn since(&self, then: &Self, slept: Duration, sleeps: u32) -> Period {
        let all = self.at.saturating_duration_since(then.at);
        let ran = self.ran.saturating_sub(then.ran);
        let process_ran = self.process_ran.saturating_sub(then.process_ran);
        Period {
            all,
            awake: all.saturating_sub(slept),
            sleeps,
            ran,
            others_ran: process_ran.saturating_sub(ran),
            interrupted: u32::try_from(self.interrupted.saturating_sub(then.interrupted))
                .unwrap_or(0),
        }
    }
}

/// What a thread has used in a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct Period {
    all: Duration,
    /// How much of it the thread had something to do.
    awake: Duration,
    /// How often it slept.
    sleeps: u32,
    ran: Duration,
    /// What the process's other threads ran, the monitor's first of all.
    others_ran: Duration,
    interrupted: u32,
}

impl Period {
    /// Whether the thread was awake for so much of it that it needs a core.
    pub(super) fn is_busy(&self) -> bool {
        self.awake > self.all * AWAKE_PERCENT / 100
    }

    /// Whether the thread sleeps for moments only, while the monitor has little to do: both
    /// wait for each other, or for somebody whom they wait for in turn.
    pub(super) fn waits_for_answers(&self) -> bool {
        let slept = self.all.saturating_sub(self.awake);
        slept < BRIEF * self.sleeps && self.others_ran < self.all / 2
    }

    /// Who else used its core meanwhile.
    pub(super) fn neighbour(&self) -> Neighbour {
        if INTERRUPTED * self.interrupted > self.awake {
            Neighbour::Brief
        } else if self.ran < self.awake * OWN_PERCENT / 100 {
            Neighbour::Computing
        } else {
            Neighbour::Nobody
        }
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A period of that many µs, awake for so many, with so many sleeps, in which the
    /// process's other threads ran that long.
    pub fn period(all: u64, awake: u64, sleeps: u32, others_ran: u64) -> Period {
        let us = Duration::from_micros;
        Period {
            all: us(all),
            awake: us(awake),
            sleeps,
            ran: us(awake),
            others_ran: us(others_ran),
            interrupted: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::period;
    use super::*;

    #[test]
    fn what_a_thread_has_used_says_who_was_on_its_core() {
        let ms = Duration::from_millis;
        let used = |all, awake, ran, interrupted| Period {
            all: ms(all),
            awake: ms(awake),
            sleeps: 0,
            ran: ms(ran),
            others_ran: ms(0),
            interrupted,
        };
        for (neighbour, period) in [
            (Neighbour::Nobody, used(10, 10, 10, 0)),
            // As measured: an end of a connection on the vCPU's core, and elsewhere.
            (Neighbour::Brief, used(12, 10, 7, 60)),
            (Neighbour::Nobody, used(16, 16, 16, 4)),
            // A loop that computes has every other time slice.
            (Neighbour::Computing, used(12, 12, 6, 2)),
            // A service of many connections, whose answers come in batches.
            (Neighbour::Brief, used(16, 11, 8, 15)),
            (Neighbour::Nobody, used(10, 10, 7, 10)),
            (Neighbour::Brief, used(10, 10, 7, 11)),
            (Neighbour::Computing, used(10, 10, 6, 10)),
        ] {
            assert_eq!(period.neighbour(), neighbour, "{period:?}");
        }
        assert!(used(15, 10, 10, 0).is_busy() && !used(16, 10, 10, 0).is_busy());
    }

    #[test]
    fn who_waits_for_answers_sleeps_briefly_and_is_not_kept_waiting_by_the_monitor() {
        for (waits, period) in [
            // As measured: a sleep for each round trip of 120 µs.
            (true, period(27_000, 10_000, 220, 10_000)),
            // A server of new connections; a stream; one that waits for a client.
            (false, period(20_000, 10_000, 150, 18_000)),
            (false, period(25_000, 10_000, 50, 20_000)),
            (false, period(100_000, 10_000, 300, 5_000)),
            (true, period(25_001, 10_001, 101, 12_499)),
            (false, period(25_000, 10_000, 100, 12_499)),
            (false, period(25_000, 10_000, 101, 12_500)),
        ] {
            assert_eq!(period.waits_for_answers(), waits, "{period:?}");
        }
    }
}
