//! The task table: what each task of a guest, and each vCPU outside of its tasks, waits
//! for. The runtime keeps it in its own memory, for a VMM that is to explain a guest
//! that hangs: such a guest runs no code that could tell. Nobody acts on it.
//!
//! It is the symbol [`SYMBOL`] of the image, in words of 64 bits:
//!
//! | words | hold |
//! |---|---|
//! | 4 | [`MAGIC`]; entries of tasks that were ever used; tasks that found no entry; 0 |
//! | [`MAX_VCPUS`] entries | a vCPU each, for what waits in no task |
//! | [`TASKS`] entries | a task each |
//!
//! An entry:
//!
//! | word | holds |
//! |---|---|
//! | 0 | number of the task, 0 in a free entry |
//! | 1 | state in the low 8 bits, the vCPU of a running one in the next 8 |
//! | 2 | time-stamp counter when that state began |
//! | 3, 4 | address of its name; length in the low half, the line that spawned it in the high one |
//! | 5, 6 | address and length of the name of the file that spawned it |
//! | 7 | waits since it was last polled, those that follow and more |
//! | 8 | [`WAITS`] times: kind, subject, and [`FRAMES`] return addresses of who waits |
//!
//! Whoever reads it while the guest runs may find an entry in the middle of a change.

use super::layout::MAX_VCPUS;
use crate::memory::ShmOffset;
use core::sync::atomic::{AtomicU64, Ordering};

/// Name of the table's symbol.
pub const SYMBOL: &str = "ARCA_TASKS";
/// The first word.
pub const MAGIC: u64 = u64::from_le_bytes(*b"ARCATSK1");
/// Tasks that have an entry; one that is spawned when there are as many has none.
pub const TASKS: usize = 4096;
/// Waits that an entry has room for.
pub const WAITS: usize = 2;
/// Return addresses that a wait has room for.
pub const FRAMES: usize = 8;
/// Words before the first entry.
pub const HEADER_WORDS: usize = 4;
/// Words of a wait.
const WAIT_WORDS: usize = 2 + FRAMES;
/// Words before an entry's waits.
const FIRST_WAIT: usize = 8;
/// Words of an entry.
pub const ENTRY_WORDS: usize = FIRST_WAIT + WAITS * WAIT_WORDS;

/// What a future waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Bytes to read from the pipe at that offset.
    Read(ShmOffset),
    /// Room to write in the pipe at that offset.
    Write(ShmOffset),
    /// That the other side takes all that was written to the pipe at that offset.
    Flush(ShmOffset),
    /// A connection on the listener of that id.
    Accept(u32),
    /// A connect's outcome.
    Connect,
    /// The reply to a request of that message type.
    Reply(u8),
    /// That the clock reaches so many nanoseconds since boot.
    Time(u64),
    /// The end of the task of that number.
    Task(u64),
    /// A lock, a channel or a signal, at that address.
    Lock(u64),
}

impl Wait {
    /// Kind and subject, as in the table.
    #[must_use]
    pub fn encode(self) -> (u64, u64) {
        match self {
            Self::Read(ShmOffset(offset)) => (1, offset),
            Self::Write(ShmOffset(offset)) => (2, offset),
            Self::Flush(ShmOffset(offset)) => (3, offset),
            Self::Accept(listener) => (4, listener.into()),
            Self::Connect => (5, 0),
            Self::Reply(message_type) => (6, message_type.into()),
            Self::Time(nanos) => (7, nanos),
            Self::Task(number) => (8, number),
            Self::Lock(address) => (9, address),
        }
    }

    /// What kind and subject say; `None` if they say nothing.
    #[must_use]
    pub fn decode(kind: u64, subject: u64) -> Option<Self> {
        Some(match kind {
            1 => Self::Read(ShmOffset(subject)),
            2 => Self::Write(ShmOffset(subject)),
            3 => Self::Flush(ShmOffset(subject)),
            4 => Self::Accept(u32::try_from(subject).ok()?),
            5 => Self::Connect,
            6 => Self::Reply(u8::try_from(subject).ok()?),
            7 => Self::Time(subject),
            8 => Self::Task(subject),
            9 => Self::Lock(subject),
            _ => return None,
        })
    }
}

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// It can go on, and no vCPU has taken it yet.
    Queued,
    /// That vCPU runs it, or waits inside of it.
    Running(u8),
    /// It waits to be woken.
    Waiting,
}

impl TaskState {
    fn encode(self) -> u64 {
        match self {
            Self::Queued => 1,
            Self::Running(vcpu) => 2 | u64::from(vcpu) << 8,
            Self::Waiting => 3,
        }
    }

    fn decode(word: u64) -> Option<Self> {
        match word & 0xff {
            1 => Some(Self::Queued),
            2 => Some(Self::Running((word >> 8) as u8)),
            3 => Some(Self::Waiting),
            _ => None,
        }
    }
}

