//! SIGINT, SIGTERM, SIGHUP and SIGUSR1, from this command's first step to its last.
//!
//! | SIGINT or SIGTERM comes | what it does |
//! |---|---|
//! | before there is a guest | ends the process at once: nothing has begun |
//! | first, later, and the guest's program waits for it | is the program's; the guest is stopped if it is still there [`PROGRAM_GRACE`] later |
//! | first, later, and it does not | stops the guest in an orderly way |
//! | again | ends the process at once |
//!
//! In both cases the process ends [`GRACE`] after the first at the latest, whatever it waits
//! for by then.
//!
//! SIGHUP is told to a program that waits for it, each time, and has its default action
//! otherwise; it stays ignored where it was. SIGUSR1 has the guest's state printed, if there
//! is a guest, and ends nothing.
//!
//! A handler passes each signal on through a pipe to a thread that may do what
//! a handler may not. Holding the signals back instead, for a signalfd, would
//! need every thread of the process to do so, and some are not this crate's.

use crate::host::worker::Worker;
use crate::vm::status::CODE_SIGNAL_BASE;
use crate::vm::{StopReason, VmHandle};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::Pid;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long the process has from the first signal to its end: a little more than
/// the guest's output may take by then, and less than those who sent the signal
/// usually wait before they send SIGKILL.
pub const GRACE: Duration = Duration::from_secs(8);

/// How long a program that waits for the signal has to end by itself; what is left of
/// [`GRACE`] is for stopping the guest in order.
pub const PROGRAM_GRACE: Duration = Duration::from_secs(5);

/// Has the guest's state printed.
const DUMP: Signal = Signal::SIGUSR1;
/// For a program that waits for it, as a rule to read its configuration anew.
const HANG_UP: Signal = Signal::SIGHUP;
const SIGNALS: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, HANG_UP, DUMP];

/// Both ends of the handler's pipe, made once and kept for the rest of the
/// process: a handler may be about to write to it at any moment.
static PIPE: OnceLock<(PipeReader, PipeWriter)> = OnceLock::new();
/// The writing end's descriptor, for the handler; -1 until there is one.
/// Relaxed: the handler is installed after it is set, by a system call.
static WRITER: AtomicI32 = AtomicI32::new(-1);
/// Somebody has the signals. Acquired by the swap that takes it, released by
/// the store that gives it back: the actions and the pipe change hands with it.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// How far the process has come, for the first signal.
enum Stage {
    /// There is no guest yet.
    Starting,
    /// There is one, which may have ended meanwhile.
    Guest(VmHandle),
}

/// The signals taken over by this process, until this is dropped, or for good with
/// [`Signals::keep_until_exit`].
pub struct Signals {
    before: Vec<(Signal, SigAction)>,
    stage: Arc<Mutex<Stage>>,
    done: EventFd,
    worker: Option<Worker>,
}

impl Signals {
    /// Takes them over. One at a time in a process.
    ///
    /// # Errors
    ///
    /// If somebody has them already, or those of making descriptors and a thread.
    pub fn take() -> io::Result<Self> {
        let pipe = pipe()?;
        let done = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let seen = done.as_fd().try_clone_to_owned()?;
        if TAKEN.swap(true, Ordering::Acquire) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        // What came before is nobody's any more. The pipe does not block.
        while matches!((&pipe.0).read(&mut [0; 64]), Ok(n) if n > 0) {}
        // From here on a drop gives back what was taken.
        let mut signals = Self {
            before: Vec::new(),
            stage: Arc::new(Mutex::new(Stage::Starting)),
            done,
            worker: None,
        };
        let stage = Arc::clone(&signals.stage);
        let worker = Worker::spawn("signals", move || watch(&pipe.0, &seen, &stage))?;
        signals.worker = Some(worker);
        let action = SigAction::new(
            SigHandler::Handler(pass_on),
            SaFlags::SA_RESTART,
            SigSet::empty(),
        );
        for signal in SIGNALS {
            // SAFETY: the handler does only what a handler may do: an atomic
            // load and a write.
            let before = unsafe { sigaction(signal, &action) }?;
            if signal == HANG_UP && matches!(before.handler(), SigHandler::SigIgn) {
                // As under nohup.
                // SAFETY: what was in place before is as safe as it was.
                unsafe { sigaction(signal, &before) }?;
                continue;
            }
            signals.before.push((signal, before));
        }
        Ok(signals)
    }

    /// Says that there is a guest now, which the first signal is to stop.
    pub fn guest(&self, vm: VmHandle) {
        // Nobody panics between taking it and leaving it whole.
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = Stage::Guest(vm);
    }

    /// Keeps them for the rest of the process, which is about to end with a code of its
    /// own: given back, a signal in its last moments would kill it instead.
    pub fn keep_until_exit(self) {
        mem::forget(self);
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for (signal, before) in &self.before {
            // SAFETY: what was in place before is as safe as it was. It cannot
            // fail: the same signal's action was set before.
            let _ = unsafe { sigaction(*signal, before) };
        }
        // A counter of 0 takes a 1.
        let _ = self.done.write(1);
        if let Some(worker) = self.worker.take() {
            worker.join();
        }
        TAKEN.store(false, Ordering::Release);
    }
}

