//! Which vCPU this code runs on, and what each has of its own.
//!
//! A ring-3 guest cannot rely on a segment base to find its vCPU: not every KVM
//! lets ring 3 set one. The stack pointer serves instead: each vCPU has a stack
//! of its own, whose top it records here before anything else runs.

use arca_shared::protocol::layout::{MAX_VCPUS, STACK_SIZE};
use core::arch::asm;
use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// What a vCPU has of its own. Only that vCPU writes it.
struct Vcpu {
    /// Its stack pointer at entry; 0 until it has entered.
    stack_top: AtomicUsize,
    /// How many tasks are being run on its stack, one inside the other.
    nesting: AtomicU32,
    /// How many waits on its stack must not run tasks.
    undisturbed: AtomicU32,
    /// The task that it polls, by its place in the table of `tasks`; below
    /// [`MAX_VCPUS`] if it polls none.
    task: AtomicUsize,
    /// How long exits have taken that it made to wake somebody, in ticks of the
    /// time-stamp counter.
    exited: AtomicU64,
}

static VCPUS: [Vcpu; MAX_VCPUS] = [const {
    Vcpu {
        stack_top: AtomicUsize::new(0),
        nesting: AtomicU32::new(0),
        undisturbed: AtomicU32::new(0),
        task: AtomicUsize::new(0),
        exited: AtomicU64::new(0),
    }
}; MAX_VCPUS];

/// The shortest exit so far that any vCPU made to wake somebody, in ticks; `u64::MAX`
/// before the first.
static SHORTEST_EXIT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Most tasks that run inside one another on one stack. A task that makes a
/// blocking call has others run meanwhile, on top of it; the bound keeps the
/// stack from overflowing.
const MAX_NESTING: u32 = 16;

pub(crate) fn stack_pointer() -> usize {
    let pointer: usize;
    // SAFETY: copies the stack pointer and touches nothing else.
    unsafe { asm!("mov {}, rsp", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
    pointer
}

/// Records the stack of the vCPU that calls this, near the top of its stack.
///
/// # Errors
///
/// Gives the index back if it is not below [`MAX_VCPUS`].
pub(crate) fn enter(index: usize) -> Result<(), usize> {
    let vcpu = VCPUS.get(index).ok_or(index)?;
    // The caller's frames lie above this point; a page covers them, and stacks
    // are separated by a guard page, so no two ranges overlap.
    let top = stack_pointer().next_multiple_of(4096);
    // Relaxed: only the vCPU itself needs its own entry to be there; another
    // vCPU that does not see it yet finds no match in it, which is right.
    vcpu.stack_top.store(top, Ordering::Relaxed);
    Ok(())
}

/// Index of the vCPU that this code runs on.
#[must_use]
pub fn current() -> usize {
    let pointer = stack_pointer();
    VCPUS
        .iter()
        .position(|vcpu| {
            // Relaxed: see `enter`.
            let top = vcpu.stack_top.load(Ordering::Relaxed);
            top.wrapping_sub(pointer) <= STACK_SIZE as usize
        })
        .unwrap_or(0)
}

/// Whether the current vCPU may start a task now, on top of what it runs.
pub(crate) fn may_run_tasks() -> bool {
    may_run_tasks_on(current())
}

/// Whether that vCPU may start a task. It does not change while the vCPU sleeps, and
/// is seen with its flag; of one that is awake it may be outdated.
pub(crate) fn may_run_tasks_on(index: usize) -> bool {
    let vcpu = &VCPUS[index];
    // Relaxed, here and below: only the vCPU itself writes its counters, and
    // whoever else reads them takes the answer for a hint.
    vcpu.undisturbed.load(Ordering::Relaxed) == 0
        && vcpu.nesting.load(Ordering::Relaxed) < MAX_NESTING
}

/// Runs `task` and counts it among those on this stack meanwhile.
pub(crate) fn nested<R>(task: impl FnOnce() -> R) -> R {
    counted(&VCPUS[current()].nesting, task)
}

/// Runs `wait` without any task being started on this vCPU meanwhile, so that
/// none can ask for what the waiting code holds.
pub(crate) fn undisturbed<R>(wait: impl FnOnce() -> R) -> R {
    counted(&VCPUS[current()].undisturbed, wait)
}

fn counted<R>(counter: &AtomicU32, f: impl FnOnce() -> R) -> R {
    counter.fetch_add(1, Ordering::Relaxed);
    let result = f();
    counter.fetch_sub(1, Ordering::Relaxed);
    result
}

/// Runs `poll` with that as the task that this vCPU polls.
pub(crate) fn in_task<R>(task: usize, poll: impl FnOnce() -> R) -> R {
    let current = &VCPUS[current()].task;
    // Relaxed, here and below: only the vCPU itself reads it.
    let outer = current.swap(task, Ordering::Relaxed);
    let result = poll();
    current.store(outer, Ordering::Relaxed);
    result
}

/// The task that a vCPU polls, as it was told [`in_task`].
pub(crate) fn task_on(index: usize) -> usize {
    VCPUS[index].task.load(Ordering::Relaxed)
}

/// Runs `exit`, in which the current vCPU leaves the guest to wake somebody, and takes
/// note of how long that takes.
pub(crate) fn exit_to_wake(exit: impl FnOnce()) {
    let began = ticks();
    exit();
    let took = ticks().wrapping_sub(began);
    VCPUS[current()].exited.fetch_add(took, Ordering::Relaxed);
    // Relaxed, here and below: an estimate. It is read first, so that its cache line
    // stays with all vCPUs.
    if took < SHORTEST_EXIT.load(Ordering::Relaxed) {
        SHORTEST_EXIT.fetch_min(took, Ordering::Relaxed);
    }
}

/// The shortest that an exit to wake somebody has taken, in ticks of the time-stamp
/// counter: what one costs. 0 before the first.
pub(crate) fn shortest_exit() -> u64 {
    match SHORTEST_EXIT.load(Ordering::Relaxed) {
        u64::MAX => 0,
        ticks => ticks,
    }
}

/// How long the exits of a vCPU to wake somebody have taken, in ticks of the time-stamp
/// counter.
pub(crate) fn exited(index: usize) -> u64 {
    VCPUS[index].exited.load(Ordering::Relaxed)
}

/// The time-stamp counter.
pub(crate) fn ticks() -> u64 {
    // SAFETY: reading the time-stamp counter has no precondition.
    unsafe { _rdtsc() }
}

/// The address after the last byte of a vCPU's stack, or a little less.
pub(crate) fn stack_top(index: usize) -> usize {
    VCPUS[index].stack_top.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_noted_with_how_long_it_took() {
        let before = exited(current());
        exit_to_wake(|| {
            let began = ticks();
            while ticks().wrapping_sub(began) < 1000 {}
        });
        assert!(exited(current()).wrapping_sub(before) >= 1000);
        let shortest = shortest_exit();
        assert!(shortest > 0);
        exit_to_wake(|| ());
        assert!(shortest_exit() < shortest && shortest_exit() > 0);
    }
}
