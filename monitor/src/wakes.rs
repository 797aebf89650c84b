//! When the guest is woken.
//!
//! To wake a vCPU takes tens of microseconds, on some hosts more than what it then
//! does; and a vCPU that is woken beside a monitor that has more for it takes the
//! core from the monitor. So a mark is made at once, but the wake is owed:
//!
//! - It is sent when the monitor has nothing else to do, or after [`HOLD`].
//! - If the last one carried much and nobody waits for the next, it is put off
//!   until a while after the last one, and carries all that comes in between.
//!
//! A vCPU that is awake finds marks by itself, and nothing is owed to it.

use crate::notifier::GuestNotifier;
use arca_shared::notify::Slot;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a monitor that is busy keeps a wake back.
const HOLD: Duration = Duration::from_micros(100);
/// A wake that carried this many bytes is one of a stream.
const BULK: usize = 64 << 10;
/// From such a wake to the next: a quarter of what fills the largest ring.
const BULK_PAUSE: Duration = Duration::from_micros(300);
/// A wake that carried this many marks is one of a crowd.
const CROWD: u32 = 8;
/// From such a wake to the next.
const CROWD_PAUSE: Duration = Duration::from_micros(80);

/// The wakes that the monitor owes the guest.
pub(crate) struct Wakes {
    notifier: Arc<GuestNotifier>,
    owed: Option<Owed>,
    /// When the last wake was sent, and how long the next one waits after it.
    last: Option<(Instant, Duration)>,
    /// The guest has sent little since the last wake: it asks, and waits.
    asking: bool,
    /// A guest that is awake was told something, and no answer was looked for.
    told: bool,
}

/// What happened while the guest slept.
#[derive(Clone, Copy, Debug)]
struct Owed {
    since: Instant,
    bytes: usize,
    marks: u32,
    /// Somebody waits for it, and nothing is gained by waiting for more.
    urgent: bool,
}

impl Wakes {
    pub(crate) fn new(notifier: Arc<GuestNotifier>) -> Self {
        Self {
            notifier,
            owed: None,
            last: None,
            asking: false,
            told: false,
        }
    }

    /// Marks a slot in which somebody waits for what happened. What comes later
    /// does not belong to it.
    pub(crate) fn mark(&mut self, slot: Slot) {
        self.owe(slot, true);
    }

    /// Marks a slot in which there is data, of which more may come.
    pub(crate) fn mark_data(&mut self, slot: Slot) {
        self.owe(slot, false);
    }

    fn owe(&mut self, slot: Slot, urgent: bool) {
        if !self.notifier.mark_quietly(slot) {
            self.told = true;
            return;
        }
        let owed = self.owed.get_or_insert_with(|| Owed {
            since: Instant::now(),
            bytes: 0,
            marks: 0,
            urgent: false,
        });
        owed.marks += 1;
        owed.urgent |= urgent;
    }

    /// Takes note of bytes that came. `full`: their ring will soon hold no more.
    pub(crate) fn came(&mut self, bytes: usize, full: bool) {
        if let Some(owed) = &mut self.owed {
            owed.bytes += bytes;
            owed.urgent |= full;
        }
    }

    /// Takes note of a piece that the guest sent.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.asking |= bytes < BULK;
    }

    /// Sends a wake that is due. `idle`: the monitor is about to sleep.
    pub(crate) fn settle(&mut self, idle: bool) {
        let Some(owed) = self.owed else {
            return;
        };
        let ripe = idle || owed.since.elapsed() >= HOLD;
        if ripe && (owed.urgent || self.pause().is_none()) {
            self.send(owed);
        }
    }

    /// Sends a wake that is owed, whether or not it is due: nobody knows when the
    /// monitor is called again.
    pub(crate) fn flush(&mut self) {
        if let Some(owed) = self.owed {
            self.send(owed);
        }
    }

    fn send(&mut self, owed: Owed) {
        self.owed = None;
        self.notifier.wake();
        let pause = match owed {
            Owed { marks: CROWD.., .. } => Some(CROWD_PAUSE),
            Owed { bytes: BULK.., .. } if !self.asking => Some(BULK_PAUSE),
            _ => None,
        };
        self.last = pause.map(|pause| (Instant::now(), pause));
        self.asking = false;
    }

    /// How long until a wake that is owed is due; `None` if none is owed.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.owed?;
        Some(self.pause().unwrap_or_default())
    }

    /// What is left of the pause after the last wake.
    fn pause(&self) -> Option<Duration> {
        let (at, pause) = self.last?;
        let left = pause.saturating_sub(at.elapsed());
        (!left.is_zero()).then_some(left)
    }

    /// Whether a guest that is awake was told something since this was last asked:
    /// it is likely to answer at once.
    pub(crate) fn take_told(&mut self) -> bool {
        std::mem::take(&mut self.told)
    }
}
