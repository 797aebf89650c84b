//! Threads that can be interrupted in a blocking call.
//!
//! A read from a terminal, or a write to a pipe that nobody reads, may block
//! for ever, and a thread in it cannot be cancelled. A signal ends the call
//! with EINTR instead: its handler does nothing and calls are not restarted. A
//! single signal may come just before the call begins and be lost, so it is
//! sent again until the thread has noticed. The same signal brings a vCPU out
//! of the guest.

use nix::libc;
use std::io::{self, Write};
use std::os::unix::thread::JoinHandleExt;
use std::sync::Once;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Before a call is repeated that would have had to wait, where nothing says how
/// long.
pub const PAUSE: Duration = Duration::from_millis(1);
/// Between two signals to a thread that has not noticed the first.
const RESEND: Duration = Duration::from_micros(500);

/// A thread that answers to the signal.
pub struct Worker<T = ()> {
    handle: JoinHandle<T>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts one.
    pub fn spawn(name: &str, body: impl FnOnce() -> T + Send + 'static) -> io::Result<Self> {
        install_handlers();
        let handle = thread::Builder::new().name(name.into()).spawn(body)?;
        Ok(Self { handle })
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Waits for its end, until `deadline` at the latest. `true` if it has ended.
    pub fn wait(&self, deadline: Instant) -> bool {
        while !self.is_finished() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(PAUSE);
        }
        true
    }

    /// Signals the thread until it has ended, for at most that long. `true` if
    /// it has.
    pub fn interrupt(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while !self.is_finished() {
            if Instant::now() >= deadline {
                return false;
            }
            self.signal_and_pause();
        }
        true
    }

    /// Signals the thread once, then pauses: the signal is a queued one, and a
    /// thread to which it is sent faster than its handler runs does nothing else.
    pub fn signal_and_pause(&self) {
        self.signal();
        thread::sleep(RESEND);
    }

    /// Signals the thread once.
    pub fn signal(&self) {
        // SAFETY: the thread has not been joined or detached, as its handle is
        // here, so its id is valid even if it has ended. The handler of this
        // signal is installed before any worker is started.
        unsafe { libc::pthread_kill(self.handle.as_pthread_t(), signal_number()) };
    }

    /// Waits for its end. `None` if it panicked.
    pub fn join(self) -> Option<T> {
        self.handle.join().ok()
    }
}

/// Signals a thread of this process by its number. It must have been started as a
/// worker; one that has ended is not signalled.
pub fn signal_thread(thread: libc::pid_t) {
    // SAFETY: sends a signal, whose handler does nothing and is installed before any
    // worker is started, to a thread of this process or to nobody.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal_number()) };
}

fn signal_number() -> libc::c_int {
    // The lowest ones are what debuggers and other libraries tend to take.
    libc::SIGRTMIN() + 6
}

/// Installs the handler that does nothing, once for the process. A write past the
/// largest size that a file may have is to be an error of that write, as a write
/// to a closed pipe is in every program of Rust's: SIGXFSZ is ignored, unless
/// somebody wants it.
fn install_handlers() {
    extern "C" fn nothing(_: libc::c_int) {}
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: all-zero bytes are a valid `sigaction`: no flags, an empty
        // mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as *const () as libc::sighandler_t;
        // SAFETY: the action is fully initialised, and its handler does nothing,
        // which is safe at any moment.
        unsafe { libc::sigaction(signal_number(), &raw const action, std::ptr::null_mut()) };
        // SAFETY: reads the action in place into `action`, which is a whole one.
        unsafe { libc::sigaction(libc::SIGXFSZ, std::ptr::null(), &raw mut action) };
        if action.sa_sigaction == libc::SIG_DFL {
            // SAFETY: no code is run.
            unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        }
    });
}

/// Writes all of `bytes`, unless `give_up` says so when the write was
/// interrupted. `took` is told of each piece that was taken. On failure says how
/// many bytes were written before.
pub fn write_unless(
    writer: &mut (impl Write + ?Sized),
    bytes: &[u8],
    mut took: impl FnMut(usize),
    give_up: impl Fn() -> bool,
) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match writer.write(&bytes[written..]) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(n) => {
                written += n;
                took(n);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted && !give_up() => {}
            // The command's own writers wait until there is room.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !give_up() => {
                thread::sleep(PAUSE);
            }
            Err(error) => return Err((written, error)),
        }
    }
    loop {
        match writer.flush() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted && !give_up() => {}
            result => return result.map_err(|error| (written, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_blocked_read_is_interrupted() {
        let (mut reader, _writer) = io::pipe().expect("pipe");
        let worker = Worker::spawn("test", move || {
            let mut byte = [0];
            reader.read(&mut byte).map_err(|error| error.kind())
        })
        .expect("thread");
        assert!(worker.interrupt(Duration::from_secs(10)));
        assert_eq!(worker.join(), Some(Err(io::ErrorKind::Interrupted)));
    }

    #[test]
    fn a_blocked_write_is_given_up() {
        let (_reader, mut writer) = io::pipe().expect("pipe");
        let given_up = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&given_up);
        let worker = Worker::spawn("test", move || {
            // Relaxed: the signal's arrival is what makes it look.
            let give_up = || flag.load(Ordering::Relaxed);
            let result = write_unless(&mut writer, &[0; 1 << 20], |_| {}, give_up);
            result.map_err(|(written, _)| written)
        })
        .expect("thread");
        assert!(!worker.interrupt(Duration::from_millis(20)), "keeps trying");
        given_up.store(true, Ordering::Relaxed);
        assert!(worker.interrupt(Duration::from_secs(10)));
        let written = worker.join().expect("no panic").expect_err("given up");
        assert_eq!(written, 64 << 10);
    }
}
