//! Running a guest to its end, and leaving nothing of it behind.

use crate::crash;
use crate::debug::GdbServer;
use crate::host::sandbox::{Entrance, Role};
use crate::host::streams::{INTERRUPT_LIMIT, Incoming, Outgoing, STALL_LIMIT, drain_all};
use crate::host::trace::TraceWriter;
use crate::host::worker::Worker;
use crate::platform::vcpu::{self, Vcpu, VcpuShared};
use crate::vm::dump::Dumper;
use crate::vm::notices::Notices;
use crate::vm::outcome::{self, Event, Outcome, RunState, SessionGuard};
use crate::vm::status::ExitStatus;
use crate::vm::{GuestView, Vm};
use arca_monitor::{Monitor, MonitorHandle, SessionEnd, Undelivered};
use nix::libc;
use std::cell::OnceCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a vCPU has to come out of the guest, and the monitor out of its
/// loop. Both take microseconds; a host that is not able to do it in this time
/// is not able to do it.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How long the connections of a guest that was stopped may go on delivering.
const SESSION_LIMIT: Duration = Duration::from_secs(6);

/// The threads of a running guest.
#[derive(Default)]
struct Threads {
    vcpus: Vec<Worker<Option<()>>>,
    monitor: Option<Worker<Option<Undelivered>>>,
    outgoing: Vec<Outgoing>,
    stdin: Option<Incoming>,
    trace: Option<TraceWriter>,
    gdb: Option<GdbServer>,
}

