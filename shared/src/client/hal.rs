//! What the Arca side needs from the machine it runs on.
//!
//! The session, its streams and the reactor are written against [`Hal`],
//! so that the same code runs in the guest (MMIO registers), in a host thread
//! (an eventfd and a condition variable) and under a model checker.

use crate::protocol::task_table::Wait;

/// The machine under an Arca side.
///
/// A *sleeper* is whatever can sleep and be woken on its own: a vCPU in the
/// guest, a thread on a host. Each has an index below
/// [`MAX_VCPUS`](crate::protocol::layout::MAX_VCPUS) and a state word in the
/// notification area.
pub trait Hal: Send + Sync + 'static {
    /// Wakes the monitor, which has said that it sleeps.
    fn ring_doorbell(&self);

    /// How long ringing the doorbell takes at least, in nanoseconds: for so long one may
    /// be deferred. 0 is not at all.
    fn doorbell_time(&self) -> u64 {
        0
    }

    /// Index of the sleeper that this code runs on.
    fn current(&self) -> usize;

    /// Sleeps until a wake for the current sleeper arrives or the clock
    /// ([`Hal::now`]) reaches `deadline`, in nanoseconds. A wake is a
    /// token: one that came earlier is consumed and the park returns at once.
    /// May return for no reason.
    fn park(&self, deadline: Option<u64>);

    /// Lets others run that wait for the current sleeper's core, and goes on. It is no
    /// sleep, and takes no token.
    fn yield_core(&self);

    /// Wakes the sleeper of that index, or gives it the token.
    fn kick(&self, sleeper: usize);

    /// Nanoseconds of a monotonic clock.
    fn now(&self) -> u64;

    /// For how long a sleeper may poll before it parks, in nanoseconds; 0 is not at
    /// all. Within this limit, the reactor polls while that has paid off lately. It may
    /// change from one wait to the next.
    fn poll_limit(&self) -> u64 {
        0
    }

    /// Runs a piece of queued work, for example a task of an executor, and says
    /// whether there was one. Called by a sleeper that waits for something.
    fn work(&self) -> bool {
        false
    }

    /// Whether [`Hal::work`] would find something. Asked between setting
    /// the sleep flag and parking.
    fn has_work(&self) -> bool {
        false
    }

    /// Whether what the current sleeper runs is a piece of such work that will soon be
    /// done, as far as can be foreseen.
    fn runs_brief_work(&self) -> bool {
        false
    }

    /// Whether [`Hal::work`] would find something that will soon be done, as far as can
    /// be foreseen.
    fn brief_work_waits(&self) -> bool {
        false
    }

    /// Whether work is queued, be it for another sleeper than the current one.
    fn work_waits(&self) -> bool {
        self.has_work()
    }

    /// Whether that sleeper would run queued work if it were woken. What it says
    /// of one that is awake may be outdated.
    fn may_work(&self, _sleeper: usize) -> bool {
        true
    }

    /// A future is polled on the current sleeper, or was: what it waited for before, it
    /// waits for no longer.
    fn polls(&self) {}

    /// What is polled on the current sleeper waits for this. For whoever looks at a
    /// program that hangs; nothing depends on it.
    fn waits_for(&self, _wait: Wait) {}
}
