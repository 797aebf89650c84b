//! A virtual machine: built in steps, run to its end.
//!
//! Building ([`Vm::new`]), each step with what it leaves:
//!
//! 1. The configuration is checked: sizes, number of vCPUs, arguments.
//! 2. The image is opened and checked, its interface version first.
//! 3. The address space is laid out: what is where, for the image's segments.
//! 4. The platform is chosen, and guest memory made, all zero and untouched.
//! 5. The image is loaded.
//! 6. The platform makes a machine with this memory; under KVM, with descriptor
//!    tables, stubs and page tables.
//! 7. The session's shared structures and pipes are set up in the arena.
//! 8. The vCPUs are made, each at the image's entry in ring 3.
//! 9. Boot information is written, the guest's clock starting.
//!
//! Running ([`Vm::run`]): threads for the vCPUs, the monitor and the streams
//! are started; the first who says how the guest ended is believed; vCPUs are
//! stopped, then the monitor and the streams are drained, then all threads are
//! joined. What was not delivered is named in the log.

mod build;
pub mod config;
mod dump;
mod notices;
pub(crate) mod outcome;
mod run;
pub mod stats;
pub mod status;

use crate::debug::{Debugger, GdbListener};
use crate::error::StartError;
use crate::host::descriptor::Sink;
use crate::host::sandbox::Sandbox;
use crate::host::streams::StreamProgress;
use crate::host::trace::Trace;
use crate::memory::image::CheckedImage;
use crate::memory::map::AddressMap;
use crate::platform::Platform;
use crate::platform::machine::Machine;
use crate::platform::park::{ParkCounts, Parkers};
use crate::platform::vcpu::{Vcpu, VcpuShared};
use crate::vm::config::VmConfig;
use crate::vm::outcome::{Outcome, RunState};
use crate::vm::stats::VmStats;
use crate::vm::status::ExitStatus;
use arca_monitor::trace::TraceReader;
use arca_monitor::{Monitor, MonitorHandle, MonitorStats, StandardPipe};
use nix::libc;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// A guest that is ready to run.
pub struct Vm {
    image: CheckedImage,
    map: AddressMap,
    vcpus: Vec<Box<dyn Vcpu>>,
    shared: Arc<VcpuShared>,
    monitor: Monitor,
    monitor_handle: MonitorHandle,
    handle: VmHandle,
    stdin: Option<Stdin>,
    stdout: (StandardPipe, Sink),
    log: (StandardPipe, Sink),
    timeout: Option<Duration>,
    dump_every: Option<Duration>,
    notices: Box<dyn Write + Send>,
    trace: Option<(Trace, TraceReader)>,
    debugger: Option<(Arc<Debugger>, GdbListener)>,
    sandbox: Option<Arc<Sandbox>>,
    /// What the vCPUs belong to.
    machine: Box<dyn Machine>,
}

impl Vm {
    /// Builds a guest.
    ///
    /// # Errors
    ///
    /// [`StartError`]: one line that says what to do.
    pub fn new(config: VmConfig) -> Result<Self, StartError> {
        build::build(config)
    }

    /// A handle by which other threads can stop the guest and look at it.
    #[must_use]
    pub fn handle(&self) -> VmHandle {
        self.handle.clone()
    }

    /// What the guest did so far.
    #[must_use]
    pub fn stats(&self) -> VmStats {
        self.handle.stats()
    }

    /// Runs the guest to its end. Afterwards none of its threads and
    /// descriptors are left, and all that it wrote is delivered or was named in
    /// the log as lost, which is no success ([`ExitStatus::OutputLost`]).
    #[must_use]
    pub fn run(self) -> ExitStatus {
        run::run(self)
    }
}

/// The pipe of standard input, and what is copied into it.
type Stdin = (StandardPipe, Box<dyn Read + Send>);

/// Why a guest is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The caller wants it. The guest counts as interrupted by SIGINT.
    Request,
    /// This process got a signal.
    Signal(i32),
    /// Its time is up.
    Timeout,
}

/// A handle to a guest, from before it runs until after it has ended.
#[derive(Clone)]
pub struct VmHandle {
    run_state: Arc<RunState>,
    view: Arc<Mutex<GuestView>>,
    stdout: Arc<StreamProgress>,
    platform: Platform,
}

/// The guest, as handles see it. A handle that outlives the guest keeps only
/// numbers of it, not its memory, which vCPUs may sleep in.
enum GuestView {
    Serving(MonitorHandle, Weak<Parkers>),
    Ended(MonitorStats, ParkCounts),
}

impl GuestView {
    fn stats(&self) -> (MonitorStats, ParkCounts) {
        match self {
            Self::Serving(monitor, parkers) => {
                let parkers = parkers.upgrade();
                let counts = parkers.map(|parkers| parkers.counts());
                (monitor.stats(), counts.unwrap_or_default())
            }
            Self::Ended(monitor, counts) => (*monitor, *counts),
        }
    }
}

impl VmHandle {
    /// Stops the guest. [`Vm::run`] returns once it has stopped and what it had
    /// written was drained. How a guest has ended that has ended already stays, but
    /// peers that have not taken all of what it had written are not waited for.
    pub fn stop(&self, reason: StopReason) {
        self.run_state.ask_stop(match reason {
            StopReason::Request => Outcome::Interrupted(libc::SIGINT),
            StopReason::Signal(signal) => Outcome::Interrupted(signal),
            StopReason::Timeout => Outcome::TimedOut,
        });
    }

    /// Has the guest's state written where its notices go
    /// ([`VmConfig::notices`]): what is open, and what every vCPU and task waits for.
    /// It is written soon after this returns, if the guest still runs.
    pub fn dump(&self) {
        self.run_state.ask_dump();
    }

    /// Tells the guest's program of a signal, if it has asked for it and the guest still
    /// runs; `false` if it has not, and nothing is done.
    #[must_use]
    pub fn signal(&self, signal: i32) -> bool {
        match &*self.view() {
            GuestView::Serving(monitor, _) => {
                !self.run_state.is_stopping() && monitor.signal(signal)
            }
            GuestView::Ended(..) => false,
        }
    }

    fn view(&self) -> MutexGuard<'_, GuestView> {
        // Nobody panics between taking it and leaving it whole.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the guest did so far.
    #[must_use]
    pub fn stats(&self) -> VmStats {
        let counters = &self.run_state.counters;
        let (monitor, there) = self.view().stats();
        VmStats {
            platform: self.platform,
            monitor,
            vcpu_exits: counters.vcpu_exits.get(),
            parks: counters.parks.get().wrapping_add(there.parks),
            sleeps: counters.sleeps.get().wrapping_add(there.sleeps),
            wakes: counters.wakes.get().wrapping_add(there.kicks),
            kicks: counters.kicks.get().wrapping_add(there.kicks),
            stdout_bytes: self.stdout.delivered.get(),
        }
    }
}