pub fn run(vm: Vm) -> ExitStatus {
    let Vm {
        image,
        map,
        vcpus,
        shared,
        monitor,
        monitor_handle,
        handle,
        stdin,
        stdout,
        log,
        timeout,
        dump_every,
        notices,
        trace,
        debugger,
        sandbox,
        machine,
    } = vm;
    let run_state = Arc::clone(&shared.run_state);
    let standard = [
        (
            stdin
                .as_ref()
                .map_or(u64::MAX, |(pipe, _)| pipe.place().shm_offset),
            "standard input",
        ),
        (stdout.0.place().shm_offset, "standard output"),
        (log.0.place().shm_offset, "standard error and the log"),
    ];
    let mut threads = Threads::default();
    let entrance = Entrance {
        sandbox,
        run_state: Arc::clone(&run_state),
    };
    let mut notices = Notices::new(notices, entrance.clone());
    let start = || -> io::Result<()> {
        if let Some((debugger, listener)) = debugger {
            let address = listener.address();
            let (memory, run_state) = (Arc::clone(&shared.memory), Arc::clone(&run_state));
            let server = GdbServer::start(listener, debugger, memory, map.clone(), run_state)?;
            threads.gdb = Some(server);
            notices.say(&format!(
                "the guest waits for gdb: gdb {} -ex 'target remote {address}'",
                image.name()
            ));
        }
        for vcpu in vcpus {
            threads.vcpus.push(start_vcpu(vcpu, &shared, &entrance)?);
        }
        if let Some((trace, reader)) = trace {
            threads.trace = Some(TraceWriter::start(trace, reader, entrance.clone())?);
        }
        machine.start();
        threads.monitor = Some(start_monitor(monitor, &entrance)?);
        let progress = Arc::clone(&handle.stdout);
        threads.outgoing.push(Outgoing::stdout(
            stdout.0,
            stdout.1,
            progress,
            entrance.clone(),
        )?);
        threads
            .outgoing
            .push(Outgoing::log(log.0, log.1, entrance.clone())?);
        if let Some((pipe, reader)) = stdin {
            threads.stdin = Some(Incoming::start(pipe, reader, entrance.clone())?);
        }
        Ok(())
    };
    if let Err(error) = start() {
        run_state.end(Outcome::HostFailed(format!(
            "a thread could not be started: {error}"
        )));
    }

    let deadline = outcome::deadline(timeout);
    let bytes = OnceCell::new();
    let dumper = Dumper {
        image: &image,
        map: &map,
        machine: &*machine,
        shared: &shared,
        monitor: &monitor_handle,
        standard,
        bytes: &bytes,
        symbols: OnceCell::new(),
    };
    let mut next_dump = outcome::deadline(dump_every);
    let outcome = loop {
        let why = match run_state.next(deadline.into_iter().chain(next_dump).min()) {
            Event::Ended(outcome) => break outcome,
            Event::DumpAsked => "as asked for",
            Event::Deadline if deadline.is_some_and(|at| at <= Instant::now()) => "its time is up",
            Event::Deadline => {
                next_dump = outcome::deadline(dump_every);
                "as asked for every so often"
            }
        };
        notices.say(&dumper.dump(&threads.vcpus, why));
        if deadline.is_some_and(|at| at <= Instant::now()) {
            run_state.ask_stop(Outcome::TimedOut);
        }
    };
    let ended = Instant::now();

    if let Some(gdb) = threads.gdb {
        gdb.finish(outcome.code());
    }
    machine.stop();
    let stopped = stop_vcpus(threads.vcpus, &shared);
    let console = finish_console(&shared);
    for stream in &threads.outgoing {
        stream.guest_ended();
    }
    let session_drain = SessionDrain::begin(&outcome, &monitor_handle, deadline);
    if let Some(stdin) = threads.stdin {
        stdin.stop();
    }
    let (undelivered, lost) = drain_all(threads.outgoing, &run_state, || {
        let dump = |why: &str| notices.say(&dumper.session(why));
        session_drain.end(threads.monitor, &monitor_handle, &run_state, dump)
    });
    if let Some(trace) = threads.trace {
        trace.finish();
    }
    // It has had its time unless the streams needed none.
    if let Some(console) = console
        && (console.wait(ended + STALL_LIMIT) || console.interrupt(INTERRUPT_LIMIT))
    {
        console.join();
    }
    let stats = monitor_handle.stats();
    *handle.view() = GuestView::Ended(stats, shared.parkers.counts());
    drop(machine);
    if !stopped {
        return ExitStatus::HostFailed("a vCPU could not be stopped".into());
    }
    let lost = match undelivered {
        Ok(undelivered) => lost + undelivered.bytes,
        Err(reason) => return ExitStatus::HostFailed(reason.into()),
    };
    match outcome {
        Outcome::Exited(0) if lost > 0 => ExitStatus::OutputLost,
        Outcome::Exited(code) => ExitStatus::Exited(code),
        Outcome::Crashed(state) => ExitStatus::Crashed(Box::new(crash::report(
            *state,
            &image,
            &map,
            &shared.memory,
        ))),
        Outcome::Violation(rule) => ExitStatus::SessionEnded(rule),
        Outcome::TimedOut => ExitStatus::TimedOut,
        Outcome::Interrupted(signal) => ExitStatus::Interrupted(signal),
        Outcome::HostFailed(reason) => ExitStatus::HostFailed(reason),
    }
}

/// How long the monitor may go on delivering what the guest had written.
struct SessionDrain {
    deadline: Option<Instant>,
    /// Whoever asks for the end ends it.
    until_asked: bool,
}

impl SessionDrain {
    /// Tells the monitor how the guest has ended. `deadline`: that of the guest,
    /// which holds for what it leaves behind too.
    fn begin(outcome: &Outcome, monitor: &MonitorHandle, deadline: Option<Instant>) -> Self {
        let (deadline, until_asked) = match outcome {
            Outcome::Exited(_) => {
                monitor.finish();
                (deadline, true)
            }
            // The monitor has a limit of its own.
            Outcome::Crashed(_) => {
                monitor.stop();
                (None, true)
            }
            Outcome::TimedOut | Outcome::Interrupted(_) => {
                monitor.stop();
                (Some(Instant::now() + SESSION_LIMIT), false)
            }
            // What such a guest wrote last is worth nothing.
            Outcome::Violation(_) | Outcome::HostFailed(_) => {
                monitor.abort();
                (Some(Instant::now() + STOP_LIMIT), false)
            }
        };
        Self {
            deadline,
            until_asked,
        }
    }