/// A text in the guest's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// Address of its first byte.
    pub address: u64,
    /// Its length, in bytes.
    pub len: u32,
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self {
            address: text.as_ptr().expose_provenance() as u64,
            len: text.len() as u32,
        }
    }
}

/// Where a task comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskOrigin {
    /// The name of its future's type.
    pub name: Text,
    /// The file that spawned it.
    pub file: Text,
    /// The line there.
    pub line: u32,
}

/// An entry, as whoever keeps the table has it. Every access is relaxed: an entry orders
/// nothing, and who reads it takes what it finds for a picture.
#[derive(Debug)]
pub struct TaskEntry([AtomicU64; ENTRY_WORDS]);

impl TaskEntry {
    /// One without a task.
    const fn free() -> Self {
        Self([const { AtomicU64::new(0) }; ENTRY_WORDS])
    }

    fn set(&self, word: usize, value: u64) {
        self.0[word].store(value, Ordering::Relaxed);
    }

    fn get(&self, word: usize) -> u64 {
        self.0[word].load(Ordering::Relaxed)
    }

    /// Begins with a task.
    pub fn begin(&self, number: u64, origin: &TaskOrigin) {
        let TaskOrigin { name, file, line } = *origin;
        self.set(3, name.address);
        self.set(4, u64::from(name.len) | u64::from(line) << 32);
        self.set(5, file.address);
        self.set(6, file.len.into());
        self.clear_waits();
        self.set(0, number);
    }

    /// The number of its task, 0 if it is free.
    pub fn number(&self) -> u64 {
        self.get(0)
    }

    /// Ends with its task.
    pub fn end(&self) {
        self.set(0, 0);
    }

    /// Says how far the task is, since `counter`, a value of the time-stamp counter.
    pub fn set_state(&self, state: TaskState, counter: u64) {
        self.set(1, state.encode());
        self.set(2, counter);
    }

    /// Forgets the waits: the task is polled.
    pub fn clear_waits(&self) {
        self.set(7, 0);
    }

    /// Notes a wait, and who waits, innermost first. A lock that was taken is noted
    /// too, before what is waited for next: it gives way to that.
    pub fn note(&self, wait: Wait, frames: &[u64]) {
        let count = self.get(7);
        let at = |index: u64| FIRST_WAIT + index as usize * WAIT_WORDS;
        let (kind, subject) = wait.encode();
        let lock = Wait::Lock(0).encode().0;
        let after_lock = (1..=WAITS as u64).contains(&count) && self.get(at(count - 1)) == lock;
        let index = if after_lock { count - 1 } else { count };
        self.set(7, index + 1);
        if index >= WAITS as u64 {
            return;
        }
        let start = at(index);
        self.set(start, kind);
        self.set(start + 1, subject);
        for (word, &frame) in (start + 2..).zip(frames.iter().chain([&0])).take(FRAMES) {
            self.set(word, frame);
        }
    }
}

/// The table, as whoever keeps it has it.
#[repr(C)]
#[derive(Debug)]
pub struct TaskTable {
    header: [AtomicU64; HEADER_WORDS],
    /// An entry for each vCPU, for what waits there in no task.
    pub vcpus: [TaskEntry; MAX_VCPUS],
    /// An entry for each task.
    pub tasks: [TaskEntry; TASKS],
}

/// Size of the table, in bytes.
pub const SIZE: usize = size_of::<TaskTable>();
const _: () = assert!(SIZE == 8 * (HEADER_WORDS + (MAX_VCPUS + TASKS) * ENTRY_WORDS));

impl TaskTable {
    /// A table without tasks, in memory that is all zero.
    #[expect(clippy::new_without_default, reason = "it is made at compile time")]
    #[must_use]
    pub const fn new() -> Self {
        Self {
            header: [const { AtomicU64::new(0) }; HEADER_WORDS],
            vcpus: [const { TaskEntry::free() }; MAX_VCPUS],
            tasks: [const { TaskEntry::free() }; TASKS],
        }
    }

    /// Says that this is a table.
    pub fn begin(&self) {
        self.header[0].store(MAGIC, Ordering::Relaxed);
    }

    /// Says that so many entries of tasks were ever used.
    pub fn set_used(&self, entries: usize) {
        self.header[1].store(entries as u64, Ordering::Relaxed);
    }

    /// Counts a task that found no entry.
    pub fn count_unlisted(&self) {
        self.header[2].fetch_add(1, Ordering::Relaxed);
    }

    /// That task has ended.
    pub fn discount_unlisted(&self) {
        self.header[2].fetch_sub(1, Ordering::Relaxed);
    }
}

/// The table's header, as whoever looks at a guest reads it. Any words are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskTableHeader {
    /// Entries of tasks that may be in use, at most [`TASKS`].
    pub used: usize,
    /// Tasks that found no entry.
    pub unlisted: u64,
}

