//! What tasks wait for, kept for whoever looks at a guest that hangs: see
//! [`arca_shared::protocol::task_table`].

use crate::vcpu::{self, ticks};
use arca_shared::client::run_length::RunLength;
use arca_shared::protocol::layout::MAX_VCPUS;
use arca_shared::protocol::task_table::{
    FRAMES, TASKS, TaskEntry, TaskOrigin, TaskState, TaskTable, Wait,
};
use core::any::type_name;
use core::arch::asm;
use core::future::Future;
use core::panic::Location;
use core::pin::Pin;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::{Context, Poll};

/// The table; the VMM finds it by this name.
#[used]
#[cfg_attr(feature = "image", unsafe(no_mangle))]
static ARCA_TASKS: TaskTable = TaskTable::new();

/// The entries of tasks that are free.
static FREE: spin::Mutex<FreeEntries> = spin::Mutex::new(FreeEntries {
    used: 0,
    last_freed: None,
    links: [0; TASKS],
});

/// A stack of those that were used before, and behind it all that never were.
struct FreeEntries {
    /// Entries that were ever used.
    used: usize,
    last_freed: Option<u16>,
    /// For each free entry, the one below it in the stack, or itself.
    links: [u16; TASKS],
}

impl FreeEntries {
    fn take(&mut self) -> Option<usize> {
        if let Some(index) = self.last_freed {
            let below = self.links[usize::from(index)];
            self.last_freed = (below != index).then_some(below);
            return Some(index.into());
        }
        let index = (self.used < TASKS).then_some(self.used)?;
        self.used += 1;
        ARCA_TASKS.set_used(self.used);
        Some(index)
    }

    fn give_back(&mut self, index: usize) {
        let index = index as u16;
        self.links[usize::from(index)] = self.last_freed.unwrap_or(index);
        self.last_freed = Some(index);
    }
}

/// How long the task of each entry runs before it waits again.
static RUNS: [RunLength; TASKS] = [const { RunLength::new() }; TASKS];

/// How long a task is expected to run now, in ticks of the time-stamp counter.
pub(crate) fn expected_run(task: &TaskId) -> u64 {
    let runs = task.index.and_then(|index| RUNS.get(index));
    runs.map_or(u64::MAX, RunLength::expected)
}

/// For how many of the shortest exits a brief task runs at most.
const BRIEF_EXITS: u64 = 2;

/// Whether one whose runs take so long at most is brief, where an exit takes `exit`, both
/// in ticks.
fn are_brief(longest: u64, exit: u64) -> bool {
    longest <= exit.saturating_mul(BRIEF_EXITS)
}

/// Whether the runs of that entry's task are brief, as far as can be foreseen.
fn is_brief_at(index: usize) -> bool {
    let runs = RUNS.get(index);
    runs.is_some_and(|runs| are_brief(runs.longest_but_one(), vcpu::shortest_exit()))
}

/// Whether a task is expected to wait again before much time has passed.
pub(crate) fn is_brief(task: &TaskId) -> bool {
    task.index.is_some_and(is_brief_at)
}

/// Whether this vCPU polls such a task.
pub(crate) fn polls_brief_task() -> bool {
    let task = vcpu::task_on(vcpu::current()).checked_sub(MAX_VCPUS);
    task.is_some_and(is_brief_at)
}

/// Says that there is a table, for which its memory must be there.
pub(crate) fn init() {
    ARCA_TASKS.begin();
}

/// Number of the next task.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A task's place in the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TaskId {
    /// Its number, which no other task of the guest has.
    pub(crate) number: u64,
    /// Its entry, if there was one left.
    index: Option<usize>,
}

impl TaskId {
    fn entry(self) -> Option<&'static TaskEntry> {
        // An entry that is another task's by now is left alone.
        let entry = ARCA_TASKS.tasks.get(self.index?)?;
        (entry.number() == self.number).then_some(entry)
    }

    fn set_state(self, state: TaskState) {
        if let Some(entry) = self.entry() {
            entry.set_state(state, ticks());
        }
    }

    /// Says that the task can go on.
    pub(crate) fn queued(self) {
        self.set_state(TaskState::Queued);
    }
}

/// A task's future, whose polls are noted in the table; its entry is free again when it
/// is dropped.
pub(crate) struct Noted<F> {
    id: NotedId,
    future: F,
}

/// Ends with its task.
struct NotedId(TaskId);

impl<F: Future> Noted<F> {
    /// Notes a future that was spawned there.
    pub(crate) fn new(future: F, spawned: &'static Location<'static>) -> Self {
        // Relaxed: it only has to be another one each time.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let index = FREE.lock().take();
        if let Some(runs) = index.and_then(|index| RUNS.get(index)) {
            runs.reset();
        }
        let id = TaskId { number, index };
        match index.and_then(|index| ARCA_TASKS.tasks.get(index)) {
            Some(entry) => {
                let origin = TaskOrigin {
                    name: type_name::<F>().into(),
                    file: spawned.file().into(),
                    line: spawned.line(),
                };
                entry.set_state(TaskState::Queued, ticks());
                entry.begin(number, &origin);
            }
            None => ARCA_TASKS.count_unlisted(),
        }
        Self {
            id: NotedId(id),
            future,
        }
    }

    pub(crate) fn id(&self) -> TaskId {
        self.id.0
    }
}

impl Drop for NotedId {
    fn drop(&mut self) {
        match self.0.index {
            Some(index) => {
                if let Some(entry) = self.0.entry() {
                    entry.end();
                }
                FREE.lock().give_back(index);
            }
            None => ARCA_TASKS.discount_unlisted(),
        }
    }
}

