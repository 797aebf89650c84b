//! The guest as a [`Platform`]: what the session, its streams and the reactor
//! run on here.

use crate::{boot, executor, registers, time, vcpu};
use arca_shared::platform::Platform;

/// The vCPUs, their registers and their clock.
#[derive(Debug)]
pub(crate) struct Machine;

/// Longest look for something to do before a vCPU parks, in nanoseconds: about
/// what a park and a wake cost together.
const POLL_LIMIT: u64 = 100_000;

impl Platform for Machine {
    fn ring_doorbell(&self) {
        registers::ring_doorbell();
    }

    fn current(&self) -> usize {
        vcpu::current()
    }

    fn park(&self, deadline: Option<u64>) {
        registers::park(deadline);
        // The wake may have been for a task that this vCPU must not start now
        // (it holds a lock, or its stack is deep). Whoever can take it is told,
        // because the sender has told only us.
        if executor::has_work_for_others() {
            (0..boot::info().vcpus as usize)
                .filter(|&other| other != vcpu::current() && vcpu::may_run_tasks_on(other))
                .for_each(registers::kick);
        }
    }

    fn kick(&self, sleeper: usize) {
        registers::kick(sleeper);
    }

    fn now(&self) -> u64 {
        time::since_boot_ns()
    }

    fn poll_limit(&self) -> u64 {
        POLL_LIMIT
    }

    fn work(&self) -> bool {
        executor::work()
    }

    fn has_work(&self) -> bool {
        executor::has_work()
    }
}
