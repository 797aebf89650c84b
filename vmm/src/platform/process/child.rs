//! The child process: from its start to its end.

use super::area::SharedArea;
use crate::error::StartError;
use crate::host::worker::{PAUSE, Worker};
use crate::memory::file::{Content, memory_file};
use arca_stub::area::{Slot, VCPUS};
use arca_stub::layout::SAMPLE_SIGNAL;
use nix::libc;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// The stub's program.
pub static STUB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/stub"));

/// How long the stub may be open for writing in a child of another thread.
const BUSY_LIMIT: Duration = Duration::from_secs(2);

/// The process that runs a guest.
pub struct Child {
    /// To kill it by: whoever has its number next is safe from that.
    handle: OwnedFd,
    id: libc::pid_t,
    guardian: Option<Worker>,
}

/// What the child gets as its first three descriptors, in this order.
pub struct Descriptors {
    /// Guest memory.
    pub memory: OwnedFd,
    /// The doorbell's eventfd.
    pub doorbell: OwnedFd,
    /// The area.
    pub area: OwnedFd,
}

impl Child {
    /// Starts it, with nothing of this process's but these descriptors. At its end all
    /// who wait at the area are told, and `ended` has how it ended.
    pub fn start(
        descriptors: Descriptors,
        area: Arc<SharedArea>,
        ended: Arc<OnceLock<ExitStatus>>,
    ) -> Result<Self, StartError> {
        let failed = |source| StartError::Host {
            action: "start a process for the guest",
            source,
        };
        let (started, start) = mpsc::sync_channel(1);
        // The child dies with the thread that started it: one that does nothing but
        // wait for its end.
        let body = move || match spawn(descriptors) {
            Err(error) => {
                let _ = started.send(Err(error));
            }
            Ok(mut child) => {
                let id = child.id() as libc::pid_t;
                let handle = handle_of(id).map(|handle| (handle, id));
                if handle.is_err() {
                    let _ = child.kill();
                }
                let _ = started.send(handle);
                let status = loop {
                    match child.wait() {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        // Somebody else has waited for it; how it ended is lost.
                        Err(_) => break ExitStatus::default(),
                        Ok(status) => break status,
                    }
                };
                let _ = ended.set(status);
                area.abandon();
            }
        };
        let guardian = Worker::spawn("guest", body).map_err(failed)?;
        match start.recv() {
            Ok(Ok((handle, id))) => Ok(Self {
                handle,
                id,
                guardian: Some(guardian),
            }),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(failed(io::Error::other("its thread panicked"))),
        }
    }

    /// Has its threads leave their registers in the area, and waits a moment until
    /// they have. Where the guest has written over the threads' ids, they do not.
    pub fn sample(&self, area: &SharedArea) {
        const LIMIT: Duration = Duration::from_millis(100);
        let vcpus = usize::try_from(area.vcpus.get()).unwrap_or(VCPUS);
        let slots = area.slots.iter().take(vcpus);
        let before: Vec<_> = slots.map(|slot| (slot, slot.samples.get())).collect();
        for (slot, _) in &before {
            // SAFETY: passes numbers. A thread of another process is not signalled, and
            // were the process to end and its number to be another's just now, that
            // one's default is to ignore this signal.
            unsafe {
                libc::syscall(
                    libc::SYS_tgkill,
                    self.id,
                    slot.thread.get() as libc::pid_t,
                    SAMPLE_SIGNAL,
                );
            }
        }
        let deadline = Instant::now() + LIMIT;
        let waits = |(slot, before): &(&Slot, u64)| slot.samples.get() == *before;
        while before.iter().any(waits) && Instant::now() < deadline {
            thread::yield_now();
        }
    }

    /// Ends it, wherever it is.
    pub fn kill(&self) {
        // SAFETY: the descriptor is a process's that this one started; no memory is
        // passed. It fails only if the process has ended.
        unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.handle.as_raw_fd(),
                libc::SIGKILL,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            );
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        if let Some(guardian) = self.guardian.take() {
            guardian.join();
        }
    }
}

fn spawn(descriptors: Descriptors) -> io::Result<std::process::Child> {
    let program = memory_file("arca-stub", STUB.len() as u64, Content::Code)?;
    let mut program = File::from(program);
    program.write_all(STUB)?;
    // A file that is open for writing cannot be executed.
    let readable = File::open(format!("/proc/self/fd/{}", program.as_raw_fd()))?;
    drop(program);
    let mut command = Command::new(format!("/proc/self/fd/{}", readable.as_raw_fd()));
    command
        .arg0("arca-guest")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(descriptors.memory))
        .stdout(Stdio::from(descriptors.doorbell))
        .stderr(Stdio::from(descriptors.area));
    let deadline = Instant::now() + BUSY_LIMIT;
    loop {
        match command.spawn() {
            // Another thread has forked while it was, and its child still has all
            // descriptors, for as long as it takes to execute something.
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy
                    && Instant::now() < deadline =>
            {
                thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
}

fn handle_of(process: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: takes and gives numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call made the descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// How a process ended, in words.
pub fn describe(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {signal}"),
        },
        None => format!("ended with code {}", status.code().unwrap_or_default()),
    }
}
