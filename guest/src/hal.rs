//! The guest as a [`Hal`]: what the session, its streams and the reactor
//! run on here.

use crate::{registers, run_queue, tasks, time, vcpu};
use arca_shared::client::hal::Hal;
use arca_shared::protocol::task_table::Wait;

/// The vCPUs, their registers and their clock.
#[derive(Debug)]
pub(crate) struct GuestHal;

/// The longest that a vCPU polls before it parks, in nanoseconds: about
/// what a park and a wake cost together.
const POLL_LIMIT: u64 = 100_000;

impl Hal for GuestHal {
    fn ring_doorbell(&self) {
        vcpu::exit_to_wake(registers::ring_doorbell);
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
        POLL_LIMIT
    }

    fn work(&self) -> bool {
        run_queue::work()
    }

    fn has_work(&self) -> bool {
        run_queue::has_work()
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
