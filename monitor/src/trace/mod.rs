//! What happens on the control pipe and on every connection, for a thread that writes
//! it down.
//!
//! The monitor's thread puts events into a queue that was made beforehand: it takes no
//! lock, allocates nothing, and waits for nobody. An event that finds no room is left
//! out, and the next one says how many were. Without a tracer, each place that would
//! trace is one branch.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | the queue, and its two ends |
//! | `event.rs` | what happens |

mod event;

pub use event::{Direction, TraceEvent, TraceKind};

use arca_shared::protocol::frame::{Frame, MAX_FRAME};
use arca_shared::ring::Parts;
use rtrb::{Consumer, Producer, RingBuffer};
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Instant, SystemTime};

/// Events that may wait.
const EVENTS: usize = 1 << 16;
/// Bytes of frames and of connections that may wait with them.
const FRAME_BYTES: usize = 256 << 10;
const DATA_BYTES: usize = 32 << 20;

/// A queue of events. `with_data`: the bytes of connections go along.
#[must_use]
pub fn queue(with_data: bool) -> (Tracer, TraceReader) {
    let capacity = match with_data {
        true => FRAME_BYTES + DATA_BYTES,
        false => FRAME_BYTES,
    };
    let (events, read_events) = RingBuffer::new(EVENTS);
    let (bytes, read_bytes) = RingBuffer::new(capacity);
    let shared = Arc::new(Shared::default());
    let tracer = Tracer {
        shared: Arc::clone(&shared),
        began: Instant::now(),
        with_data,
        events,
        bytes,
        left_out: 0,
        news: false,
    };
    let reader = TraceReader {
        shared,
        events: read_events,
        bytes: read_bytes,
        began: SystemTime::now(),
        left_out: 0,
    };
    (tracer, reader)
}

/// What the two ends share besides the queue.
#[derive(Debug, Default)]
struct Shared {
    /// The thread that reads, once it does.
    reader: OnceLock<Thread>,
    /// No more events come.
    ended: AtomicBool,
}

impl Shared {
    fn wake(&self) {
        if let Some(reader) = self.reader.get() {
            reader.unpark();
        }
    }
}

/// The monitor's end of the queue.
pub struct Tracer {
    shared: Arc<Shared>,
    began: Instant,
    with_data: bool,
    events: Producer<TraceEvent>,
    bytes: Producer<u8>,
    /// Events that found no room, since the last one that did.
    left_out: u32,
    /// There are events that the reader was not woken for.
    news: bool,
}

impl Tracer {
    /// A frame that was taken from the control pipe, or put into it.
    pub(crate) fn frame(&mut self, direction: Direction, frame: &Frame) {
        let mut encoded = [0; MAX_FRAME];
        let len = frame.encode(&mut encoded).unwrap_or(0);
        let none = (NonNull::dangling(), 0);
        let bytes = (NonNull::from(&encoded).cast(), len);
        self.put(TraceKind::Frame(direction), [bytes, none]);
    }

    /// Bytes of a connection that were moved: `len` from the start of `parts`. `before`:
    /// bytes that this direction had moved before.
    pub(crate) fn data(
        &mut self,
        id: u32,
        direction: Direction,
        before: u64,
        parts: &Parts,
        len: usize,
    ) {
        let kind = TraceKind::Data {
            id,
            direction,
            before,
            len,
        };
        if !self.with_data {
            return self.event(kind);
        }
        let first = len.min(parts.first.1);
        let second = (len - first).min(parts.second.1);
        self.put(kind, [(parts.first.0, first), (parts.second.0, second)]);
    }

    /// Anything else.
    pub(crate) fn event(&mut self, kind: TraceKind) {
        self.put(kind, [(NonNull::dangling(), 0); 2]);
    }

    /// Puts an event with its payload: two pieces of memory that can be read.
    fn put(&mut self, kind: TraceKind, payload: [(NonNull<u8>, usize); 2]) {
        let payload_len = payload[0].1 + payload[1].1;
        let room = self.events.slots() > 0 && self.bytes.slots() >= payload_len;
        let chunk = match room {
            true => self.bytes.write_chunk_uninit(payload_len).ok(),
            false => None,
        };
        self.news = true;
        let Some(mut chunk) = chunk else {
            self.left_out = self.left_out.saturating_add(1);
            return;
        };
        {
            let (target, wrapped) = chunk.as_mut_slices();
            copy(payload, [target, wrapped]);
        }
        // SAFETY: the chunk is as long as both pieces together, and was filled with
        // them.
        unsafe { chunk.commit_all() };
        // The bytes are there before the event that names them. There is room: no one
        // else puts events.
        let _ = self.events.push(TraceEvent {
            nanos: u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX),
            left_out: std::mem::take(&mut self.left_out),
            payload_len,
            kind,
        });
    }

    /// Wakes the reader, if there is something new for it.
    pub(crate) fn flush(&mut self) {
        if std::mem::take(&mut self.news) {
            self.shared.wake();
        }
    }
}

