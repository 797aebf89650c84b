//! The cores that the vCPUs of a guest stay on, and those who make way for them.

use nix::libc;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long others may be on a core before they make way again: it takes tens of
/// microseconds, and a scheduler may put them back at once.
const WAY_MIN: Duration = Duration::from_millis(1);

/// The cores that vCPUs of a guest stay on, a bit for each; of those past 63 none.
#[derive(Debug, Default)]
pub struct TakenCores {
    // Always Relaxed: nothing else is published with it, and a stale one is no more
    // than a thread on a core that another is about to leave or to take.
    taken: AtomicU64,
    /// Those of them that others stay off. Relaxed, for the same reason.
    reserved: AtomicU64,
    /// When others made way for the last time.
    made_way: Mutex<Option<Instant>>,
}

impl TakenCores {
    /// Takes a core, if no other vCPU has it and `most` are not taken yet.
    pub(super) fn take(&self, core: usize, most: usize) -> bool {
        self.update(|taken| {
            let free = (taken.count_ones() as usize) < most;
            with(taken, core).filter(|_| free)
        })
    }

    /// Takes `next` for `core`, if no vCPU has it.
    pub(super) fn change(&self, core: usize, next: usize) -> bool {
        self.update(|taken| Some(with(taken, next)? & !bit(core)?))
    }

    /// Leaves a core to others.
    pub(super) fn give_back(&self, core: usize) {
        self.share(core);
        self.update(|taken| Some(taken & !bit(core)?));
    }

    /// Has others stay off a core that was taken, from when they next wake a vCPU.
    pub(super) fn reserve(&self, core: usize) {
        let bit = bit(core).unwrap_or(0);
        self.reserved.fetch_or(bit, Ordering::Relaxed);
    }

    /// Lets others be on a core that was reserved, from when they next wake a vCPU.
    pub(super) fn share(&self, core: usize) {
        let bit = bit(core).unwrap_or(0);
        self.reserved.fetch_and(!bit, Ordering::Relaxed);
    }

    fn update(&self, change: impl FnMut(u64) -> Option<u64>) -> bool {
        let taken = &self.taken;
        let updated = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
        updated.is_ok()
    }

    /// Has the calling thread, which is not a vCPU's, leave the core that it is on if a
    /// vCPU stays there. Where it goes from then on is the scheduler's, but for a core
    /// that is reserved.
    pub fn make_way(&self) {
        stay_off(self.reserved.load(Ordering::Relaxed));
        let taken = self.taken.load(Ordering::Relaxed);
        if taken == 0 {
            return;
        }
        let Some(core) = current_core() else {
            return;
        };
        if bit(core).is_none_or(|bit| taken & bit == 0) {
            return;
        }
        let now = Instant::now();
        // A panic leaves nothing half done.
        let mut made_way = self.made_way.lock().unwrap_or_else(PoisonError::into_inner);
        if made_way.is_some_and(|at| now < at + WAY_MIN) {
            return;
        }
        *made_way = Some(now);
        if let Some(away) = Away::go(taken) {
            away.come_back();
        }
    }

    #[cfg(test)]
    pub(super) fn is_reserved(&self, core: usize) -> bool {
        bit(core).is_some_and(|bit| self.reserved.load(Ordering::Relaxed) & bit != 0)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.taken.load(Ordering::Relaxed) == 0
    }
}

/// Where a thread that has left some cores could go before, and where it can now.
#[derive(Clone, Copy)]
struct Away {
    from: u64,
    all: CpuSet,
    others: CpuSet,
}

thread_local! {
    /// The calling thread's, while it stays off the cores that are reserved.
    static AWAY: Cell<Option<Away>> = const { Cell::new(None) };
}

impl Away {
    /// Has the calling thread leave these cores, if it may use any other.
    fn go(from: u64) -> Option<Self> {
        let this = Pid::from_raw(0);
        // Fails if there are more cores than a set has.
        let all = sched_getaffinity(this).ok()?;
        let mut others = CpuSet::new();
        for core in (0..CpuSet::count()).filter(|&core| all.is_set(core) == Ok(true)) {
            if bit(core).is_none_or(|bit| from & bit == 0) {
                // In the set that it comes from it has a place.
                let _ = others.set(core);
            }
        }
        // Refused if it may use no other.
        sched_setaffinity(this, &others).ok()?;
        Some(Self { from, all, others })
    }

    /// Lets the calling thread go where it could before, unless somebody else has
    /// changed that since.
    fn come_back(&self) {
        let this = Pid::from_raw(0);
        if sched_getaffinity(this) == Ok(self.others) {
            // Should that fail, it has the others.
            let _ = sched_setaffinity(this, &self.all);
        }
    }
}