impl TaskTableHeader {
    /// What these words say; `None` if they begin no table.
    #[must_use]
    pub fn decode([magic, used, unlisted, _]: [u64; HEADER_WORDS]) -> Option<Self> {
        (magic == MAGIC).then_some(Self {
            used: usize::try_from(used).unwrap_or(TASKS).min(TASKS),
            unlisted,
        })
    }
}

/// An entry, as whoever looks at a guest reads it. Any words are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskRecord {
    /// Number of the task; 0 if there is none.
    pub number: u64,
    /// How far it is, if that makes sense.
    pub state: Option<TaskState>,
    /// Time-stamp counter when that began.
    pub since: u64,
    /// Where it comes from.
    pub origin: TaskOrigin,
    /// What it waits for, as far as that makes sense.
    pub waits: [Option<NotedWait>; WAITS],
    /// Waits that there was no room for.
    pub more_waits: u64,
}

/// A wait, and who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotedWait {
    /// What is waited for.
    pub wait: Wait,
    /// Return addresses, innermost first, 0 where there are no more.
    pub frames: [u64; FRAMES],
}

impl TaskRecord {
    /// What these words say.
    #[must_use]
    pub fn decode(words: &[u64; ENTRY_WORDS]) -> Self {
        let count = words[7];
        let noted = |index: usize| {
            let start = FIRST_WAIT + index * WAIT_WORDS;
            let words = words.get(start..start + WAIT_WORDS)?;
            let (head, frames) = words.split_first_chunk::<2>()?;
            Some(NotedWait {
                wait: Wait::decode(head[0], head[1])?,
                frames: frames.try_into().ok()?,
            })
        };
        Self {
            number: words[0],
            state: TaskState::decode(words[1]),
            since: words[2],
            origin: TaskOrigin {
                name: Text {
                    address: words[3],
                    len: words[4] as u32,
                },
                file: Text {
                    address: words[5],
                    len: words[6] as u32,
                },
                line: (words[4] >> 32) as u32,
            },
            waits: core::array::from_fn(|index| {
                ((index as u64) < count).then(|| noted(index)).flatten()
            }),
            more_waits: count.saturating_sub(WAITS as u64),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(entry: &TaskEntry) -> TaskRecord {
        let words = core::array::from_fn(|word| entry.get(word));
        TaskRecord::decode(&words)
    }

    #[test]
    fn what_is_noted_is_read() {
        let entry = TaskEntry::free();
        assert_eq!(record(&entry).number, 0);
        let origin = TaskOrigin {
            name: Text {
                address: 0x1000,
                len: 5,
            },
            file: Text {
                address: 0x2000,
                len: 7,
            },
            line: 42,
        };
        entry.begin(9, &origin);
        entry.set_state(TaskState::Running(3), 77);
        entry.note(Wait::Lock(0x3000), &[1, 2]);
        entry.note(Wait::Read(ShmOffset(4096)), &[3]);
        entry.note(Wait::Time(5), &[4; FRAMES + 3]);
        entry.note(Wait::Connect, &[]);
        let read = record(&entry);
        assert_eq!((read.number, read.since, read.more_waits), (9, 77, 1));
        assert_eq!(read.state, Some(TaskState::Running(3)));
        assert_eq!(read.origin, origin);
        let waits = read.waits.map(|noted| noted.map(|noted| noted.wait));
        let wanted = [Wait::Read(ShmOffset(4096)), Wait::Time(5)];
        assert_eq!(waits, wanted.map(Some), "a lock that was taken gives way");
        let frames = read.waits.map(|noted| noted.expect("noted").frames);
        assert_eq!(frames, [[3, 0, 0, 0, 0, 0, 0, 0], [4; FRAMES]]);
        entry.clear_waits();
        assert_eq!(record(&entry).waits, [None; WAITS]);
        entry.end();
        assert_eq!(record(&entry).number, 0);
    }

    #[test]
    fn every_wait_is_what_it_was() {
        for wait in [
            Wait::Read(ShmOffset(1)),
            Wait::Write(ShmOffset(2)),
            Wait::Flush(ShmOffset(3)),
            Wait::Accept(4),
            Wait::Connect,
            Wait::Reply(6),
            Wait::Time(7),
            Wait::Task(8),
            Wait::Lock(9),
        ] {
            let (kind, subject) = wait.encode();
            assert_eq!(Wait::decode(kind, subject), Some(wait));
        }
    }

    proptest! {
        #[test]
        fn any_words_are_a_table(
            words in prop::array::uniform32(any::<u64>()),
            small in prop::array::uniform32(0u64..12),
        ) {
            for words in [words, small] {
                let (entry, _) = words.split_first_chunk().expect("enough");
                let _ = TaskRecord::decode(entry);
                let (header, _) = words.split_first_chunk::<HEADER_WORDS>().expect("enough");
                let _ = TaskTableHeader::decode(*header);
                let header = TaskTableHeader::decode([MAGIC, header[0], 0, 0]);
                prop_assert!(header.expect("a table").used <= TASKS);
            }
        }
    }
}
