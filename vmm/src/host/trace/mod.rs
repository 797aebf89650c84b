//! What happens in a session, written down: as text for a person, as a file for
//! Wireshark.
//!
//! The monitor puts events into a queue and waits for nobody
//! ([`arca_monitor::trace`]); a thread of its own writes them down from there. What a
//! slow reader makes it leave out is counted, and said where it would have been.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | the thread |
//! | `filter.rs` | what of it is written as text |
//! | `text.rs` | a line for each event |
//! | `capture.rs` | connections as made-up TCP packets, and the frames of the control pipe |
//! | `pcapng.rs` | the blocks of the file |

mod capture;
mod filter;
mod pcapng;
mod text;

pub use filter::TraceFilter;

use crate::host::sandbox::{Entrance, Role};
use crate::host::worker::{Worker, write_unless};
use arca_monitor::trace::{TraceEvent, TraceReader};
use capture::Capture;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use text::Lines;

/// How long what is left may take to be written once the session is over.
const LIMIT: Duration = Duration::from_secs(5);
/// How long the thread has to notice that it is given up.
const INTERRUPT_LIMIT: Duration = Duration::from_millis(100);
/// Bytes that are written at once while more is to come.
const BATCH: usize = 64 << 10;

/// What of a session is written down, and where to: nothing, unless it says so.
#[derive(Default)]
pub struct Trace {
    /// As text: what of it, and where to.
    pub text: Option<(TraceFilter, Box<dyn Write + Send>)>,
    /// As a pcapng file: the bytes of every connection with made-up TCP headers, and
    /// the frames of the control pipe, decoded in their comments.
    pub file: Option<Box<dyn Write + Send>>,
}

impl Trace {
    /// Whether anything is written down.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.text.is_some() || self.file.is_some()
    }
}

/// The thread that writes a trace down.
pub struct TraceWriter {
    worker: Worker,
    /// Relaxed: the signal that follows is what makes the thread look.
    given_up: Arc<AtomicBool>,
}

impl TraceWriter {
    /// Starts it, with the other end of the monitor's queue.
    pub fn start(trace: Trace, reader: TraceReader, entrance: Entrance) -> io::Result<Self> {
        let given_up = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&given_up);
        let worker = Worker::spawn("trace", move || {
            if entrance.enter(Role::Stream) {
                write(trace, reader, &flag);
            }
        })?;
        Ok(Self { worker, given_up })
    }

    /// Waits until all is written down, but not for long. The monitor is gone.
    pub fn finish(self) {
        if !self.worker.wait(Instant::now() + LIMIT) {
            log::error!("the trace is not complete: nobody reads it");
            self.given_up.store(true, Ordering::Relaxed);
            if !self.worker.interrupt(INTERRUPT_LIMIT) {
                // It is left behind, with what it holds.
                return;
            }
        }
        self.worker.join();
    }
}

fn write(trace: Trace, mut reader: TraceReader, given_up: &AtomicBool) {
    let mut text = trace.text.map(|(filter, writer)| {
        let lines = Lines::new(filter);
        (lines, Sink::new("the trace", writer))
    });
    let mut file = trace.file.map(|writer| {
        let mut sink = Sink::new("the trace file", writer);
        let capture = Capture::begin(reader.began(), &mut sink.batch);
        (capture, sink)
    });
    let mut payload = Vec::new();
    while let Some(event) = reader.next(&mut payload) {
        let pause = reader.is_empty();
        if let Some((lines, sink)) = &mut text {
            lines.write(&event, &payload, &mut sink.batch);
            sink.write_if(pause, given_up);
        }
        if let Some((capture, sink)) = &mut file {
            capture.write(&event, &payload, &mut sink.batch);
            sink.write_if(pause, given_up);
        }
        if given_up.load(Ordering::Relaxed) {
            return;
        }
    }
    let left_out = reader.left_out();
    if left_out > 0 {
        log::warn!("{left_out} events were left out of the trace: it was not read in time");
    }
    if let Some((_, sink)) = &mut text {
        sink.write_if(true, given_up);
    }
    if let Some((capture, sink)) = &mut file {
        capture.end(left_out, &mut sink.batch);
        sink.write_if(true, given_up);
    }
}

/// A place that a trace is written to, in batches.
struct Sink {
    name: &'static str,
    /// None once it has failed.
    writer: Option<Box<dyn Write + Send>>,
    batch: Vec<u8>,
}

impl Sink {
    fn new(name: &'static str, writer: Box<dyn Write + Send>) -> Self {
        Self {
            name,
            writer: Some(writer),
            batch: Vec::new(),
        }
    }

    /// Writes what there is, if `now` or if it is enough for once.
    fn write_if(&mut self, now: bool, given_up: &AtomicBool) {
        if self.batch.is_empty() || !now && self.batch.len() < BATCH {
            return;
        }
        if let Some(writer) = &mut self.writer {
            let is_given_up = || given_up.load(Ordering::Relaxed);
            let written = write_unless(writer, &self.batch, |_| {}, is_given_up);
            if let Err((_, error)) = written
                && !is_given_up()
            {
                log::error!("{} ends here: {error}", self.name);
                self.writer = None;
            }
        }
        self.batch.clear();
    }
}

/// How many events were left out before this one, for a person.
fn left_out(event: &TraceEvent) -> Option<String> {
    let count = event.left_out;
    (count > 0).then(|| format!("{count} events were left out here: the trace is not read in time"))
}
