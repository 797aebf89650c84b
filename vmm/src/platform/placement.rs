//! On which core a vCPU runs.
//!
//! A vCPU that polls keeps a core busy. The monitor and a peer on this host take turns
//! on another: what they do for each other takes microseconds, and a scheduler that
//! moves one of the three now and then puts two that wait for each other on one core,
//! where it may leave them for seconds. So a vCPU that is awake much of the time stays on
//! the core that it is on: then the others gather elsewhere, because there is where
//! cores fall idle.
//!
//! Two things end that, and what the vCPU's thread has used says which. Where short work
//! of others interrupts it, one that it works with has stayed on its core, and waits
//! there until the vCPU has polled: the vCPU changes to another core, where the monitor
//! makes way for it. Where somebody else computes, the vCPU goes where the scheduler has
//! it. Both are done for a time that doubles while they do not help. A change has helped
//! once a vCPU was left alone, however soon somebody is back.
//!
//! A vCPU that sleeps more than a third of the time is the scheduler's: the two ends of a
//! stream are faster on a core each, and its own work fits in between. One that sleeps
//! for moments, again and again, while the monitor has little to do either, is waiting
//! for answers that a poll would find: its polls fail because whoever is to answer is
//! woken on its core, and has to wait there for the poll to end. Such a vCPU is tried on
//! another core, which the monitor stays off for that time. If it then polls, it stays.
//!
//! As many vCPUs stay on a core as leave one for others.

use crate::platform::cores::{TakenCores, current_core, members};
use crate::platform::usage::{Neighbour, Period, Usage};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// Judged are so much of the time that a vCPU is awake, and no less.
const PERIOD: Duration = Duration::from_millis(10);
/// So many periods in a row in which somebody else computes on its core make it leave: one
/// may be a single burst.
const COMPUTING_MAX: u32 = 2;
/// How long it is left to the scheduler then, the first time.
const FREE_MIN: Duration = Duration::from_millis(100);
/// How long after a trial that has changed nothing the next one may be, the first time.
const TRIAL_PAUSE_MIN: Duration = Duration::from_millis(100);
/// How long it stays on a core before it may change to another, the first time.
const STAY_MIN: Duration = Duration::from_millis(10);
/// The longest that any of these becomes by doubling.
const LONGEST: Duration = Duration::from_secs(10);

/// Where a vCPU is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Where the scheduler has it, until then.
    Free(Instant),
    /// On that core.
    On(usize),
    /// On that core, which others stay off, to see whether it polls there: for two
    /// periods, because a guest that has given up polling polls once in 65 sleeps.
    /// `more`: the first of them is not over.
    Trial { core: usize, more: bool },
    /// Where somebody else has put it.
    Foreign,
}

/// Keeps the calling thread, which is a vCPU's, on a core while that pays.
#[derive(Debug)]
pub struct Placement {
    place: Place,
    /// The cores that it may use.
    cores: CpuSet,
    /// How long it is left to the scheduler the next time.
    free: Duration,
    /// Periods in a row in which somebody else computed on its core.
    computing: u32,
    /// When it may change to another core, and for how long it stays there then.
    stays_until: Instant,
    stay: Duration,
    /// When the next trial may begin, and how long the one after it has to wait.
    trial_at: Instant,
    trial_pause: Duration,
    since: Usage,
    /// How long and how often it has slept since.
    slept: Duration,
    sleeps: u32,
}

impl Placement {
    /// Of the calling thread, wherever it is.
    pub fn new() -> Self {
        let this = Pid::from_raw(0);
        let now = Instant::now();
        let (place, cores) = match sched_getaffinity(this) {
            Ok(cores) => (Place::Free(now), cores),
            // More cores than a set has.
            Err(_) => (Place::Foreign, CpuSet::new()),
        };
        Self {
            place,
            cores,
            free: FREE_MIN,
            computing: 0,
            stays_until: now,
            stay: STAY_MIN,
            trial_at: now,
            trial_pause: TRIAL_PAUSE_MIN,
            since: Usage::now(),
            slept: Duration::ZERO,
            sleeps: 0,
        }
    }

    /// Takes note of a sleep, and moves or fixes the thread if it is time to.
    pub fn slept(&mut self, slept: Duration, taken: &TakenCores) {
        if self.place == Place::Foreign {
            return;
        }
        self.slept += slept;
        // How often it sleeps in a period is the guest's to say.
        self.sleeps = self.sleeps.saturating_add(1);
        let awake = self.since.at.elapsed().saturating_sub(self.slept);
        if awake < PERIOD {
            return;
        }
        let now = Usage::now();
        let period = now.since(&self.since, self.slept, self.sleeps);
        self.since = now;
        self.slept = Duration::ZERO;
        self.sleeps = 0;
        self.decide(&period, taken);
    }

