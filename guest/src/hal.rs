//! The guest as a [`Hal`]: what the session, its streams and the reactor
//! run on here.

use crate::{registers, run_queue, tasks, time, vcpu};
use arca_shared::client::hal::Hal;
use arca_shared::protocol::task_table::Wait;

/// The vCPUs, their registers and their clock.
#[derive(Debug)]
pub(crate) struct GuestHal;

/// For how many of the shortest exits a vCPU polls before it parks. A park with its wake
/// takes three, and the monitor, which falls idle meanwhile, has to be rung for then.
/// That is on the way of every answer; the time to poll in is mostly a core's that would
/// be idle.
const POLL_EXITS: u64 = 16;
/// The shortest and the longest that this limit is, in nanoseconds.
const POLL_LIMIT_MIN: u64 = 100_000;
const POLL_LIMIT_MAX: u64 = 1_000_000;

/// For how long to poll before a park where an exit takes that long, in nanoseconds.
fn poll_limit(exit: u64) -> u64 {
    exit.saturating_mul(POLL_EXITS)
        .clamp(POLL_LIMIT_MIN, POLL_LIMIT_MAX)
}

impl Hal for GuestHal {
    fn ring_doorbell(&self) {
        vcpu::exit_to_wake(registers::ring_doorbell);
    }

    fn doorbell_time(&self) -> u64 {
        time::ticks_as_ns(vcpu::shortest_exit())
    }

    fn current(&self) -> usize {
        vcpu::current()
    }

    fn park(&self, deadline: Option<u64>) {
        registers::park(deadline);
    }

    fn yield_core(&self) {
        registers::yield_core();
    }

    fn kick(&self, sleeper: usize) {
        vcpu::exit_to_wake(|| registers::kick(sleeper));
    }

    fn now(&self) -> u64 {
        time::since_boot_ns()
    }

    fn poll_limit(&self) -> u64 {
        poll_limit(time::ticks_as_ns(vcpu::shortest_exit()))
    }

    fn work(&self) -> bool {
        run_queue::work()
    }

    fn has_work(&self) -> bool {
        run_queue::has_work()
    }

    fn runs_brief_work(&self) -> bool {
        tasks::polls_brief_task()
    }

    fn brief_work_waits(&self) -> bool {
        run_queue::has_brief_work()
    }

    fn work_waits(&self) -> bool {
        run_queue::work_waits()
    }

    fn may_work(&self, sleeper: usize) -> bool {
        vcpu::may_run_tasks_on(sleeper)
    }

    fn polls(&self) {
        tasks::polls();
    }

    fn waits_for(&self, wait: Wait) {
        tasks::waits_for(wait);
    }
}

#[cfg(test)]
mod tests {
    use super::poll_limit;

    #[test]
    fn who_leaves_slowly_polls_for_longer() {
        assert_eq!(poll_limit(0), 100_000);
        assert_eq!(poll_limit(6_251), 100_016);
        assert_eq!(poll_limit(27_000), 432_000);
        assert_eq!(poll_limit(u64::MAX), 1_000_000);
    }
}
