//! Standard output and the log, on their way to the host.
//!
//! Bytes are taken from the ring only once the host has them, so that a ring
//! that is empty means delivered, to the guest's flush and to the end's count.

use super::{CHUNK, INTERRUPT_LIMIT, errno_of};
use crate::host::descriptor::{Queue, Sink};
use crate::host::logs::{self, Entry};
use crate::host::sandbox::{Entrance, Role};
use crate::host::worker::{Worker, write_unless};
use crate::vm::outcome::{Outcome, RunState};
use crate::vm::stats::Counter;
use arca_monitor::{StandardHandle, StandardPipe};
use std::io::{self, Write};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a reader of the guest's output may make no progress once the guest
/// has ended; once somebody asked for the end, how long there is in all.
pub const STALL_LIMIT: Duration = Duration::from_secs(5);
/// How often the write of a thread that makes no progress is interrupted.
const NUDGE: Duration = Duration::from_millis(500);

/// How far a stream's thread has come.
#[derive(Debug, Default)]
pub struct StreamProgress {
    /// Bytes that the host took.
    pub delivered: Counter,
    /// Bytes that were taken from the ring and that the host refused.
    lost: Counter,
    /// The stream's end is no longer waited for. Relaxed: the signal that
    /// follows is what makes the thread look, again and again.
    given_up: AtomicBool,
}

impl StreamProgress {
    fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }
}

/// A stream from the guest, with its thread.
pub struct Outgoing {
    name: &'static str,
    worker: Worker,
    handle: StandardHandle,
    progress: Arc<StreamProgress>,
    queue: Option<Queue>,
}

impl Outgoing {
    /// Starts standard output.
    pub fn stdout(
        pipe: StandardPipe,
        sink: Sink,
        progress: Arc<StreamProgress>,
        entrance: Entrance,
    ) -> io::Result<Self> {
        let Sink { writer, queue } = sink;
        let body = move |pipe: StandardPipe, progress: &StreamProgress| {
            if !entrance.enter(Role::Stream) {
                return;
            }
            if let Err(error) = copy(pipe, writer, progress) {
                let rule = format!("the pipe of standard output: {error}");
                entrance.run_state.end(Outcome::Violation(rule));
            }
        };
        Self::start("standard output", "stdout", pipe, queue, progress, body)
    }