/// Sees to the signals until `done`.
fn watch(signals: &PipeReader, done: &impl AsFd, stage: &Mutex<Stage>) {
    // Nobody panics between taking it and leaving it whole.
    let stage = || stage.lock().unwrap_or_else(PoisonError::into_inner);
    let first = loop {
        match next(signals, done, None) {
            Event::Signal(signal) => match passing(signal, &stage()) {
                true => {}
                false => break signal,
            },
            Event::Deadline | Event::Done => return,
        }
    };
    let began = Instant::now();
    let is_the_programs = match &*stage() {
        Stage::Starting => end_at_once(first),
        Stage::Guest(vm) => vm.signal(first),
    };
    // A program that sees to it has until then; another one has no time of its own.
    let until = is_the_programs.then(|| began + PROGRAM_GRACE);
    while let Some(event) = until.map(|until| next(signals, done, Some(until))) {
        match event {
            Event::Done => return,
            Event::Signal(signal) if passing(signal, &stage()) => {}
            Event::Signal(second) => end_at_once(second),
            Event::Deadline => break,
        }
    }
    if let Stage::Guest(vm) = &*stage() {
        vm.stop(StopReason::Signal(first));
    }
    loop {
        match next(signals, done, Some(began + GRACE)) {
            Event::Done => return,
            // What is still delivered holds the end up.
            Event::Signal(signal) if signal == DUMP as i32 => _ = passing(signal, &stage()),
            // The guest is at its end.
            Event::Signal(signal) if signal == HANG_UP as i32 => {}
            Event::Signal(second) => end_at_once(second),
            Event::Deadline => end_at_once(first),
        }
    }
}

/// Sees to a signal that ends nothing by itself; `false` if it is none of those.
fn passing(signal: i32, stage: &Stage) -> bool {
    if signal == DUMP as i32 {
        if let Stage::Guest(vm) = stage {
            vm.dump();
        }
        return true;
    }
    if signal == HANG_UP as i32 {
        let is_the_programs = matches!(stage, Stage::Guest(vm) if vm.signal(signal));
        if !is_the_programs {
            hang_up();
        }
        return true;
    }
    false
}

/// Does what SIGHUP does where nobody has taken it over: ends the process.
fn hang_up() {
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action is no code of ours. It cannot fail: the same signal's
    // action was set before.
    let _ = unsafe { sigaction(HANG_UP, &action) };
    // To the process: it is gone when this returns, or soon after.
    let _ = kill(Pid::this(), HANG_UP);
}

/// Ends the process with nothing more of its own being run: whatever that would
/// wait for may be what the process waits for already.
fn end_at_once(signal: i32) -> ! {
    // SAFETY: ends the process; there is nothing after it.
    unsafe { libc::_exit(i32::from(CODE_SIGNAL_BASE) + signal) }
}

/// The handler.
extern "C" fn pass_on(signal: libc::c_int) {
    let byte = signal as u8;
    let errno = nix::errno::Errno::last_raw();
    // SAFETY: one byte is read from `byte`. The descriptor is the pipe's, which
    // is never closed. It does not block: when the pipe is full, many signals
    // have been passed on already.
    unsafe { libc::write(WRITER.load(Ordering::Relaxed), (&raw const byte).cast(), 1) };
    nix::errno::Errno::set_raw(errno);
}

/// The handler's pipe.
fn pipe() -> io::Result<&'static (PipeReader, PipeWriter)> {
    if let Some(pipe) = PIPE.get() {
        return Ok(pipe);
    }
    let (reader, writer) = io::pipe()?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    // Another thread may have been faster: its pipe is everybody's then.
    let pipe = PIPE.get_or_init(|| (reader, writer));
    WRITER.store(pipe.1.as_raw_fd(), Ordering::Relaxed);
    Ok(pipe)
}

/// What the watching thread waits for.
enum Event {
    /// A signal came.
    Signal(i32),
    /// The time is up.
    Deadline,
    /// The watch is over.
    Done,
}

/// Waits for an event.
fn next(mut signals: &PipeReader, done: &impl AsFd, deadline: Option<Instant>) -> Event {
    loop {
        let timeout = match deadline {
            None => PollTimeout::NONE,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Event::Deadline;
                }
                // Rounded up, so that the last look is not made again and again.
                let millis = left.as_millis().saturating_add(1);
                PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut fds = [
            PollFd::new(done.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return Event::Done,
        }
        if fds[0].any() == Some(true) {
            return Event::Done;
        }
        let mut signal = [0];
        if matches!(signals.read(&mut signal), Ok(1)) {
            return Event::Signal(i32::from(signal[0]));
        }
    }
}
