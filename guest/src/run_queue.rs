//! The queue of the tasks that can go on.
//!
//! There is one queue for all vCPUs. A vCPU takes from it whenever it has
//! nothing better to do: an idle one in its loop (`runtime`), and one that waits
//! in a blocking call through [`Hal::work`](arca_shared::client::hal::Hal::work).

use crate::tasks::TaskId;
use crate::vcpu;
use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicUsize, Ordering};

/// A task that can go on.
pub(crate) type Runnable = async_task::Runnable<TaskId>;

/// Tasks that can go on, the one that has waited longest first.
static QUEUE: spin::Mutex<VecDeque<Runnable>> = spin::Mutex::new(VecDeque::new());

/// Length of [`QUEUE`], so that an idle vCPU can poll it without the lock.
static QUEUED: AtomicUsize = AtomicUsize::new(0);

/// Queues a task. The caller then wakes a vCPU for it.
pub(crate) fn push(task: Runnable) {
    let mut queue = QUEUE.lock();
    queue.push_back(task);
    // Relaxed: pairs with the load in `work_waits`. A vCPU that is about to sleep
    // has set its sleep flag and fenced before it reads this, one that goes on with
    // something else has cleared it and fenced, and whoever wakes a vCPU for the
    // task fences before it reads the flags: one of the two sees the other.
    QUEUED.store(queue.len(), Ordering::Relaxed);
}

/// Whether a task can go on, be it one that this vCPU may not run now (it holds a
/// lock, or its stack is deep).
pub(crate) fn work_waits() -> bool {
    // Relaxed: pairs with the stores under the lock; see `push`.
    QUEUED.load(Ordering::Relaxed) != 0
}

/// Whether a task can go on and this vCPU may run it.
pub(crate) fn has_work() -> bool {
    work_waits() && vcpu::may_run_tasks()
}

/// Runs the task that has waited longest until it waits again; false if there
/// is none, or this vCPU may not run one now.
pub(crate) fn work() -> bool {
    if !has_work() {
        return false;
    }
    let mut queue = QUEUE.lock();
    let Some(task) = queue.pop_front() else {
        return false;
    };
    // Relaxed: pairs with the load in `has_work`.
    QUEUED.store(queue.len(), Ordering::Relaxed);
    drop(queue);
    vcpu::nested(|| task.run());
    true
}
