//! What guests and monitors in this process logged lately.

use log::{LevelFilter, Log, Metadata, Record};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines that are kept.
const KEPT: usize = 100;

/// The process's logger: keeps the last lines, for tests that fail.
struct Records(Mutex<VecDeque<String>>);

static RECORDS: Records = Records(Mutex::new(VecDeque::new()));

impl Records {
    fn lines(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Records {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let (level, target) = (record.level(), record.target());
        let mut lines = self.lines();
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(format!("[{level:<5} {target}] {}", record.args()));
    }

    fn flush(&self) {}
}

/// Keeps what is logged from now on, unless a test has a logger of its own.
pub(crate) fn keep() {
    if log::set_logger(&RECORDS).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// What was kept and not told before.
#[must_use]
pub fn lately() -> String {
    let lines = std::mem::take(&mut *RECORDS.lines());
    lines
        .iter()
        .flat_map(|line| [line.as_str(), "\n"])
        .collect()
}
