//! On which core a vCPU runs.
//!
//! A vCPU that polls keeps a core busy. The monitor and a peer on this host take turns
//! on another: what they do for each other takes microseconds, and a scheduler that
//! moves one of the three now and then puts two that wait for each other on one core,
//! where it may leave them for seconds. So a vCPU stays on the core that it is on: then
//! the others gather elsewhere, because there is where cores fall idle. That is its
//! own business only as long as the core is: where somebody else computes there,
//! it goes where the scheduler has it, for a while that doubles.
//!
//! As many vCPUs do so as leave a core for others.

use nix::libc;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Judged are so much of the time that a vCPU is awake, and no less.
const PERIOD: Duration = Duration::from_millis(10);
/// Percent of that time that it has to run: with less, somebody computes on its core.
/// Short work of others there takes less than a third.
const OWN_PERCENT: u32 = 65;
/// First and longest time that it is left to the scheduler.
const FREE_MIN: Duration = Duration::from_millis(100);
const FREE_MAX: Duration = Duration::from_secs(10);

/// The cores that vCPUs of a guest stay on, a bit for each; of those past 63 none.
#[derive(Debug, Default)]
pub struct TakenCores(AtomicU64);

impl TakenCores {
    /// Takes a core, if no other vCPU has it and `most` are not taken yet.
    fn take(&self, core: usize, most: usize) -> bool {
        if core >= u64::BITS as usize {
            return false;
        }
        // Relaxed, here and below: nothing else is published with it.
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                let free = taken & 1 << core == 0 && (taken.count_ones() as usize) < most;
                free.then_some(taken | 1 << core)
            });
        taken.is_ok()
    }

    fn give_back(&self, core: usize) {
        self.0.fetch_and(!(1 << core), Ordering::Relaxed);
    }
}

/// Where a vCPU is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Where the scheduler has it, until then.
    Free(Instant),
    /// On that core.
    On(usize),
    /// Where somebody else has put it.
    Foreign,
}

/// Keeps the calling thread, which is a vCPU's, on its core while that pays.
#[derive(Debug)]
pub struct Placement {
    place: Place,
    /// The cores that it may use.
    cores: CpuSet,
    /// How long it is left to the scheduler the next time.
    free: Duration,
    since: Usage,
    /// How long it has slept since.
    slept: Duration,
}

/// What a thread had used at some time.
#[derive(Clone, Copy, Debug)]
struct Usage {
    at: Instant,
    ran: Duration,
}

impl Usage {
    fn now() -> Self {
        let ran = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
        Self {
            at: Instant::now(),
            // Every thread has that clock.
            ran: ran.map(Duration::from).unwrap_or_default(),
        }
    }
}

impl Placement {
    /// Of the calling thread, wherever it is.
    pub fn new() -> Self {
        let this = Pid::from_raw(0);
        let (place, cores) = match sched_getaffinity(this) {
            Ok(cores) => (Place::Free(Instant::now()), cores),
            // More cores than a set has.
            Err(_) => (Place::Foreign, CpuSet::new()),
        };
        Self {
            place,
            cores,
            free: FREE_MIN,
            since: Usage::now(),
            slept: Duration::ZERO,
        }
    }

    /// Takes note of a sleep, and moves or fixes the thread if it is time to.
    pub fn slept(&mut self, slept: Duration, taken: &TakenCores) {
        self.slept += slept;
        let awake = self.since.at.elapsed().saturating_sub(self.slept);
        if awake < PERIOD || self.place == Place::Foreign {
            return;
        }
        let now = Usage::now();
        let ran = now.ran.saturating_sub(self.since.ran);
        self.since = now;
        self.slept = Duration::ZERO;
        self.judge(ran >= awake * OWN_PERCENT / 100, taken);
    }

    /// Decides where to go on. `own`: the thread had its core to itself.
    fn judge(&mut self, own: bool, taken: &TakenCores) {
        match self.place {
            Place::On(core) if !own => {
                self.release(core, taken);
                self.free = (self.free * 2).min(FREE_MAX);
            }
            Place::On(_) => {
                // It went well for once: the next time is not soon after the last.
                self.free = (self.free - self.free / 8).max(FREE_MIN);
            }
            Place::Free(until) if Instant::now() >= until => self.fix(taken),
            Place::Free(_) | Place::Foreign => {}
        }
    }