    /// Decides by what it has used where it goes on.
    fn decide(&mut self, period: &Period, taken: &TakenCores) {
        match (period.is_busy(), self.place) {
            (true, Place::Trial { core, .. }) => {
                taken.share(core);
                self.place = Place::On(core);
                self.trial_pause = TRIAL_PAUSE_MIN;
                self.judge(period.neighbour(), taken);
            }
            (true, _) => self.judge(period.neighbour(), taken),
            (false, Place::Trial { core, more: true }) => {
                self.place = Place::Trial { core, more: false };
            }
            (false, Place::Trial { core, more: false }) => {
                self.release(core, Duration::ZERO, taken);
                self.trial_at = Instant::now() + self.trial_pause;
                self.trial_pause = (self.trial_pause * 2).min(LONGEST);
            }
            (false, Place::On(core)) => self.release(core, Duration::ZERO, taken),
            (false, Place::Free(until)) if period.waits_for_answers() => {
                self.try_elsewhere(until, taken);
            }
            (false, Place::Free(_) | Place::Foreign) => {}
        }
    }

    /// Tries another core, which others stay off, if it is time to and the thread is no
    /// longer left to the scheduler.
    fn try_elsewhere(&mut self, free_until: Instant, taken: &TakenCores) {
        if Instant::now() < self.trial_at.max(free_until) {
            return;
        }
        self.fix(Neighbour::Brief, taken);
        if let Place::On(core) = self.place {
            taken.reserve(core);
            self.place = Place::Trial { core, more: true };
        }
    }

    /// Decides where one that needs a core for itself goes on.
    fn judge(&mut self, neighbour: Neighbour, taken: &TakenCores) {
        let now = Instant::now();
        self.computing = match neighbour {
            Neighbour::Computing => self.computing.saturating_add(1),
            Neighbour::Nobody | Neighbour::Brief => 0,
        };
        match (self.place, neighbour) {
            (Place::On(core), Neighbour::Computing) if self.computing >= COMPUTING_MAX => {
                self.release(core, self.free, taken);
                self.free = (self.free * 2).min(LONGEST);
            }
            (Place::On(core), Neighbour::Brief) if now >= self.stays_until => {
                self.change(core, taken);
                self.stays_until = now + self.stay;
                self.stay = (self.stay * 2).min(LONGEST);
            }
            (Place::On(_), Neighbour::Nobody) => {
                // It went well for once: the next time is not soon after the last.
                self.free = (self.free - self.free / 8).max(FREE_MIN);
                // The change has helped. What it works with is pulled back to this core
                // sooner or later, as it falls idle for a moment: then the next helps, too.
                self.stay = STAY_MIN;
            }
            (Place::Free(until), here) if now >= until => self.fix(here, taken),
            _ => {}
        }
    }

    /// Stays on the core that it is on, or on the next if others have work `here`.
    fn fix(&mut self, here: Neighbour, taken: &TakenCores) {
        let this = Pid::from_raw(0);
        // Whoever changed it since has a reason: that is the set now.
        if let Ok(cores) = sched_getaffinity(this) {
            self.cores = cores;
        }
        let Some(core) = current_core() else {
            return;
        };
        let others = members(&self.cores).saturating_sub(1);
        let core = match here {
            Neighbour::Brief => self.next(core, |next| taken.take(next, others)),
            Neighbour::Nobody | Neighbour::Computing => {
                Some(core).filter(|&core| taken.take(core, others))
            }
        };
        if let Some(core) = core {
            self.stay_on(core, taken);
        }
    }

    /// Goes to the next core that no vCPU has taken and stays there, if there is one.
    fn change(&mut self, core: usize, taken: &TakenCores) {
        let Some(next) = self.next(core, |next| taken.change(core, next)) else {
            return;
        };
        if self.is_on(core) {
            self.stay_on(next, taken);
        } else {
            taken.give_back(next);
            self.place = Place::Foreign;
        }
    }

    /// The first of those after a core, of which the thread may use any, that is taken.
    fn next(&self, core: usize, take: impl Fn(usize) -> bool) -> Option<usize> {
        let count = CpuSet::count();
        let mut others = (1..count).map(|step| (core + step) % count);
        others.find(|&other| self.cores.is_set(other) == Ok(true) && take(other))
    }