/// Has the calling thread stay off these cores until it is told of others or of none.
fn stay_off(reserved: u64) {
    let away = AWAY.get();
    if away.map_or(0, |away| away.from) == reserved {
        return;
    }
    if let Some(away) = away {
        away.come_back();
    }
    AWAY.set(match reserved {
        0 => None,
        _ => Away::go(reserved),
    });
}

/// The bit of a core, if it has one.
fn bit(core: usize) -> Option<u64> {
    1_u64.checked_shl(u32::try_from(core).ok()?)
}

/// These cores and that one, if it is not among them.
fn with(cores: u64, core: usize) -> Option<u64> {
    let bit = bit(core)?;
    (cores & bit == 0).then_some(cores | bit)
}

/// How many cores are in a set.
pub(super) fn members(set: &CpuSet) -> usize {
    let cores = 0..CpuSet::count();
    cores.filter(|&core| set.is_set(core) == Ok(true)).count()
}

/// The core that this code runs on.
pub(super) fn current_core() -> Option<usize> {
    // SAFETY: the call has no arguments and no precondition.
    usize::try_from(unsafe { libc::sched_getcpu() }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

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
    fn one_changes_to_a_core_that_nobody_has() {
        let taken = TakenCores::default();
        assert!(taken.take(0, 2) && taken.take(1, 2));
        assert!(!taken.change(0, 1) && !taken.change(0, 0) && !taken.change(0, 64));
        assert!(taken.change(0, 2));
        assert!(!taken.take(1, 9) && !taken.take(2, 9) && taken.take(0, 9));
    }

    #[test]
    fn others_make_way_for_a_vcpu_that_needs_its_core() {
        thread::spawn(|| {
            let this = Pid::from_raw(0);
            let all = sched_getaffinity(this).expect("a set");
            if members(&all) == 1 {
                return;
            }
            // The scheduler may move it before and after.
            const ROUNDS: usize = 20;
            let left = (0..ROUNDS).filter(|_| {
                let taken = TakenCores::default();
                let core = current_core().expect("a core");
                taken.make_way();
                assert_eq!(*taken.made_way.lock().expect("no panic"), None, "no need");
                assert!(taken.take(core, 64));
                taken.make_way();
                assert_eq!(sched_getaffinity(this), Ok(all), "it may go where it could");
                current_core() != Some(core)
            });
            let left = left.count();
            assert!(left > ROUNDS / 2, "left {left} of {ROUNDS} times");
        })
        .join()
        .expect("no panic");
    }

    #[test]
    fn others_stay_off_a_core_for_as_long_as_it_is_reserved() {
        thread::spawn(|| {
            let this = Pid::from_raw(0);
            let now = || sched_getaffinity(this).expect("a set");
            let all = now();
            let mut cores = (0..64).filter(|&core| all.is_set(core) == Ok(true));
            let (first, second) = (cores.next().expect("a core"), cores.next());
            let without = |core| {
                let mut others = all;
                others.unset(core).expect("it is in the set");
                others
            };
            let taken = TakenCores::default();
            taken.reserve(first);
            assert_eq!(now(), all, "not before it wakes a vCPU");
            let Some(second) = second else {
                taken.make_way();
                assert_eq!(now(), all, "it may use no other");
                return;
            };
            for _ in 0..2 {
                taken.make_way();
                assert_eq!(now(), without(first));
            }
            taken.share(first);
            taken.reserve(second);
            taken.make_way();
            assert_eq!(now(), without(second));
            taken.give_back(second);
            taken.make_way();
            assert_eq!(now(), all);
            // Somebody else decides where the thread runs.
            taken.reserve(first);
            taken.make_way();
            let mut elsewhere = CpuSet::new();
            elsewhere.set(first).expect("a core of a set");
            sched_setaffinity(this, &elsewhere).expect("a core of its own");
            taken.share(first);
            taken.make_way();
            assert_eq!(now(), elsewhere);
        })
        .join()
        .expect("no panic");
    }

    #[test]
    fn one_that_has_made_way_does_so_again_after_a_while_only() {
        let taken = TakenCores::default();
        for core in 0..64 {
            assert!(taken.take(core, 64));
        }
        let at = || *taken.made_way.lock().expect("no panic");
        taken.make_way();
        let first = at();
        taken.make_way();
        let again = at();
        assert!(first.is_some() && (again == first || again >= first.map(|at| at + WAY_MIN)));
        *taken.made_way.lock().expect("no panic") = first.map(|at| at - WAY_MIN);
        taken.make_way();
        assert!(at() >= first);
    }
}
