//! The child process: from its start to its end.

use super::area::SharedArea;
use crate::error::StartError;
use crate::host::worker::{PAUSE, Worker};
use crate::memory::file::memory_file;
use arca_stub::area::{Slot, VCPUS};
use arca_stub::layout::SAMPLE_SIGNAL;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, pipe2, write};
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// The stub's program.
pub static STUB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/stub"));

/// How long the stub may be open for writing in a child of another thread.
const BUSY_LIMIT: Duration = Duration::from_secs(2);

/// How long the kernel may take to end it. It takes less than a millisecond, unless
/// there is much memory to give back or a processor is not to be had.
const END_LIMIT: Duration = Duration::from_secs(30);

/// The process that runs a guest.
pub struct Child {
    /// To kill it by: the kernel does, whatever this process may do to others by then.
    tether: OwnedFd,
    /// What the child has of the tether, so that there is always somebody to write to.
    _tethered: OwnedFd,
    id: Arc<Identity>,
    /// Has no sender any more once the child has ended and its guardian is about to.
    ended: mpsc::Receiver<Infallible>,
    guardian: Option<Worker>,
}

/// The child's number, for as long as it is the child's.
#[derive(Default)]
struct Identity(Mutex<Option<Pid>>);

/// What the child gets as its first two descriptors, in this order; its third is the
/// tether.
pub struct Descriptors {
    /// The area, and guest memory behind it.
    pub memory: OwnedFd,
    /// The doorbell's eventfd.
    pub doorbell: OwnedFd,
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
        // Nobody ever waits for anything of it.
        let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let (tethered, tether) = pipe2(flags).map_err(|errno| failed(errno.into()))?;
        let held = tethered.try_clone().map_err(failed)?;
        let id = Arc::new(Identity::default());
        let kept = Arc::clone(&id);
        let (started, start) = mpsc::sync_channel(1);
        let (ending, over) = mpsc::channel();
        // The child dies with the thread that started it: one that does nothing but
        // wait for its end.
        let body = move || {
            let _ending: mpsc::Sender<Infallible> = ending;
            match spawn(descriptors, held) {
                Err(error) => {
                    let _ = started.send(Err(error));
                }
                Ok(child) => {
                    kept.set(&child);
                    let _ = started.send(Ok(()));
                    let _ = ended.set(kept.wait(child));
                    area.abandon();
                }
            }
        };
        let guardian = Worker::spawn("guest", body).map_err(failed)?;
        match start.recv() {
            Ok(Ok(())) => Ok(Self {
                tether,
                _tethered: tethered,
                id,
                ended: over,
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
        let before = slots.map(|slot| (slot, slot.samples.get()));
        let asked = |(slot, _): &(&Slot, u64)| {
            let thread = slot.thread.get() as libc::pid_t;
            self.id.signal_thread(thread, SAMPLE_SIGNAL)
        };
        let asked: Vec<_> = before.filter(asked).collect();
        let deadline = Instant::now() + LIMIT;
        let waits = |(slot, before): &(&Slot, u64)| slot.samples.get() == *before;
        while asked.iter().any(waits) && Instant::now() < deadline {
            thread::yield_now();
        }
    }

    /// Ends it, wherever it is.
    pub fn kill(&self) {
        // It fails where it is full of such bytes, of which one is enough.
        let _ = write(&self.tether, &[0]);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        let Some(guardian) = self.guardian.take() else {
            return;
        };
        match self.ended.recv_timeout(END_LIMIT) {
            Err(mpsc::RecvTimeoutError::Timeout) => {
                log::error!(
                    "a guest's process was killed and has not ended for {} s; it is left behind",
                    END_LIMIT.as_secs()
                );
            }
            _ => {
                guardian.join();
            }
        }
    }
}

impl Identity {
    fn set(&self, child: &std::process::Child) {
        *self.lock() = Some(Pid::from_raw(child.id() as libc::pid_t));
    }

    /// Waits for the child's end. Its number is forgotten before the kernel may give it
    /// to another, unless somebody else waits for children of this process.
    fn wait(&self, mut child: std::process::Child) -> ExitStatus {
        let id = Pid::from_raw(child.id() as libc::pid_t);
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(id), flags) == Err(Errno::EINTR) {}
        let mut number = self.lock();
        *number = None;
        // It fails where somebody else has waited for it; how it ended is lost.
        child.wait().unwrap_or_default()
    }

    /// Signals a thread of the child; `false` if there is no such thread, or it may not
    /// be signalled.
    fn signal_thread(&self, thread: libc::pid_t, signal: libc::c_int) -> bool {
        let number = self.lock();
        let Some(process) = *number else {
            return false;
        };
        // SAFETY: passes numbers. The process is the child, and a thread of another is
        // not signalled.
        0 == unsafe { libc::syscall(libc::SYS_tgkill, process.as_raw(), thread, signal) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pid>> {
        // Nobody panics while holding it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spawn(descriptors: Descriptors, tethered: OwnedFd) -> io::Result<std::process::Child> {
    let program = memory_file("arca-stub", STUB.len() as u64)?;
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
        .stderr(Stdio::from(tethered));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_signalled_only_while_it_is_the_childs() {
        let child = Command::new("sleep").arg("600").spawn().expect("starts");
        let number = child.id() as libc::pid_t;
        let id = Identity::default();
        assert!(!id.signal_thread(number, 0), "it is not known yet");
        id.set(&child);
        assert!(id.signal_thread(number, 0));
        // This thread is another process's.
        let here = nix::unistd::gettid().as_raw();
        assert!(!id.signal_thread(here, 0));
        assert!(id.signal_thread(number, libc::SIGKILL));
        assert_eq!(id.wait(child).signal(), Some(libc::SIGKILL));
        assert_eq!(*id.lock(), None);
        assert!(!id.signal_thread(number, 0));
    }
}