    /// Stays on a core that was taken for it.
    fn stay_on(&mut self, core: usize, taken: &TakenCores) {
        let mut only = CpuSet::new();
        let set = only.set(core);
        self.place = match set.and_then(|()| sched_setaffinity(Pid::from_raw(0), &only)) {
            Ok(()) => Place::On(core),
            Err(_) => {
                taken.give_back(core);
                Place::Foreign
            }
        };
    }

    /// Whether the thread is kept on that core, and nobody has changed it.
    fn is_on(&self, core: usize) -> bool {
        sched_getaffinity(Pid::from_raw(0))
            .is_ok_and(|set| members(&set) == 1 && set.is_set(core) == Ok(true))
    }

    /// Goes where the scheduler has it, for so long.
    fn release(&mut self, core: usize, free: Duration, taken: &TakenCores) {
        let released = self.is_on(core) && sched_setaffinity(Pid::from_raw(0), &self.cores).is_ok();
        taken.give_back(core);
        self.place = match released {
            true => Place::Free(Instant::now() + free),
            false => Place::Foreign,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::usage::testing::period;
    use std::thread;

    fn cores() -> usize {
        members(&sched_getaffinity(Pid::from_raw(0)).expect("a set"))
    }

    /// On a thread of its own, because it is the thread that is moved: with its placement,
    /// no core taken, and how many there are.
    fn on_a_thread(test: impl FnOnce(Placement, &TakenCores, usize) + Send) {
        thread::scope(|scope| {
            let test = || test(Placement::new(), &TakenCores::default(), cores());
            scope.spawn(test).join().expect("no panic");
        });
    }

    #[test]
    fn one_stays_where_it_is_until_somebody_computes_there() {
        on_a_thread(|mut placement, taken, all| {
            placement.judge(Neighbour::Nobody, taken);
            if all == 1 {
                assert!(matches!(placement.place, Place::Free(_)));
                return;
            }
            let Place::On(core) = placement.place else {
                panic!("{placement:?}");
            };
            assert_eq!((cores(), current_core()), (1, Some(core)));
            let (burst, calm) = (Neighbour::Computing, Neighbour::Nobody);
            for neighbour in [calm, burst, calm, burst, calm] {
                placement.judge(neighbour, taken);
                assert_eq!(
                    placement.place,
                    Place::On(core),
                    "a burst is not a neighbour"
                );
            }
            placement.judge(burst, taken);
            placement.judge(burst, taken);
            assert_eq!(cores(), all, "{placement:?}");
            placement.judge(calm, taken);
            assert!(matches!(placement.place, Place::Free(_)), "not at once");
            assert!(taken.is_empty());
        });
    }

    #[test]
    fn one_that_is_interrupted_changes_to_a_core_that_no_vcpu_has() {
        on_a_thread(|mut placement, taken, all| {
            placement.fix(Neighbour::Nobody, taken);
            let Place::On(first) = placement.place else {
                assert_eq!(all, 1);
                return;
            };
            placement.judge(Neighbour::Brief, taken);
            let Place::On(second) = placement.place else {
                panic!("{placement:?}");
            };
            assert_ne!(first, second);
            assert_eq!((cores(), current_core()), (1, Some(second)));
            assert!(!taken.take(second, 64) && taken.take(first, 64));
            placement.judge(Neighbour::Brief, taken);
            assert_eq!(placement.place, Place::On(second), "not again at once");
            if all == 2 {
                placement.stays_until = Instant::now();
                placement.judge(Neighbour::Brief, taken);
                assert_eq!(placement.place, Place::On(second), "there is no other");
            }
        });
    }

    #[test]
    fn changes_that_help_are_no_further_apart() {
        on_a_thread(|mut placement, taken, all| {
            placement.fix(Neighbour::Nobody, taken);
            let mut change = |helps| {
                placement.stays_until = Instant::now();
                let before = placement.place;
                placement.judge(Neighbour::Brief, taken);
                assert_ne!(placement.place, before);
                if helps {
                    placement.judge(Neighbour::Nobody, taken);
                }
                placement.stay
            };
            if all == 1 {
                return;
            }
            for _ in 0..4 {
                assert_eq!(change(true), STAY_MIN);
            }
            for doublings in 1..=4 {
                assert_eq!(change(false), STAY_MIN * (1 << doublings));
            }
            assert_eq!(change(true), STAY_MIN, "the one that helps ends it");
            assert!((0..12).map(|_| change(false)).all(|stay| stay <= LONGEST));
        });
    }

    #[test]
    fn what_somebody_else_has_set_stays() {
        on_a_thread(|mut placement, taken, all| {
            let everywhere = placement.cores;
            placement.judge(Neighbour::Nobody, taken);
            sched_setaffinity(Pid::from_raw(0), &everywhere).expect("a set");
            for neighbour in [Neighbour::Brief, Neighbour::Computing, Neighbour::Computing] {
                placement.judge(neighbour, taken);
                assert_eq!(cores(), all);
            }
        });
    }

    #[test]
    fn one_that_sleeps_much_of_the_time_is_the_schedulers() {
        on_a_thread(|mut placement, taken, all| {
            let mut after = |slept, of| {
                placement.since.at = Instant::now() - Duration::from_millis(of);
                placement.slept(Duration::from_millis(slept), taken);
                (cores(), placement.place)
            };
            assert!(
                matches!(after(40, 100), (_, Place::Free(_))),
                "it is not fixed"
            );
            let (left, _) = after(30, 100);
            assert_eq!(left, 1);
            let (left, place) = after(40, 100);
            assert!(matches!(place, Place::Free(until) if until <= Instant::now()));
            assert_eq!(left, all);
            assert!(taken.is_empty());
        });
    }

    #[test]
    fn one_that_waits_for_answers_is_tried_elsewhere_and_stays_if_it_polls() {
        let waits = period(27_000, 10_000, 220, 10_000);
        let polls = period(12_000, 10_000, 10, 6_000);
        on_a_thread(|mut placement, taken, all| {
            placement.decide(&waits, taken);
            let Place::Trial { core, .. } = placement.place else {
                assert_eq!(all, 1, "{placement:?}");
                return;
            };
            assert_eq!((cores(), current_core()), (1, Some(core)));
            assert!(taken.is_reserved(core));
            placement.decide(&waits, taken);
            assert!(matches!(placement.place, Place::Trial { .. }));
            placement.decide(&polls, taken);
            assert_eq!(placement.place, Place::On(core));
            assert!(!taken.is_reserved(core) && !taken.is_empty());
        });
    }

    #[test]
    fn trials_that_change_nothing_are_ever_further_apart() {
        let waits = period(27_000, 10_000, 220, 10_000);
        on_a_thread(|mut placement, taken, all| {
            for pause in [1, 2, 4, 8, 16, 32, 64, 100, 100] {
                placement.decide(&waits, taken);
                if all == 1 {
                    return;
                }
                let began = Instant::now();
                for _ in 0..2 {
                    assert!(matches!(placement.place, Place::Trial { .. }));
                    placement.decide(&waits, taken);
                }
                assert!(matches!(placement.place, Place::Free(_)));
                assert!(taken.is_empty() && cores() == all);
                let pause = TRIAL_PAUSE_MIN * pause;
                assert!(placement.trial_at >= began + pause, "{placement:?}");
                placement.decide(&waits, taken);
                assert!(matches!(placement.place, Place::Free(_)), "not at once");
                placement.trial_at = began;
            }
            assert_eq!(placement.trial_pause, LONGEST);
        });
    }

    #[test]
    fn one_that_was_left_to_the_scheduler_is_not_tried_before_that_is_over() {
        let waits = period(27_000, 10_000, 220, 10_000);
        on_a_thread(|mut placement, taken, all| {
            let free = Place::Free(Instant::now() + LONGEST);
            placement.place = free;
            placement.decide(&waits, taken);
            assert_eq!((placement.place, cores()), (free, all));
        });
    }

    #[test]
    fn nothing_is_decided_before_a_period_is_over() {
        let taken = TakenCores::default();
        let mut placement = Placement::new();
        placement.slept(Duration::from_secs(3600), &taken);
        assert!(matches!(placement.place, Place::Free(_)));
        let hour = Duration::from_secs(3600);
        assert_eq!((placement.slept, placement.sleeps), (hour, 1));
        placement.sleeps = u32::MAX;
        placement.slept(Duration::ZERO, &taken);
        assert_eq!(placement.sleeps, u32::MAX, "a guest may sleep as often");
        // Of one that somebody else has put somewhere nothing is counted.
        placement.place = Place::Foreign;
        placement.slept(hour, &taken);
        assert_eq!(placement.slept, hour);
    }
}
