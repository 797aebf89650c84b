//! SIGINT and SIGTERM, turned into an orderly stop; a second one ends the
//! process at once.
//!
//! A handler passes each signal on through a pipe to a thread that may do what
//! a handler may not. Holding the signals back instead, for a signalfd, would
//! need every thread of the process to do so, and some are not this crate's.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::status::CODE_SIGNAL_BASE;
use crate::vm::{StopReason, VmHandle};
use crate::worker::Worker;

const SIGNALS: [Signal; 2] = [Signal::SIGINT, Signal::SIGTERM];

/// Both ends of the handler's pipe, made once and kept for the rest of the
/// process: a handler may be about to write to it at any moment.
static PIPE: OnceLock<(PipeReader, PipeWriter)> = OnceLock::new();
/// The writing end's descriptor, for the handler; -1 until there is one.
/// Relaxed: the handler is installed after it is set, by a system call.
static WRITER: AtomicI32 = AtomicI32::new(-1);
/// Somebody has the signals. Acquired by the swap that takes it, released by
/// the store that gives it back: the actions and the pipe change hands with it.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// SIGINT and SIGTERM taken over by this process, until this is dropped. Until
/// [`Signals::watch`] they wait.
pub struct Signals {
    before: Vec<(Signal, SigAction)>,
}

impl Signals {
    /// Takes them over. One at a time in a process.
    ///
    /// # Errors
    ///
    /// If somebody has them already, or those of making a pipe.
    pub fn take() -> io::Result<Self> {
        let pipe = pipe()?;
        if TAKEN.swap(true, Ordering::Acquire) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        // What came before is nobody's any more. The pipe does not block.
        while matches!((&pipe.0).read(&mut [0; 64]), Ok(n) if n > 0) {}
        let mut signals = Self { before: Vec::new() };
        let action = SigAction::new(
            SigHandler::Handler(pass_on),
            SaFlags::SA_RESTART,
            SigSet::empty(),
        );
        for signal in SIGNALS {
            // SAFETY: the handler does only what a handler may do: an atomic
            // load and a write.
            let before = unsafe { sigaction(signal, &action) }?;
            signals.before.push((signal, before));
        }
        Ok(signals)
    }

    /// Stops a guest when one of the signals comes.
    ///
    /// # Errors
    ///
    /// Those of making a descriptor and a thread.
    pub fn watch(&self, vm: VmHandle) -> io::Result<Watch<'_>> {
        let signals = &pipe()?.0;
        let done = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let seen = done.as_fd().try_clone_to_owned()?;
        let worker = Worker::spawn("signals", move || {
            let mut first = true;
            while let Some(signal) = next(signals, &seen) {
                if !first {
                    std::process::exit(i32::from(CODE_SIGNAL_BASE) + signal);
                }
                first = false;
                vm.stop(StopReason::Signal(signal));
            }
        })?;
        Ok(Watch {
            done,
            worker: Some(worker),
            _signals: self,
        })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for (signal, before) in &self.before {
            // SAFETY: what was in place before is as safe as it was. It cannot
            // fail: the same signal's action was set before.
            let _ = unsafe { sigaction(*signal, before) };
        }
        TAKEN.store(false, Ordering::Release);
    }
}

/// A guest being watched over; dropping it ends that.
pub struct Watch<'a> {
    done: EventFd,
    worker: Option<Worker>,
    _signals: &'a Signals,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        // A counter of 0 takes a 1.
        let _ = self.done.write(1);
        if let Some(worker) = self.worker.take() {
            worker.join();
        }
    }
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

/// Waits for a signal; `None` once `done` says that it is over.
fn next(mut signals: &PipeReader, done: &impl AsFd) -> Option<i32> {
    loop {
        let mut fds = [
            PollFd::new(done.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return None,
        }
        if fds[0].any() == Some(true) {
            return None;
        }
        let mut signal = [0];
        if matches!(signals.read(&mut signal), Ok(1)) {
            return Some(i32::from(signal[0]));
        }
    }
}
