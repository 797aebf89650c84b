//! What carries the vCPUs of a guest: the seam between the VMM and a platform.

use crate::error::StartError;
use crate::platform::clock::GuestClock;
use crate::platform::park::Parkers;
use crate::platform::vcpu::{Start, Vcpu};
use crate::vm::outcome::RunState;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// A machine of some platform, with guest memory and a map of its address space.
/// Building a guest calls its methods in this order, each once.
pub trait Machine: Send {
    /// Where its vCPUs sleep.
    fn parkers(&self, vcpus: usize, run_state: Arc<RunState>) -> Arc<Parkers>;

    /// Has writes to the doorbell signal this eventfd, without the VMM.
    ///
    /// # Errors
    ///
    /// [`StartError`]: the host refuses.
    fn connect_doorbell(&mut self, eventfd: BorrowedFd<'_>) -> Result<(), StartError>;

    /// Makes the vCPUs, each ready to run from where it starts.
    ///
    /// # Errors
    ///
    /// [`StartError`]: the host refuses.
    fn make_vcpus(&mut self, starts: &[Start]) -> Result<Vec<Box<dyn Vcpu>>, StartError>;

    /// Starts the guest's clock, as its vCPUs will see it.
    ///
    /// # Errors
    ///
    /// [`StartError`]: there is none.
    fn start_clock(&mut self) -> Result<GuestClock, StartError>;

    /// Lets the guest run: the threads of its vCPUs are there.
    fn start(&self) {}

    /// Has vCPUs that run outside of this process leave their registers for whoever
    /// asks their threads for them.
    fn sample(&self) {}

    /// Takes the guest off the processor for good, as far as that is not done by
    /// signals to the threads of its vCPUs.
    fn stop(&self) {}

    /// What to use in place of a debugger at its vCPUs; `None` if they can be debugged.
    fn instead_of_debugging(&self) -> Option<&'static str> {
        None
    }
}
