//! The executor: tasks, which any vCPU runs while it waits for something.
//!
//! A task is a heap allocation made by `async-task`; its waker puts it into the
//! queue that all vCPUs take from.

use crate::run_queue::{self, Runnable};
use crate::tasks::{self, Noted, TaskId};
use crate::{runtime, vcpu};
use arca_shared::protocol::task_table::Wait;
use async_task::{Builder, Task};
use core::future::Future;
use core::marker::PhantomData;
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

/// A task that [`spawn_local`] has started. It is of the vCPU that started the task, as
/// that is.
#[derive(Debug)]
pub struct LocalJoinHandle<T> {
    handle: JoinHandle<T>,
    /// Neither the task nor what it gives may go to another vCPU.
    here: PhantomData<*const ()>,
}

impl<T> LocalJoinHandle<T> {
    /// As [`JoinHandle::detach`].
    pub fn detach(self) {}

    /// As [`JoinHandle::is_finished`].
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// As [`JoinHandle::cancel`].
    pub async fn cancel(self) -> Option<T> {
        self.handle.cancel().await
    }
}

impl<T> Future for LocalJoinHandle<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.handle).poll(context)
    }
}

/// Starts a task that runs beside the caller, on the caller's vCPU and on no other, so
/// that it may use what must not be sent between them.
///
/// It runs while that vCPU waits for something, as other tasks do.
#[track_caller]
pub fn spawn_local<F>(future: F) -> LocalJoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let noted = Noted::new(future, Location::caller());
    let builder = Builder::new().metadata(noted.id());
    let home = vcpu::current();
    let schedule = move |task: Runnable| {
        task.metadata().queued();
        run_queue::push_local(home, task);
        runtime::wake_vcpu(home);
    };
    // SAFETY: the future need not be `Send`, because every `Runnable` of it goes to the
    // queue of this vCPU, which alone takes from it, and runs and drops it. Its output
    // is taken by the handle, which is of this vCPU too. Both are `'static`, and so is
    // `schedule`, which any vCPU may call.
    let (runnable, task) = unsafe { builder.spawn_unchecked(|_| noted, schedule) };
    runnable.schedule();
    LocalJoinHandle {
        handle: JoinHandle(Some(task)),
        here: PhantomData,
    }
}

/// Queues a task and sees to it that a vCPU runs it.
fn schedule(task: Runnable) {
    task.metadata().queued();
    run_queue::push(task);
    runtime::wake_idle_vcpu();
}