    /// Starts the log, with `stderr` for the text among its records.
    pub fn log(pipe: StandardPipe, stderr: Sink, entrance: Entrance) -> io::Result<Self> {
        let Sink { mut writer, queue } = stderr;
        let body = move |pipe: StandardPipe, progress: &StreamProgress| {
            if !entrance.enter(Role::Stream) {
                return;
            }
            let emit = |entry: Entry<'_>| match entry {
                Entry::Log {
                    level,
                    target,
                    message,
                } => logs::to_logger(level, &target, &message),
                Entry::Raw(text) => {
                    let took = |len| progress.delivered.add(len as u64);
                    let given_up = || progress.is_given_up();
                    if let Err((written, _)) = write_unless(&mut writer, text, took, given_up) {
                        progress.lost.add((text.len() - written) as u64);
                    }
                }
            };
            if let Err(error) = logs::forward(pipe, emit, || progress.is_given_up()) {
                let rule = format!("the log pipe: {error}");
                entrance.run_state.end(Outcome::Violation(rule));
            }
        };
        Self::start("standard error", "log", pipe, queue, Arc::default(), body)
    }

    fn start(
        name: &'static str,
        thread: &str,
        pipe: StandardPipe,
        queue: Option<Queue>,
        progress: Arc<StreamProgress>,
        body: impl FnOnce(StandardPipe, &StreamProgress) + Send + 'static,
    ) -> io::Result<Self> {
        let handle = pipe.handle();
        let shared = Arc::clone(&progress);
        let worker = Worker::spawn(thread, move || body(pipe, &shared))?;
        Ok(Self {
            name,
            worker,
            handle,
            progress,
            queue,
        })
    }

    /// Its thread.
    #[cfg(test)]
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Tells the thread that the guest has ended.
    pub fn guest_ended(&self) {
        self.handle.ended();
    }

    /// Waits until all is delivered, for as long as the reader takes bytes; says
    /// how many could not be, after naming them in the log. The guest has ended.
    pub fn drain(&self, run_state: &RunState) -> u64 {
        const PAUSES: [u64; 4] = [50, 100, 500, 2000];
        let mut pauses = PAUSES.into_iter();
        let mut seen = self.position();
        let mut since = Instant::now();
        let mut nudged = since;
        while !self.worker.is_finished() {
            let position = self.position();
            if position != seen {
                seen = position;
                since = Instant::now();
            }
            if run_state.stop_asked().unwrap_or(since).elapsed() > STALL_LIMIT {
                self.progress.given_up.store(true, Ordering::Relaxed);
                // A thread that does not notice is left behind: it holds
                // nothing but its end of the stream.
                self.worker.interrupt(INTERRUPT_LIMIT);
                break;
            }
            if since.elapsed() > NUDGE && nudged.elapsed() > NUDGE {
                // A write that blocks says how much of it was taken only when
                // it is interrupted.
                self.worker.signal();
                nudged = Instant::now();
            }
            let pause = pauses.next().unwrap_or(5000);
            thread::sleep(Duration::from_micros(pause));
        }
        let lost = self.handle.pending() + self.progress.lost.get();
        if lost > 0 {
            log::error!("{lost} bytes of {} could not be delivered", self.name);
        }
        lost
    }

    /// Joins the thread, unless [`Outgoing::drain`] has given up on it.
    fn join(self) {
        if self.worker.is_finished() {
            self.worker.join();
        }
    }

    /// What changes whenever the reader takes something.
    fn position(&self) -> (u64, u64, Option<u64>) {
        (
            self.handle.pending(),
            self.progress.delivered.get(),
            self.queue.as_ref().and_then(Queue::held),
        )
    }
}

/// Drains all of these at the same time, and while the caller does `meanwhile`: a
/// loss is named when it is known. Gives what that gives, and the number of bytes
/// lost. The guest has ended.
pub fn drain_all<T>(
    streams: Vec<Outgoing>,
    run_state: &RunState,
    meanwhile: impl FnOnce() -> T,
) -> (T, u64) {
    let drained = thread::scope(|scope| {
        let drain = |stream| {
            let body = move || Outgoing::drain(stream, run_state);
            (stream, thread::Builder::new().spawn_scoped(scope, body))
        };
        let drains: Vec<_> = streams.iter().map(drain).collect();
        let result = meanwhile();
        let lost = drains.into_iter().map(|(stream, drain)| match drain {
            Ok(drain) => drain.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // Without a thread, late.
            Err(_) => stream.drain(run_state),
        });
        (result, lost.sum())
    });
    streams.into_iter().for_each(Outgoing::join);
    drained
}

/// Copies standard output until the guest has ended and all is copied. It fails
/// if the guest broke a rule of the pipe.
///
/// A writer that fails is not written to again, so that what it got is a
/// beginning of what the guest wrote and not a patchwork. The guest finds its
/// standard output failed, with the writer's errno.
fn copy(
    mut pipe: StandardPipe,
    mut writer: Box<dyn Write + Send>,
    progress: &StreamProgress,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let len = pipe.peek(&mut chunk)?;
        if len == 0 || progress.is_given_up() {
            return Ok(());
        }
        let took = |len| {
            pipe.consume(len);
            progress.delivered.add(len as u64);
        };
        let written = write_unless(&mut writer, &chunk[..len], took, || progress.is_given_up());
        let Err((written, error)) = written else {
            continue;
        };
        if progress.is_given_up() {
            return Ok(());
        }
        if written == len {
            // All was written, and none of it may have gone further.
            progress.lost.add(len as u64);
        }
        log::error!("standard output failed, and is closed for the guest: {error}");
        pipe.close_read(errno_of(&error));
        return Ok(());
    }
}