/// Fills two pieces of the queue's memory, in order, with two pieces of payload, which
/// are as long together. The guest may change the payload meanwhile, which decides
/// nothing: a trace shows then what it changed it to.
fn copy(payload: [(NonNull<u8>, usize); 2], targets: [&mut [MaybeUninit<u8>]; 2]) {
    let mut targets = targets.into_iter();
    let mut target = targets.next().unwrap_or_default();
    for (source, len) in payload {
        let mut copied = 0;
        while copied < len {
            if target.is_empty() {
                let Some(next) = targets.next() else {
                    return;
                };
                target = next;
            }
            let now = target.len().min(len - copied);
            let (filled, rest) = target.split_at_mut(now);
            // SAFETY: the source can be read for `len` bytes, and is no part of the
            // queue: it is a ring in the arena, or a frame on the stack.
            unsafe {
                let source = source.as_ptr().add(copied);
                std::ptr::copy_nonoverlapping(source, filled.as_mut_ptr().cast(), now);
            }
            copied += now;
            target = rest;
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if self.left_out > 0 {
            let left_out = self.left_out;
            // A last one says so, if it finds room by now.
            self.left_out -= 1;
            self.event(TraceKind::End);
            log::debug!("the trace ends with {left_out} events left out");
        }
        // Release: pairs with the Acquire in `TraceReader::next`; every event is there
        // before the end.
        self.shared.ended.store(true, Ordering::Release);
        self.shared.wake();
    }
}

/// The other end of the queue.
pub struct TraceReader {
    shared: Arc<Shared>,
    events: Consumer<TraceEvent>,
    bytes: Consumer<u8>,
    began: SystemTime,
    left_out: u64,
}

impl TraceReader {
    /// The next event, with its payload in place of what `payload` held; waits for it.
    /// `None` once there will be no more. For one thread.
    pub fn next(&mut self, payload: &mut Vec<u8>) -> Option<TraceEvent> {
        loop {
            // Acquire: pairs with the Release in the tracer's drop. Read before the
            // queue: what was put before the end is then seen.
            let ended = self.shared.ended.load(Ordering::Acquire);
            if let Ok(event) = self.events.pop() {
                payload.clear();
                if let Ok(chunk) = self.bytes.read_chunk(event.payload_len) {
                    let (first, second) = chunk.as_slices();
                    payload.extend_from_slice(first);
                    payload.extend_from_slice(second);
                    chunk.commit_all();
                }
                self.left_out += u64::from(event.left_out);
                return Some(event);
            }
            if ended {
                return None;
            }
            // A token that comes between the look and this ends it at once.
            self.shared.reader.get_or_init(thread::current);
            if self.events.is_empty() && !self.shared.ended.load(Ordering::Acquire) {
                thread::park();
            }
        }
    }

    /// When the times of events begin.
    #[must_use]
    pub fn began(&self) -> SystemTime {
        self.began
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Events that were left out so far.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(first: &mut [u8], second: &mut [u8]) -> Parts {
        let piece = |piece: &mut [u8]| {
            let len = piece.len();
            (NonNull::new(piece.as_mut_ptr()).expect("a slice"), len)
        };
        Parts {
            first: piece(first),
            second: piece(second),
        }
    }

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let (mut tracer, mut reader) = queue(true);
        let mut payload = Vec::new();
        let (mut first, mut second) = (vec![0; 3000], vec![0; 2000]);
        let total = FRAME_BYTES + DATA_BYTES;
        // More than the queue is long, so that it wraps.
        for round in 0..total / 4000 + 2 {
            first.fill(round as u8);
            second.fill(!(round as u8));
            let pieces = parts(&mut first, &mut second);
            tracer.data(7, Direction::Up, 11, &pieces, 4500);
            let event = reader.next(&mut payload).expect("it is there");
            assert_eq!((event.payload_len, event.left_out), (4500, 0));
            let wanted = [&first[..], &second[..1500]].concat();
            assert!(payload == wanted, "round {round}");
        }
    }

    #[test]
    fn what_finds_no_room_is_counted_and_nobody_waits() {
        let (mut tracer, mut reader) = queue(false);
        let kind = TraceKind::Freed { id: 3 };
        for _ in 0..EVENTS + 5 {
            tracer.event(kind);
        }
        let mut payload = Vec::new();
        assert_eq!(
            reader.next(&mut payload).map(|event| event.kind),
            Some(kind)
        );
        tracer.event(kind);
        drop(tracer);
        let (mut count, mut left_out) = (1, 0);
        while let Some(event) = reader.next(&mut payload) {
            count += 1;
            left_out += event.left_out;
        }
        assert_eq!((count, left_out), (EVENTS + 1, 5));
        assert_eq!(reader.left_out(), 5);
    }

    #[test]
    fn a_reader_that_waits_is_woken() {
        let (mut tracer, mut reader) = queue(false);
        let reading = thread::spawn(move || {
            let mut count = 0;
            while reader.next(&mut Vec::new()).is_some() {
                count += 1;
            }
            count
        });
        for id in 0..1000 {
            tracer.event(TraceKind::Freed { id });
            tracer.flush();
        }
        drop(tracer);
        assert_eq!(reading.join().expect("no panic"), 1000);
    }
}
