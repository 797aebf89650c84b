//! What is said of a guest while it runs, on its way to a person who may not read it.

use crate::host::sandbox::{Entrance, Role};
use crate::host::worker::{Worker, write_unless};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Notices that may wait to be written; one that finds no room is left out.
const WAITING: usize = 2;
/// How long the last ones may take once the guest has ended.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a thread has to notice that it is given up.
const INTERRUPT_LIMIT: Duration = Duration::from_millis(100);

/// Writes notices from a thread of its own: nobody who has something else to do
/// waits for a reader.
pub struct Notices {
    writer: Option<Box<dyn Write + Send>>,
    thread: Option<(SyncSender<String>, Worker)>,
    /// Relaxed: the signal that follows is what makes the thread look.
    given_up: Arc<AtomicBool>,
    left_out: usize,
    entrance: Entrance,
}

impl Notices {
    pub fn new(writer: Box<dyn Write + Send>, entrance: Entrance) -> Self {
        Self {
            entrance,
            writer: Some(writer),
            thread: None,
            given_up: Arc::default(),
            left_out: 0,
        }
    }

    /// Says something, unless too much waits to be written; then the next one says
    /// that it was left out.
    pub fn say(&mut self, notice: &str) {
        if self.thread.is_none() {
            self.start();
        }
        let Some((sender, _)) = &self.thread else {
            return;
        };
        let left_out = match self.left_out {
            0 => String::new(),
            n => format!("arca: {n} notices were left out: nobody reads them\n"),
        };
        match sender.try_send(format!("{left_out}arca: {notice}\n")) {
            Ok(()) => self.left_out = 0,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.left_out += 1,
        }
    }

    fn start(&mut self) {
        let Some(mut writer) = self.writer.take() else {
            return;
        };
        let (sender, receiver) = sync_channel::<String>(WAITING);
        let given_up = Arc::clone(&self.given_up);
        let entrance = self.entrance.clone();
        let body = move || {
            if !entrance.enter(Role::Stream) {
                return;
            }
            let is_given_up = || given_up.load(Ordering::Relaxed);
            while let Ok(notice) = receiver.recv() {
                // What cannot be written has nobody to be said to.
                let _ = write_unless(&mut writer, notice.as_bytes(), |_| {}, is_given_up);
            }
        };
        // Without a thread nothing is said.
        self.thread = Worker::spawn("notices", body)
            .ok()
            .map(|worker| (sender, worker));
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        let Some((sender, worker)) = self.thread.take() else {
            return;
        };
        drop(sender);
        if !worker.wait(Instant::now() + LIMIT) {
            self.given_up.store(true, Ordering::Relaxed);
            if !worker.interrupt(INTERRUPT_LIMIT) {
                // It is left behind: it holds nothing but its writer.
                return;
            }
        }
        worker.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::uart::tests::Kept;
    use std::io::{self, Read};

    #[test]
    fn notices_are_written_in_order_to_the_last() {
        let kept = Kept::default();
        let mut notices = Notices::new(Box::new(kept.clone()), Entrance::default());
        notices.say("one");
        notices.say("two");
        drop(notices);
        assert_eq!(kept.text(), "arca: one\narca: two\n");
    }

    #[test]
    fn a_reader_that_does_not_read_holds_nobody_up() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let mut notices = Notices::new(Box::new(writer), Entrance::default());
        let long = "x".repeat(1 << 20);
        notices.say(&long);
        // The first is being written, and is more than the pipe takes.
        reader.read_exact(&mut [0]).expect("its beginning");
        for _ in 0..9 {
            notices.say(&long);
        }
        assert_eq!(notices.left_out, 9 - WAITING);
        notices.given_up.store(true, Ordering::Relaxed);
        let (_, worker) = notices.thread.as_ref().expect("it has one");
        worker.interrupt(INTERRUPT_LIMIT);
    }
}
