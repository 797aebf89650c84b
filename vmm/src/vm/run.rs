//! Running a guest to its end, and leaving nothing of it behind.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use arca_monitor::{Monitor, SessionEnd};
use nix::libc;

use crate::control::{Control, Outcome};
use crate::crash;
use crate::sandbox::{Entrance, Role};
use crate::status::ExitStatus;
use crate::streams::{Incoming, Outgoing};
use crate::vcpu::{Machine, Vcpu};
use crate::vm::{MonitorView, Vm};
use crate::worker::Worker;

/// How long a vCPU has to come out of the guest, and the monitor out of its
/// loop. Both take microseconds; a host that is not able to do it in this time
/// is not able to do it.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The threads of a running guest.
#[derive(Default)]
struct Threads {
    vcpus: Vec<Worker>,
    monitor: Option<Worker>,
    outgoing: Vec<Outgoing>,
    stdin: Option<Incoming>,
}

pub fn run(vm: Vm) -> ExitStatus {
    let Vm {
        image,
        map,
        vcpus,
        machine,
        monitor,
        monitor_handle,
        handle,
        stdin,
        stdout,
        log,
        timeout,
        sandbox,
        _kvm: kvm,
    } = vm;
    let control = Arc::clone(&machine.control);
    let mut threads = Threads::default();
    let entrance = Entrance {
        sandbox,
        control: Arc::clone(&control),
    };
    let start = || -> io::Result<()> {
        for vcpu in vcpus {
            threads.vcpus.push(start_vcpu(vcpu, &machine, &entrance)?);
        }
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
        control.end(Outcome::HostFailed(format!(
            "a thread could not be started: {error}"
        )));
    }

    let outcome = control.wait(timeout);

    let stopped = stop_vcpus(threads.vcpus, &machine);
    machine.uart.finish();
    for stream in &threads.outgoing {
        stream.guest_ended();
    }
    if matches!(outcome, Outcome::Violation(_) | Outcome::HostFailed(_)) {
        // What such a guest wrote last is worth nothing.
        monitor_handle.abort();
    } else {
        monitor_handle.stop();
    }
    if let Some(stdin) = threads.stdin {
        stdin.stop();
    }
    for stream in threads.outgoing {
        stream.drain();
    }
    if let Some(monitor) = threads.monitor {
        monitor.join();
    }
    let stats = monitor_handle.stats();
    *handle.view() = MonitorView::Ended(stats);
    drop(kvm);
    if !stopped {
        return ExitStatus::HostFailed("a vCPU could not be stopped".into());
    }
    match outcome {
        Outcome::Exited(code) => ExitStatus::Exited(code),
        Outcome::Crashed(state) => ExitStatus::Crashed(Box::new(crash::report(
            *state,
            &image,
            &map,
            &machine.memory,
        ))),
        Outcome::Violation(rule) => ExitStatus::SessionEnded(rule),
        Outcome::TimedOut => ExitStatus::TimedOut,
        Outcome::Interrupted(signal) => ExitStatus::Interrupted(signal),
        Outcome::HostFailed(reason) => ExitStatus::HostFailed(reason),
    }
}

fn start_vcpu(vcpu: Vcpu, machine: &Arc<Machine>, entrance: &Entrance) -> io::Result<Worker> {
    let (machine, inside) = (Arc::clone(machine), entrance.clone());
    guarded("vcpu", &entrance.control, move || {
        precise_timers();
        if inside.enter(Role::Vcpu) {
            vcpu.run(&machine);
        }
    })
}

fn start_monitor(mut monitor: Monitor, entrance: &Entrance) -> io::Result<Worker> {
    let inside = entrance.clone();
    guarded("monitor", &entrance.control, move || {
        precise_timers();
        if !inside.enter(Role::Relay) {
            return;
        }
        if let SessionEnd::Violation(rule) = monitor.serve() {
            // Before the guest can see it: what it does then, its exit code
            // included, counts no more.
            inside.control.end(Outcome::Violation(rule.to_string()));
        }
        monitor.close();
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

/// Starts a thread that ends the guest should it panic: nothing else would.
fn guarded(
    name: &'static str,
    control: &Arc<Control>,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<Worker> {
    let control = Arc::clone(control);
    Worker::spawn(name, move || {
        // What the body leaves behind is dropped with it or made to survive a
        // panic; see the locks of `Control` and `Uart`.
        if catch_unwind(AssertUnwindSafe(body)).is_err() {
            control.end(Outcome::HostFailed(format!("the {name} thread panicked")));
        }
    })
}

/// Stops all vCPUs, wherever they are: in the guest, asleep, or in a write to
/// the console. `false` if one cannot be stopped.
fn stop_vcpus(vcpus: Vec<Worker>, machine: &Machine) -> bool {
    machine.parkers.wake_all();
    let mut stopped = true;
    for vcpu in vcpus {
        if vcpu.interrupt(STOP_LIMIT) {
            vcpu.join();
        } else {
            stopped = false;
        }
    }
    stopped
}
