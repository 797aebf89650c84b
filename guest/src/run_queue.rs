//! The queue of the tasks that can go on.
//!
//! There is one queue for all vCPUs, and one for each vCPU with the tasks that may run
//! on no other. A vCPU takes from both in turn, whenever it has nothing better to do: an
//! idle one in its loop (`runtime`), and one that waits in a blocking call through
//! [`Hal::work`](arca_shared::client::hal::Hal::work).

use crate::tasks::{self, TaskId};
use crate::{boot, runtime, vcpu};
use alloc::collections::VecDeque;
use arca_shared::client::run_length::WORTH_A_WAKE;
use arca_shared::protocol::layout::MAX_VCPUS;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A task that can go on.
pub(crate) type Runnable = async_task::Runnable<TaskId>;

/// Tasks that can go on.
struct Queue {
    /// The one that has waited longest first.
    tasks: spin::Mutex<VecDeque<Runnable>>,
    /// How many there are, so that an idle vCPU can poll it without the lock.
    len: AtomicUsize,
}

/// Those that any vCPU may run.
static SHARED: Queue = Queue::new();

/// Those of each vCPU, which no other may run.
static LOCAL: [Queue; MAX_VCPUS] = [const { Queue::new() }; MAX_VCPUS];

/// Which of its two queues each vCPU has taken from last: the other one is first.
static LOCAL_WAS_LAST: [AtomicBool; MAX_VCPUS] = [const { AtomicBool::new(false) }; MAX_VCPUS];

impl Queue {
    const fn new() -> Self {
        Self {
            tasks: spin::Mutex::new(VecDeque::new()),
            len: AtomicUsize::new(0),
        }
    }

    fn push(&self, task: Runnable) {
        let mut tasks = self.tasks.lock();
        tasks.push_back(task);
        // Relaxed: pairs with the load in `waits`. A vCPU that is about to sleep
        // has set its sleep flag and fenced before it reads this, one that goes on with
        // something else has cleared it and fenced, and whoever wakes another vCPU for the
        // task fences before it reads the flags: one of the two sees the other. Its own
        // queue each sees.
        self.len.store(tasks.len(), Ordering::Relaxed);
    }

    /// How many wait.
    fn len(&self) -> usize {
        // Relaxed: as in `waits`.
        self.len.load(Ordering::Relaxed)
    }

    fn pop(&self) -> Option<Runnable> {
        if !self.waits() {
            return None;
        }
        let mut tasks = self.tasks.lock();
        let task = tasks.pop_front();
        // Relaxed: pairs with the load in `waits`.
        self.len.store(tasks.len(), Ordering::Relaxed);
        task
    }

    /// Whether the next one is brief, if there is one. Of a queue that somebody has
    /// locked it is not known, and taken for no: it may be this vCPU, which has run out
    /// of heap as it queued a task, and says so.
    fn is_next_brief(&self) -> Option<bool> {
        if !self.waits() {
            return None;
        }
        let Some(tasks) = self.tasks.try_lock() else {
            return Some(false);
        };
        tasks.front().map(|task| tasks::is_brief(task.metadata()))
    }

    fn waits(&self) -> bool {
        // Relaxed: pairs with the stores under the lock; see `push`.
        self.len.load(Ordering::Relaxed) != 0
    }
}

/// Queues a task that any vCPU may run. The caller then wakes one for it.
pub(crate) fn push(task: Runnable) {
    SHARED.push(task);
}

/// Queues a task that only that vCPU may run. The caller then wakes it.
pub(crate) fn push_local(vcpu: usize, task: Runnable) {
    LOCAL[vcpu].push(task);
}

/// How many times as long they must have to wait while the monitor is awake. What it does
/// for a task takes it longer than a short task takes, so one that does not come to sleep
/// bounds them all, and another vCPU would only take a core from it, or from its peers.
/// Where the tasks are what takes long, it sleeps now and then, and a task that begins
/// meanwhile finds it asleep.
const BESIDE_MONITOR: u64 = 10;