impl<F: Future> Future for Noted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let id = self.id.0;
        // SAFETY: the future is pinned with what it lies in: it is never moved out, and
        // nothing else gives a reference to it.
        let future = unsafe { self.map_unchecked_mut(|noted| &mut noted.future) };
        let Some(entry) = id.entry() else {
            // What it waits for is noted nowhere.
            return vcpu::in_task(NOWHERE, || future.poll(context));
        };
        let vcpu = vcpu::current();
        entry.clear_waits();
        let (began, exited) = (ticks(), vcpu::exited(vcpu));
        entry.set_state(TaskState::Running(vcpu as u8), began);
        let index = id.index.unwrap_or(0);
        let result = vcpu::in_task(MAX_VCPUS + index, || future.poll(context));
        if result.is_pending() {
            // Before the executor looks whether it was woken meanwhile, and says that it
            // is queued then.
            let now = ticks();
            entry.set_state(TaskState::Waiting, now);
            let exits = vcpu::exited(vcpu).wrapping_sub(exited);
            RUNS[index].note(now.saturating_sub(began).saturating_sub(exits));
        }
        result
    }
}

/// The place of a task that has no entry.
const NOWHERE: usize = usize::MAX;

/// The entry for what is polled on this vCPU: its task's, or its own.
fn current_entry(vcpu: usize) -> Option<&'static TaskEntry> {
    let place = vcpu::task_on(vcpu);
    match place.checked_sub(MAX_VCPUS) {
        Some(task) => ARCA_TASKS.tasks.get(task),
        None => ARCA_TASKS.vcpus.get(vcpu),
    }
}

/// A future is polled on this vCPU, or was: it waits for nothing noted before.
pub(crate) fn polls() {
    if let Some(entry) = current_entry(vcpu::current()) {
        entry.clear_waits();
    }
}

/// Notes what is waited for on this vCPU, and by whom.
#[inline(never)]
pub(crate) fn waits_for(wait: Wait) {
    let vcpu = vcpu::current();
    let Some(entry) = current_entry(vcpu) else {
        return;
    };
    let frame: usize;
    // SAFETY: copies the frame pointer and touches nothing else.
    unsafe { asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    let mut frames = [0; FRAMES];
    let count = callers(frame, vcpu::stack_top(vcpu), &mut frames);
    entry.note(wait, &frames[..count]);
}

/// Return addresses along the chain of frame pointers that begins at `frame`, as far
/// as it leads up the stack that ends at `top`; how many.
fn callers(frame: usize, top: usize, found: &mut [u64; FRAMES]) -> usize {
    let (mut frame, mut low) = (frame, vcpu::stack_pointer());
    for (count, address) in found.iter_mut().enumerate() {
        // Both words of a frame lie above the stack pointer and below the top.
        let inside = frame >= low && frame.is_multiple_of(8) && frame.saturating_add(16) <= top;
        if !inside {
            return count;
        }
        let words = core::ptr::with_exposed_provenance::<u64>(frame);
        // SAFETY: inside this vCPU's own stack, see above, where everything is mapped;
        // whatever is there is a number.
        let (next, caller) = unsafe { (words.read_volatile(), words.add(1).read_volatile()) };
        *address = caller;
        (low, frame) = (frame + 16, next as usize);
    }
    FRAMES
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::future::poll_fn;
    use core::pin::pin;
    use core::task::Waker;

    #[test]
    fn entries_are_taken_once_and_used_again() {
        let mut free = FreeEntries {
            used: 0,
            last_freed: None,
            links: [0; TASKS],
        };
        for index in 0..TASKS {
            assert_eq!(free.take(), Some(index));
        }
        assert_eq!(free.take(), None);
        for index in [7, 3, TASKS - 1] {
            free.give_back(index);
        }
        let taken = [free.take(), free.take(), free.take(), free.take()];
        assert_eq!(taken, [Some(TASKS - 1), Some(3), Some(7), None]);
    }

    #[test]
    fn a_run_is_noted_without_the_exits_in_it() {
        const EXIT: u64 = 1_000_000;
        let exit = || {
            let began = ticks();
            while ticks().wrapping_sub(began) < EXIT {}
        };
        let future = poll_fn(|_| {
            vcpu::exit_to_wake(exit);
            Poll::<()>::Pending
        });
        let mut noted = pin!(Noted::new(future, Location::caller()));
        let id = noted.id();
        assert_eq!(expected_run(&id), u64::MAX);
        let mut context = Context::from_waker(Waker::noop());
        // More than one, because this thread may lose its core in between.
        let short = (0..100).any(|_| {
            assert!(noted.as_mut().poll(&mut context).is_pending());
            expected_run(&id) < EXIT
        });
        assert!(short, "{}", expected_run(&id));
    }

    #[test]
    fn a_brief_run_is_one_of_two_exits() {
        assert!(are_brief(200, 100) && !are_brief(201, 100));
        assert!(!are_brief(u64::MAX, 100), "it has not run yet");
        assert!(!are_brief(1, 0), "nobody knows how long an exit takes");
    }

    #[test]
    fn a_chain_that_leaves_the_stack_ends() {
        let stack: [u64; 6] = [0; 6];
        let base = stack.as_ptr().expose_provenance();
        let mut found = [0; FRAMES];
        for frame in [0, 8, base + 1, usize::MAX, base + 40] {
            assert_eq!(callers(frame, base + 48, &mut found), 0, "{frame:#x}");
        }
    }
}