    /// Waits for the monitor's end, and says what was not delivered.
    fn end(
        self,
        worker: Option<Worker<Option<Undelivered>>>,
        monitor: &MonitorHandle,
        run_state: &RunState,
        mut dump: impl FnMut(&str),
    ) -> Result<Undelivered, &'static str> {
        let Some(worker) = worker else {
            return Ok(Undelivered::default());
        };
        let asked = || dump("as asked for");
        if !run_state.wait_session(self.deadline, self.until_asked, asked) {
            if self.until_asked && self.deadline.is_some_and(|at| at <= Instant::now()) {
                dump("its time is up");
            }
            monitor.abort();
            if !run_state.wait_session(Some(Instant::now() + STOP_LIMIT), false, || {}) {
                // It is left behind, with what it holds.
                return Err("the monitor could not be stopped");
            }
        }
        // It has said that it is over, and does nothing but return.
        worker.join().flatten().ok_or("the monitor panicked")
    }
}

fn start_vcpu(
    vcpu: Box<dyn Vcpu>,
    shared: &Arc<VcpuShared>,
    entrance: &Entrance,
) -> io::Result<Worker<Option<()>>> {
    let (shared, inside) = (Arc::clone(shared), entrance.clone());
    guarded("vcpu", &entrance.run_state, move || {
        precise_timers();
        if inside.enter(Role::Vcpu) {
            vcpu::run(vcpu, &shared);
        }
    })
}

fn start_monitor(
    mut monitor: Monitor,
    entrance: &Entrance,
) -> io::Result<Worker<Option<Undelivered>>> {
    let inside = entrance.clone();
    guarded("monitor", &entrance.run_state, move || {
        let _session = SessionGuard(Arc::clone(&inside.run_state));
        precise_timers();
        if !inside.enter(Role::Relay) {
            return Undelivered::default();
        }
        let end = monitor.serve();
        if let SessionEnd::Violation(rule) = &end {
            // Before the guest can see it: what it does then, its exit code
            // included, counts no more.
            inside.run_state.end(Outcome::Violation(rule.to_string()));
        }
        monitor.close();
        match end {
            SessionEnd::Undelivered(undelivered) => undelivered,
            SessionEnd::Stopped | SessionEnd::Closed | SessionEnd::Violation(_) => {
                Undelivered::default()
            }
        }
    })
}

/// Asks the kernel not to round this thread's deadlines: by default it may end
/// a sleep 50 microseconds late, to join it with others.
fn precise_timers() {
    const NANOSECOND: libc::c_ulong = 1;
    // SAFETY: changes one number of this thread's scheduling; a kernel that
    // refuses leaves deadlines as they were.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, NANOSECOND) };
}

/// Starts a thread that ends the guest should it panic: nothing else would. Its
/// worker gives nothing then.
fn guarded<T: Send + 'static>(
    name: &'static str,
    run_state: &Arc<RunState>,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Worker<Option<T>>> {
    let run_state = Arc::clone(run_state);
    Worker::spawn(name, move || {
        // What the body leaves behind is dropped with it or made to survive a
        // panic; see the locks of `RunState` and `Uart`.
        let result = catch_unwind(AssertUnwindSafe(body)).ok();
        if result.is_none() {
            run_state.end(Outcome::HostFailed(format!("the {name} thread panicked")));
        }
        result
    })
}

/// Has the console write the lines that the guest did not end, which may take as
/// long as whoever reads standard error wants.
fn finish_console(shared: &Arc<VcpuShared>) -> Option<Worker> {
    let inside = Arc::clone(shared);
    let worker = Worker::spawn("console", move || inside.uart.finish());
    if worker.is_err() {
        shared.uart.finish();
    }
    worker.ok()
}

/// Stops all vCPUs, wherever they are: in the guest, asleep, or in a write to
/// the console. `false` if one cannot be stopped.
fn stop_vcpus(vcpus: Vec<Worker<Option<()>>>, shared: &VcpuShared) -> bool {
    shared.parkers.wake_all();
    let deadline = Instant::now() + STOP_LIMIT;
    let mut stopped = true;
    for vcpu in vcpus {
        if vcpu.interrupt(deadline.saturating_duration_since(Instant::now())) {
            vcpu.join();
        } else {
            stopped = false;
        }
    }
    stopped
}