    /// Stays on the core that it is on.
    fn fix(&mut self, taken: &TakenCores) {
        let Some(core) = current_core() else {
            return;
        };
        let this = Pid::from_raw(0);
        // Whoever changed it since has a reason: that is the set now.
        if let Ok(cores) = sched_getaffinity(this) {
            self.cores = cores;
        }
        let others = members(&self.cores).saturating_sub(1);
        if !taken.take(core, others) {
            return;
        }
        let mut only = CpuSet::new();
        let fixed = only.set(core).and_then(|()| sched_setaffinity(this, &only));
        match fixed {
            Ok(()) => self.place = Place::On(core),
            Err(_) => {
                taken.give_back(core);
                self.place = Place::Foreign;
            }
        }
    }

    /// Goes where the scheduler has it.
    fn release(&mut self, core: usize, taken: &TakenCores) {
        let this = Pid::from_raw(0);
        let ours = sched_getaffinity(this)
            .is_ok_and(|set| members(&set) == 1 && set.is_set(core) == Ok(true));
        let released = ours && sched_setaffinity(this, &self.cores).is_ok();
        taken.give_back(core);
        self.place = match released {
            true => Place::Free(Instant::now() + self.free),
            false => Place::Foreign,
        };
    }
}

/// How many cores are in a set.
fn members(set: &CpuSet) -> usize {
    let cores = 0..CpuSet::count();
    cores.filter(|&core| set.is_set(core) == Ok(true)).count()
}

/// The core that this code runs on.
fn current_core() -> Option<usize> {
    // SAFETY: the call has no arguments and no precondition.
    usize::try_from(unsafe { libc::sched_getcpu() }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn cores() -> usize {
        members(&sched_getaffinity(Pid::from_raw(0)).expect("a set"))
    }

    /// On a thread of its own, because it is the thread that is moved.
    fn on_a_thread(test: impl FnOnce() + Send) {
        thread::scope(|scope| {
            scope.spawn(test).join().expect("no panic");
        });
    }

    #[test]
    fn one_stays_where_it_is_while_the_core_is_its_own() {
        on_a_thread(|| {
            let (taken, all) = (TakenCores::default(), cores());
            let mut placement = Placement::new();
            placement.judge(true, &taken);
            if all == 1 {
                assert!(matches!(placement.place, Place::Free(_)));
                return;
            }
            let Place::On(core) = placement.place else {
                panic!("{placement:?}");
            };
            assert_eq!((cores(), current_core()), (1, Some(core)));
            placement.judge(true, &taken);
            assert_eq!(placement.place, Place::On(core));
            placement.judge(false, &taken);
            assert_eq!(cores(), all, "{placement:?}");
            placement.judge(true, &taken);
            assert!(matches!(placement.place, Place::Free(_)), "not at once");
            assert_eq!(taken.0.load(Ordering::Relaxed), 0);
        });
    }

    #[test]
    fn what_somebody_else_has_set_stays() {
        on_a_thread(|| {
            let (taken, all) = (TakenCores::default(), cores());
            let mut placement = Placement::new();
            let everywhere = placement.cores;
            placement.judge(true, &taken);
            sched_setaffinity(Pid::from_raw(0), &everywhere).expect("a set");
            for own in [true, false, true] {
                placement.judge(own, &taken);
                assert_eq!(cores(), all);
            }
        });
    }

    #[test]
    fn a_core_is_left_and_none_is_taken_twice() {
        let taken = TakenCores::default();
        assert!(!taken.take(0, 0));
        assert!(taken.take(1, 2) && !taken.take(1, 2) && taken.take(0, 2));
        assert!(!taken.take(2, 2));
        taken.give_back(1);
        assert!(taken.take(63, 2) && !taken.take(64, 9));
    }

    #[test]
    fn nothing_is_decided_before_a_period_is_over() {
        let taken = TakenCores::default();
        let mut placement = Placement::new();
        placement.slept(Duration::from_secs(3600), &taken);
        assert!(matches!(placement.place, Place::Free(_)));
    }
}
