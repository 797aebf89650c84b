//! Standard input, standard output and logs: the host's ends of these pipes.
//!
//! Each has a thread of its own that makes blocking calls: the other end may be
//! a regular file, which epoll refuses, or a terminal that others share and
//! that must not become non-blocking.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arca_monitor::{StandardHandle, StandardPipe};
use nix::libc;
use nix::sys::signal::{SigSet, Signal};

use crate::control::Outcome;
use crate::logs::{self, Entry};
use crate::sandbox::{Entrance, Role};
use crate::stats::Counter;
use crate::worker::{Worker, write_unless};

/// Capacity of each direction of the pipes for input and output, in bytes: with
/// it, a pipe takes exactly 128 KiB.
pub const PIPE_SIZE: u64 = 65_512;

/// How long a reader of the guest's output may make no progress once the guest
/// has ended.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a thread that is given up on has to notice.
const NOTICE: Duration = Duration::from_millis(200);
/// Bytes that are moved at once.
const CHUNK: usize = 64 << 10;

/// How far a stream's thread has come.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes taken from the pipe.
    taken: Counter,
    /// Bytes of those that the host took.
    pub delivered: Counter,
    /// The stream's end is no longer waited for. Relaxed: the signal that
    /// follows is what makes the thread look, again and again.
    given_up: AtomicBool,
}

impl Progress {
    fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }
}

/// A stream from the guest, with its thread.
pub struct Outgoing {
    name: &'static str,
    worker: Worker,
    handle: StandardHandle,
    progress: Arc<Progress>,
}

impl Outgoing {
    /// Starts standard output.
    pub fn stdout(
        pipe: StandardPipe,
        writer: Box<dyn Write + Send>,
        progress: Arc<Progress>,
        entrance: Entrance,
    ) -> io::Result<Self> {
        let body = move |pipe: StandardPipe, progress: &Progress| {
            if !entrance.enter(Role::Stream) {
                return;
            }
            if let Err(error) = copy_out(pipe, writer, progress) {
                let rule = format!("the pipe of standard output: {error}");
                entrance.control.end(Outcome::Violation(rule));
            }
        };
        Self::start("standard output", "stdout", pipe, progress, body)
    }

    /// Starts the log, with `stderr` for the text among its records.
    pub fn log(
        pipe: StandardPipe,
        mut stderr: Box<dyn Write + Send>,
        entrance: Entrance,
    ) -> io::Result<Self> {
        let progress = Arc::default();
        Self::start("the log", "log", pipe, progress, move |pipe, progress| {
            if !entrance.enter(Role::Stream) {
                return;
            }
            let emit = |entry: Entry<'_>| match entry {
                Entry::Log {
                    level,
                    target,
                    message,
                } => logs::to_logger(level, &target, &message),
                // A standard error that fails has nobody to tell.
                Entry::Raw(text) => {
                    let _ = write_unless(&mut stderr, text, || progress.is_given_up());
                }
            };
            let advance = |n| {
                progress.taken.add(n);
                progress.delivered.add(n);
            };
            if let Err(error) = logs::forward(pipe, emit, advance) {
                let rule = format!("the log pipe: {error}");
                entrance.control.end(Outcome::Violation(rule));
            }
        })
    }

    fn start(
        name: &'static str,
        thread: &str,
        pipe: StandardPipe,
        progress: Arc<Progress>,
        body: impl FnOnce(StandardPipe, &Progress) + Send + 'static,
    ) -> io::Result<Self> {
        let handle = pipe.handle();
        let shared = Arc::clone(&progress);
        let worker = Worker::spawn(thread, move || body(pipe, &shared))?;
        Ok(Self {
            name,
            worker,
            handle,
            progress,
        })
    }

    /// Tells the thread that the guest has ended.
    pub fn guest_ended(&self) {
        self.handle.ended();
    }

    /// Waits until all is delivered, as long as it goes on; names what could
    /// not be. The guest has ended.
    pub fn drain(self) {
        const PAUSES: [u64; 4] = [50, 100, 500, 2000];
        let mut pauses = PAUSES.into_iter();
        let mut seen = self.position();
        let mut since = Instant::now();
        while !self.worker.is_finished() {
            let position = self.position();
            if position != seen {
                seen = position;
                since = Instant::now();
            } else if since.elapsed() > PATIENCE {
                self.progress.given_up.store(true, Ordering::Relaxed);
                // A thread that does not notice is left behind: it holds
                // nothing but its end of the stream.
                self.worker.interrupt(NOTICE);
                break;
            }
            let pause = pauses.next().unwrap_or(5000);
            std::thread::sleep(Duration::from_micros(pause));
        }
        let lost = self.undelivered();
        if lost > 0 {
            log::error!("{lost} bytes of {} could not be delivered", self.name);
        }
        if self.worker.is_finished() {
            self.worker.join();
        }
    }

    fn position(&self) -> (u64, u64) {
        (self.handle.pending(), self.progress.delivered.get())
    }

    fn undelivered(&self) -> u64 {
        let taken = self.progress.taken.get();
        self.handle.pending() + taken.saturating_sub(self.progress.delivered.get())
    }
}

/// Copies standard output until the guest has ended and all is copied. It fails
/// if the guest broke a rule of the pipe.
///
/// A writer that fails is not written to again, so that what it got is a
/// beginning of what the guest wrote and not a patchwork. The guest finds its
/// standard output closed, as it would behind `head`.
fn copy_out(
    mut pipe: StandardPipe,
    mut writer: Box<dyn Write + Send>,
    progress: &Progress,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = pipe.read(&mut chunk)?;
        if n == 0 || progress.is_given_up() {
            return Ok(());
        }
        progress.taken.add(n as u64);
        let written = write_unless(&mut writer, &chunk[..n], || progress.is_given_up());
        let Err((written, error)) = written else {
            progress.delivered.add(n as u64);
            continue;
        };
        progress.delivered.add(written as u64);
        if !progress.is_given_up() {
            log::error!("standard output failed, and is closed for the guest: {error}");
        }
        pipe.close_read();
        return Ok(());
    }
}

