//! The executor: tasks, which any vCPU runs while it waits for something.
//!
//! A task is a heap allocation made by `async-task`; its waker puts it into the
//! queue that all vCPUs take from.

use crate::run_queue::{self, Runnable};
use crate::runtime;
use crate::tasks::{self, Noted, TaskId};
use arca_shared::protocol::task_table::Wait;
use async_task::{Builder, Task};
use core::future::Future;
use core::panic::Location;
use core::pin::Pin;
use core::task::{Context, Poll};

/// A spawned task, which runs whether or not anyone waits for it.
///
/// Awaiting the handle gives the task's output. Dropping it lets the task run on
/// by itself.
#[derive(Debug)]
pub struct JoinHandle<T>(Option<Task<T, TaskId>>);

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
            Some(task) => {
                let result = Pin::new(&mut *task).poll(context);
                if result.is_pending() {
                    tasks::waits_for(Wait::Task(task.metadata().number));
                }
                result
            }
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
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let noted = Noted::new(future, Location::caller());
    let builder = Builder::new().metadata(noted.id());
    let (runnable, task) = builder.spawn(|_| noted, schedule);
    runnable.schedule();
    JoinHandle(Some(task))
}

/// Queues a task and sees to it that a vCPU runs it.
fn schedule(task: Runnable) {
    task.metadata().queued();
    run_queue::push(task);
    runtime::wake_idle_vcpu();
}
