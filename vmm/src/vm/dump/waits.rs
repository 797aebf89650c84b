//! What tasks wait for, in words: with the connection that a pipe belongs to, and the
//! place in the program that waits.

use super::seconds;
use super::tasks::{Reader, Tasks, places};
use crate::crash::symbols::Symbols;
use crate::platform::clock::GuestClock;
use arca_monitor::SessionState;
use arca_shared::memory::ShmOffset;
use arca_shared::protocol::message::Request;
use arca_shared::protocol::task_table::{TaskRecord, TaskState, Wait};
use std::fmt::Write;

/// Most tasks that are shown.
const SHOWN: usize = 256;

/// What is known of that which is waited for.
pub struct Waits<'a, 'image> {
    pub symbols: &'a Symbols<'image>,
    pub reader: Reader<'a>,
    pub session: Option<&'a SessionState>,
    /// The standard pipes, by where they are in the arena.
    pub standard: &'a [(u64, &'static str)],
    pub clock: &'a GuestClock,
    /// Nanoseconds since boot.
    pub now: u64,
}

impl Waits<'_, '_> {
    /// All tasks.
    pub fn tasks(&self, tasks: &Tasks, text: &mut String) {
        let count = tasks.tasks.len() as u64;
        let _ = write!(text, "\n  tasks: {}", count.saturating_add(tasks.unlisted));
        for task in tasks.tasks.iter().take(SHOWN) {
            self.task(task, text);
        }
        let shown = count.min(SHOWN as u64);
        match (count - shown).saturating_add(tasks.unlisted) {
            0 => {}
            more => _ = write!(text, "\n    and {more} more"),
        }
    }

    fn task(&self, task: &TaskRecord, text: &mut String) {
        let origin = &task.origin;
        let unknown = || "a future of unknown type".to_owned();
        let name = self.reader.text(origin.name).unwrap_or_else(unknown);
        let file = self.reader.text(origin.file).unwrap_or_default();
        let since = self.now.saturating_sub(self.clock.at(task.since));
        let since = seconds(since);
        let _ = write!(text, "\n    task {} {name}", task.number);
        let _ = write!(text, ", spawned at {file}:{}", origin.line);
        let _ = match task.state {
            Some(TaskState::Queued) => {
                write!(text, ": can go on, and no vCPU has taken it for {since}")
            }
            Some(TaskState::Running(vcpu)) => {
                write!(text, ": is polled on vCPU {vcpu} for {since}")
            }
            Some(TaskState::Waiting) => write!(text, ": has waited for {since}"),
            None => write!(text, ": is in an unknown state"),
        };
        if task.state != Some(TaskState::Queued) {
            self.write(task, "", text);
        }
    }

    /// What the entry says is waited for, each on a line of its own.
    pub fn write(&self, record: &TaskRecord, before: &str, text: &mut String) {
        for noted in record.waits.iter().flatten() {
            let _ = write!(
                text,
                "\n      {before}waits for {}",
                self.describe(noted.wait)
            );
            for place in places(self.symbols, noted) {
                let _ = write!(text, "\n        in {place}");
            }
        }
        if record.more_waits > 0 {
            let _ = write!(text, "\n      and for {} more", record.more_waits);
        }
    }

    fn describe(&self, wait: Wait) -> String {
        match wait {
            Wait::Read(offset) => format!("bytes to read from {}", self.pipe(offset)),
            Wait::Write(offset) => format!("room to write to {}", self.pipe(offset)),
            Wait::Flush(offset) => format!("all it wrote to be taken from {}", self.pipe(offset)),
            Wait::Accept(id) => format!("a connection on listener {id}{}", self.listener(id)),
            Wait::Connect => "a connect to be answered".into(),
            Wait::Reply(code) => {
                let known = Request::TABLE.iter().find(|message| message.code == code);
                let name = known.map_or("unknown", |message| message.name);
                format!("the monitor's reply to a request {name}")
            }
            Wait::Time(deadline) => match deadline.checked_sub(self.now) {
                Some(left) => format!("a timer, {} from now", seconds(left)),
                None => format!("a timer, since {} due", seconds(self.now - deadline)),
            },
            Wait::Task(number) => format!("task {number} to end"),
            Wait::Lock(address) => {
                let name = self.symbols.data_at(address);
                let name = name.map_or_else(String::new, |name| format!(" ({name})"));
                format!("a lock, a channel or a signal at {address:#x}{name}")
            }
        }
    }

    fn pipe(&self, ShmOffset(offset): ShmOffset) -> String {
        let standard = self.standard.iter().find(|(at, _)| *at == offset);
        if let Some((_, name)) = standard {
            return (*name).into();
        }
        let connections = self.session.map(|session| &session.connections.some);
        let connection = connections
            .into_iter()
            .flatten()
            .find(|connection| connection.pipe.shm_offset == offset);
        match connection {
            Some(connection) => match connection.peer {
                Some(peer) => format!("connection {} with {peer}", connection.id),
                None => format!("connection {}", connection.id),
            },
            None => format!("the pipe at offset {offset:#x}"),
        }
    }

    fn listener(&self, id: u32) -> String {
        let listeners = self.session.map(|session| &session.listeners.some);
        let listener = listeners
            .into_iter()
            .flatten()
            .find(|listener| listener.id == id);
        listener.map_or_else(String::new, |listener| format!(" at {}", listener.local))
    }
}
