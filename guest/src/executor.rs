//! The executor: tasks, and the queue of those that can go on.
//!
//! There is one queue for all vCPUs. A vCPU takes from it whenever it has
//! nothing better to do: an idle one in its loop (`runtime`), and one that waits
//! in a blocking call through [`Hal::work`](arca_shared::client::hal::Hal::work).
//! A task is a heap allocation made by `async-task`; its waker puts it back into
//! the queue.

use crate::{runtime, vcpu};
use alloc::collections::VecDeque;
use async_task::{Runnable, Task};
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Context, Poll};

/// Tasks that can go on, the one that has waited longest first.
static QUEUE: spin::Mutex<VecDeque<Runnable>> = spin::Mutex::new(VecDeque::new());

/// Length of [`QUEUE`], so that an idle vCPU can look without the lock.
static QUEUED: AtomicUsize = AtomicUsize::new(0);

/// A spawned task, which runs whether or not anyone waits for it.
///
/// Awaiting the handle gives the task's output. Dropping it lets the task run on
/// by itself.
#[derive(Debug)]
pub struct JoinHandle<T>(Option<Task<T>>);

impl<T> JoinHandle<T> {
    /// Lets the task run on by itself; the same as dropping the handle.
    pub fn detach(self) {}

    /// Whether the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.as_ref().is_none_or(Task::is_finished)
    }

    /// Stops the task at the point where it waits and drops it. Gives its output
    /// if it had ended before; what comes of the step that it is in at this moment,
    /// on another vCPU, is dropped.
    pub async fn cancel(mut self) -> Option<T> {
        match self.0.take() {
            Some(task) => task.cancel().await,
            None => None,
        }
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match &mut self.0 {
            // Only `cancel` cancels a task, and it consumes the handle.
            Some(task) => Pin::new(task).poll(context),
            None => Poll::Pending,
        }
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}

/// Starts a task that runs beside the caller, on any vCPU.
///
/// Tasks run while the program waits for something: in
/// [`block_on`](crate::block_on), in a blocking call, or on another vCPU.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (runnable, task) = async_task::spawn(future, schedule);
    runnable.schedule();
    JoinHandle(Some(task))
}

/// Queues a task and sees to it that a vCPU runs it.
fn schedule(task: Runnable) {
    let mut queue = QUEUE.lock();
    queue.push_back(task);
    // Relaxed: pairs with the load in `work_waits`. A vCPU that is about to sleep
    // has raised its flag and fenced before it looks, one that goes on with
    // something else has lowered it and fenced, and `wake_worker` below fences
    // before it reads the flags: one of the two sees the other.
    QUEUED.store(queue.len(), Ordering::Relaxed);
    drop(queue);
    runtime::wake_idle_vcpu();
}

/// Whether a task can go on, be it one that this vCPU may not run now (it holds a
/// lock, or its stack is deep).
pub(crate) fn work_waits() -> bool {
    // Relaxed: pairs with the stores under the lock; see `schedule`.
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