/// What those that wait behind a task must have to wait for another vCPU to be woken
/// for them, in ticks of the time-stamp counter. It is foreseen by how long the
/// task ran of late: behind one that has just become slow they wait until it is
/// done, or until the monitor has seen a mark that nobody takes.
fn worth_a_wake(tsc_khz: u64, monitor_is_awake: bool) -> u64 {
    let ticks = tsc_khz.saturating_mul(WORTH_A_WAKE) / 1_000_000;
    match monitor_is_awake {
        true => ticks.saturating_mul(BESIDE_MONITOR),
        false => ticks,
    }
}

/// Wakes another vCPU if one is worth it to those that wait behind this task, `behind` of
/// them.
fn share(task: &Runnable, behind: u64) {
    let info = boot::info();
    if behind == 0 || info.vcpus == 1 {
        return;
    }
    let wait = tasks::expected_run(task.metadata()).saturating_mul(behind + 1);
    let is_worth_it = |monitor_is_awake| wait > worth_a_wake(info.tsc_khz, monitor_is_awake);
    // In this order: it asks for less while the monitor sleeps.
    if is_worth_it(false) && is_worth_it(runtime::reactor().is_monitor_awake()) {
        runtime::wake_idle_vcpu();
    }
}

/// Whether a task can go on that others may run, be it one that this vCPU may not run
/// now (it holds a lock, or its stack is deep).
pub(crate) fn work_waits() -> bool {
    SHARED.waits()
}

/// Whether a task can go on and this vCPU may run it.
pub(crate) fn has_work() -> bool {
    (SHARED.waits() || LOCAL[vcpu::current()].waits()) && vcpu::may_run_tasks()
}

/// Whether a task can go on, this vCPU may run it, and it is a brief one, whichever
/// queue is next.
pub(crate) fn has_brief_work() -> bool {
    let next = [&SHARED, &LOCAL[vcpu::current()]].map(Queue::is_next_brief);
    vcpu::may_run_tasks() && all_brief(next)
}

/// Whether these, either of which may be next, are brief, and there is one.
fn all_brief(next: [Option<bool>; 2]) -> bool {
    next.contains(&Some(true)) && !next.contains(&Some(false))
}

/// Runs a task until it waits again; false if there is none, or this vCPU may not run
/// one now.
pub(crate) fn work() -> bool {
    if !has_work() {
        return false;
    }
    let vcpu = vcpu::current();
    let (local, was_last) = (&LOCAL[vcpu], &LOCAL_WAS_LAST[vcpu]);
    // Relaxed: only this vCPU uses it.
    let found = match was_last.load(Ordering::Relaxed) {
        true => SHARED.pop().map(|task| (task, false)),
        false => local.pop().map(|task| (task, true)),
    };
    let found = found.or_else(|| local.pop().map(|task| (task, true)));
    let Some((task, is_local)) = found.or_else(|| SHARED.pop().map(|task| (task, false))) else {
        return false;
    };
    was_last.store(is_local, Ordering::Relaxed);
    share(&task, SHARED.len() as u64);
    vcpu::nested(|| task.run());
    true
}

#[cfg(test)]
mod tests {
    use super::{Queue, all_brief, worth_a_wake};
    use core::sync::atomic::Ordering;

    #[test]
    fn a_queue_that_is_locked_keeps_nobody_waiting_who_asks_what_is_next() {
        let queue = Queue::new();
        assert_eq!(queue.is_next_brief(), None);
        queue.len.store(1, Ordering::Relaxed);
        let locked = queue.tasks.lock();
        assert_eq!(queue.is_next_brief(), Some(false));
        drop(locked);
    }

    #[test]
    fn what_is_next_is_brief_whichever_queue_it_is_in() {
        assert!(all_brief([Some(true), None]) && all_brief([None, Some(true)]));
        assert!(all_brief([Some(true); 2]));
        assert!(!all_brief([None; 2]), "there is none");
        assert!(!all_brief([Some(true), Some(false)]) && !all_brief([Some(false), None]));
    }

    #[test]
    fn another_vcpu_comes_later_beside_a_monitor_that_is_awake() {
        assert_eq!(worth_a_wake(2_300_000, false), 460_000, "200 µs");
        assert_eq!(worth_a_wake(2_300_000, true), 4_600_000, "2 ms");
    }
}
