//! When the guest is woken.
//!
//! To wake a vCPU takes tens of microseconds, on some hosts more than what it then
//! does; and a vCPU that is woken beside a monitor that has more for it takes the
//! core from the monitor. So a mark is made at once, but the wake is owed:
//!
//! - It is sent when the monitor has nothing else to do, or after a tenth of a
//!   millisecond.
//! - If the last one carried much and nobody waits for the next, it is put off
//!   until a while after the last one, and carries all that comes in between.
//!
//! A vCPU that is awake finds marks by itself, and nothing is owed to it.

use crate::wake::notifier::GuestNotifier;
use arca_shared::notify::Slot;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A wake that carried this many bytes is one of a stream.
const BULK: usize = 64 << 10;
/// A wake that carried this many marks is one of a crowd.
const CROWD: u32 = 8;

/// How long wakes are put off.
#[derive(Clone, Copy, Debug)]
struct Timing {
    /// How long a monitor that is busy keeps a wake back.
    hold: Duration,
    /// From a wake of a stream to the next: half of the largest ring fills in
    /// that time, so that the guest takes from one half what goes into the other.
    bulk: Duration,
    /// From a wake of a crowd to the next.
    crowd: Duration,
}

const TIMING: Timing = Timing {
    hold: Duration::from_micros(100),
    bulk: Duration::from_micros(300),
    crowd: Duration::from_micros(80),
};

/// The wakes that the monitor owes the guest.
pub(crate) struct Wakes {
    notifier: Arc<GuestNotifier>,
    timing: Timing,
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
            timing: TIMING,
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
        let ripe = idle || owed.since.elapsed() >= self.timing.hold;
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
        if !self.notifier.wake() {
            // It woke by itself.
            return;
        }
        let pause = match owed {
            Owed { marks: CROWD.., .. } => Some(self.timing.crowd),
            Owed { bytes: BULK.., .. } if !self.asking => Some(self.timing.bulk),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test_arena;
    use crate::wake::notifier::VcpuWaker;
    use arca_shared::memory::BuddyAllocator;

    struct Nobody;

    impl VcpuWaker for Nobody {
        fn wake(&self, _: usize) {}
    }

    const SLOT: Slot = Slot(3);
    const LONG: Duration = Duration::from_secs(3600);

    /// Wakes whose pauses are longer than any test.
    fn wakes() -> Wakes {
        let allocator = BuddyAllocator::new(test_arena(1 << 20));
        let notifier = GuestNotifier::new(&allocator, Arc::new(Nobody), 1).expect("room");
        Wakes {
            timing: Timing {
                hold: LONG,
                bulk: LONG,
                crowd: LONG,
            },
            ..Wakes::new(Arc::new(notifier))
        }
    }

    impl Wakes {
        /// The guest's vCPU goes to sleep.
        fn sleep(&self) {
            self.notifier.area().vcpu(0).raise();
        }

        fn sent_so_far(&self) -> u64 {
            self.notifier.wakes().0
        }
    }

    #[test]
    fn nothing_is_owed_to_a_guest_that_is_awake() {
        let mut wakes = wakes();
        wakes.mark(SLOT);
        assert_eq!(wakes.due(), None);
        assert!(wakes.take_told() && !wakes.take_told());
        assert!(wakes.notifier.area().to_guest().any());
        wakes.flush();
        assert_eq!(wakes.sent_so_far(), 0);
    }

    #[test]
    fn a_busy_monitor_keeps_a_wake_back_and_an_idle_one_sends_it() {
        let mut wakes = wakes();
        wakes.sleep();
        wakes.mark_data(SLOT);
        wakes.mark(SLOT);
        wakes.settle(false);
        assert_eq!(wakes.sent_so_far(), 0);
        assert_eq!(wakes.due(), Some(Duration::ZERO));
        wakes.timing.hold = Duration::ZERO;
        wakes.settle(false);
        assert_eq!((wakes.sent_so_far(), wakes.due()), (1, None));
        wakes.sleep();
        wakes.timing.hold = LONG;
        wakes.mark_data(SLOT);
        wakes.settle(true);
        assert_eq!((wakes.sent_so_far(), wakes.due()), (2, None));
    }

    /// A wake that carries `bytes`, or as many marks as a crowd makes.
    fn after_a_wake(bytes: usize, marks: u32) -> Wakes {
        let mut wakes = wakes();
        wakes.sleep();
        for _ in 0..marks {
            wakes.mark_data(SLOT);
        }
        wakes.came(bytes, false);
        wakes.settle(true);
        assert_eq!(wakes.sent_so_far(), 1);
        wakes.sleep();
        wakes
    }

    #[test]
    fn streams_and_crowds_are_woken_for_again_after_a_pause() {
        for (bytes, marks) in [(BULK, 1), (1, CROWD)] {
            let mut wakes = after_a_wake(bytes, marks);
            wakes.mark_data(SLOT);
            wakes.settle(true);
            assert_eq!(wakes.sent_so_far(), 1);
            assert!(wakes.due().is_some_and(|due| due > LONG / 2));
            // A ring that fills does not wait, nor does a close or a reply.
            wakes.came(1, true);
            wakes.settle(true);
            assert_eq!(wakes.sent_so_far(), 2);
        }
        let mut wakes = after_a_wake(BULK - 1, CROWD - 1);
        wakes.mark_data(SLOT);
        wakes.settle(true);
        assert_eq!(wakes.sent_so_far(), 2);
    }

    #[test]
    fn who_asks_for_much_is_answered_at_once() {
        let mut wakes = wakes();
        for _ in 0..3 {
            let before = wakes.sent_so_far();
            wakes.sent(100);
            wakes.sleep();
            wakes.mark_data(SLOT);
            wakes.came(4 * BULK, false);
            wakes.settle(true);
            assert_eq!(wakes.sent_so_far(), before + 1);
        }
    }
}
