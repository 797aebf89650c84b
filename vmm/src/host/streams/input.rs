//! Standard input, read when the guest asks for it.
//!
//! What is read of a pipe or a terminal cannot be put back, and whoever reads it
//! next should find what this guest did not want. So nothing is read ahead: each
//! request of the guest's is one read of at most as many bytes.

use super::{CHUNK, INTERRUPT_LIMIT, errno_of};
use crate::host::sandbox::{Entrance, Role};
use crate::host::worker::{PAUSE, Worker};
use crate::vm::outcome::Outcome;
use arca_monitor::StandardPipe;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Standard input, with its thread.
pub struct Incoming {
    worker: Worker,
    handle: arca_monitor::StandardHandle,
    ended: Arc<AtomicBool>,
}

impl Incoming {
    /// Starts it.
    pub fn start(
        pipe: StandardPipe,
        reader: Box<dyn Read + Send>,
        entrance: Entrance,
    ) -> io::Result<Self> {
        let handle = pipe.handle();
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        let worker = Worker::spawn("stdin", move || {
            if !entrance.enter(Role::Stream) {
                return;
            }
            // Relaxed: the signal that follows is what makes the thread look,
            // again and again.
            if let Err(error) = copy(pipe, reader, || flag.load(Ordering::Relaxed)) {
                let rule = format!("the pipe of standard input: {error}");
                entrance.run_state.end(Outcome::Violation(rule));
            }
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
        if self.worker.interrupt(INTERRUPT_LIMIT) {
            self.worker.join();
        }
    }
}

/// Answers the guest's requests until it or the input ends. It fails if the guest
/// broke a rule of the pipe.
fn copy(
    mut pipe: StandardPipe,
    mut reader: Box<dyn Read + Send>,
    ended: impl Fn() -> bool,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let wanted = pipe.wanted()?.min(chunk.len());
        if wanted == 0 {
            return Ok(());
        }
        let len = loop {
            if ended() {
                return Ok(());
            }
            match reader.read(&mut chunk[..wanted]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A reader of an embedder's, of which nothing says when it has more: a
                // `Descriptor` waits with ppoll(2) by itself.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(PAUSE);
                }
                result => break result,
            }
        };
        match len {
            Ok(0) => {
                pipe.close_write(0);
                return Ok(());
            }
            Ok(len) => match pipe.write_all(&chunk[..len]) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                result => result?,
            },
            Err(error) => {
                pipe.close_write(errno_of(&error));
                return Ok(());
            }
        }
    }
}