/// Standard input, with its thread.
pub struct Incoming {
    worker: Worker,
    handle: StandardHandle,
    ended: Arc<AtomicBool>,
}

impl Incoming {
    /// Starts it.
    pub fn start(
        mut pipe: StandardPipe,
        reader: Box<dyn Read + Send>,
        entrance: Entrance,
    ) -> io::Result<Self> {
        let handle = pipe.handle();
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        let worker = Worker::spawn("stdin", move || {
            ignore_terminal_stop();
            if entrance.enter(Role::Stream) {
                // Relaxed: as for `Progress::given_up`.
                copy_in(&mut pipe, reader, || flag.load(Ordering::Relaxed));
            }
            pipe.close_write();
        })?;
        Ok(Self {
            worker,
            handle,
            ended,
        })
    }

    /// Stops it: the guest has ended. A reader that cannot be interrupted keeps
    /// its thread until its read returns.
    pub fn stop(self) {
        self.ended.store(true, Ordering::Relaxed);
        self.handle.ended();
        if self.worker.interrupt(NOTICE) {
            self.worker.join();
        }
    }
}

/// Lets a read from a terminal fail that belongs to another job of the shell:
/// otherwise a guest in the background, whether it reads its input or not,
/// would be stopped.
fn ignore_terminal_stop() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTTIN);
    // It fails for no valid mask.
    let _ = signals.thread_block();
}

/// Copies standard input until it or the guest ends.
fn copy_in(pipe: &mut StandardPipe, mut reader: Box<dyn Read + Send>, ended: impl Fn() -> bool) {
    let mut chunk = vec![0; CHUNK];
    while !ended() {
        match reader.read(&mut chunk) {
            Ok(0) => return,
            Ok(n) => {
                if pipe.write_all(&chunk[..n]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The terminal belongs to another job.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => return,
            Err(error) => {
                log::error!("standard input failed ({error}); the guest finds it ended");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arca_monitor::{Link, VcpuWaker};
    use arca_shared::pipe::{BidirectionalPipe, Side};

    use super::*;
    use crate::memory::GuestMemory;
    use crate::uart::tests::Kept;

    struct NoVcpus;

    impl VcpuWaker for NoVcpus {
        fn wake(&self, _: usize) {}
    }

    /// Both ends of a standard pipe; the guest's is this test's.
    fn pipe() -> (StandardPipe, BidirectionalPipe) {
        let memory = GuestMemory::new(16 << 20, 4 << 20).expect("memory");
        let arena = memory.arena();
        let mut link = Link::new(arena.clone(), Arc::new(NoVcpus), 1).expect("fits");
        let pipe = link.standard_pipe(PIPE_SIZE).expect("fits");
        let guest = BidirectionalPipe::join(&arena, pipe.place(), Side::A).expect("joins");
        (pipe, guest)
    }

    fn start(pipe: StandardPipe, writer: Box<dyn Write + Send>) -> (Outgoing, Arc<Progress>) {
        let progress = Arc::new(Progress::default());
        let stream = Outgoing::stdout(pipe, writer, Arc::clone(&progress), Entrance::default());
        (stream.expect("thread"), progress)
    }

    #[test]
    fn what_an_ended_guest_wrote_is_delivered() {
        let (pipe, mut guest) = pipe();
        assert_eq!(guest.write(&[b'x'; 50_000]).expect("room"), 50_000);
        let kept = Kept::default();
        let (stream, progress) = start(pipe, Box::new(kept.clone()));
        stream.guest_ended();
        stream.drain();
        assert_eq!(progress.delivered.get(), 50_000);
        assert_eq!(kept.text(), "x".repeat(50_000));
    }

    #[test]
    fn a_writer_that_fails_closes_the_pipe() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (pipe, mut guest) = pipe();
        guest.write(b"lost").expect("room");
        let (stream, progress) = start(pipe, Box::new(Full));
        while !stream.worker.is_finished() {
            std::thread::yield_now();
        }
        assert!(guest.is_peer_read_closed());
        assert_eq!(stream.undelivered(), 4);
        stream.drain();
        assert_eq!(progress.delivered.get(), 0);
    }

    #[test]
    fn a_reader_that_stalls_is_given_up_on() {
        let (_reader, writer) = io::pipe().expect("pipe");
        let (pipe, mut guest) = pipe();
        let room = guest.write(&[0; PIPE_SIZE as usize]).expect("room");
        let (stream, progress) = start(pipe, Box::new(writer));
        // More than the kernel's pipe holds: the rest stays behind.
        while progress.taken.get() < room as u64 {
            std::thread::yield_now();
        }
        let more = guest.write(&[0; 60_000]).expect("room");
        stream.guest_ended();
        let started = Instant::now();
        stream.drain();
        assert!(started.elapsed() >= PATIENCE);
        assert!(progress.delivered.get() < (room + more) as u64);
    }

    #[test]
    fn input_ends_where_its_reader_ends() {
        let (pipe, mut guest) = pipe();
        let stream =
            Incoming::start(pipe, Box::new(&b"hello"[..]), Entrance::default()).expect("thread");
        while !guest.is_peer_write_closed() {
            std::thread::yield_now();
        }
        let mut bytes = [0; 8];
        assert_eq!(guest.read(&mut bytes).expect("there"), 5);
        assert_eq!(&bytes[..5], b"hello");
        stream.stop();
    }
}
