//! Which wakes of the guest are deferred (interrupt coalescing).
//!
//! To wake a vCPU takes tens of microseconds, on some hosts more than what it then
//! does; and a vCPU that is woken beside a monitor that has more for it takes the
//! core from the monitor. So a slot is marked at once, but the wake is deferred:
//!
//! - It is sent when the monitor has nothing else to do, or has been busy for
//!   [`WakePolicy::hold`].
//! - If the last one carried much and nobody waits for the next, it is sent no sooner
//!   than a pause after the last one, and carries all that comes in between.
//!
//! Where no vCPU sleeps, or one polls, no wake is sent: one that is awake finds marks
//! by itself. Where one is awake beside another that sleeps, it has
//! [`WakePolicy::hold_for_awake`] to take a mark before that is woken. One mark is watched
//! for that, and when it is taken, one of those that stand by then. It is looked at when
//! its time is over. Until there are the marks of a crowd, it is also looked at before the
//! first mark of a turn of the event loop: it may be one slot that is marked and taken again
//! and again. To look each time costs as much as the marks, because who takes them has just
//! changed what is read. So a mark that came after the one that was watched may stand for
//! twice that time.

use super::notifier::{GuestNotifier, Need};
use super::policy::WakePolicy;
use arca_shared::notify::Slot;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Marks slots for the guest, and decides when a vCPU that sleeps is woken for them.
pub(crate) struct WakeCoalescer {
    notifier: Arc<GuestNotifier>,
    policy: WakePolicy,
    deferred: Option<DeferredWake>,
    /// When the last wake was sent, and how long the next one waits after it.
    last: Option<(Instant, Duration)>,
    /// The guest has sent little since the last wake: it asks, and waits for the
    /// response.
    request_response: bool,
    /// A guest that is awake was notified, and no answer was polled for since.
    notified_awake: bool,
    /// Something was marked in this turn.
    has_marked: bool,
}

/// A wake that is due later, and what came since it was deferred: who is awake may have taken
/// some of that.
#[derive(Clone, Copy, Debug)]
struct DeferredWake {
    since: Instant,
    bytes: usize,
    marks: u32,
    /// A slot that was marked by `since`.
    watched: Slot,
    /// Somebody waits for it, and nothing is gained by waiting for more.
    urgent: bool,
    /// A vCPU was awake at each mark: it may take them all before another has woken.
    may_be_taken: bool,
}

impl WakeCoalescer {
    pub(crate) fn new(notifier: Arc<GuestNotifier>, policy: WakePolicy) -> Self {
        Self {
            notifier,
            policy,
            deferred: None,
            last: None,
            request_response: false,
            notified_awake: false,
            has_marked: false,
        }
    }

    /// Notifies the guest of what somebody waits for: no later event belongs to it.
    pub(crate) fn notify(&mut self, slot: Slot) {
        self.defer(slot, true);
    }

    /// Notifies the guest of data, of which more may come.
    pub(crate) fn notify_data(&mut self, slot: Slot) {
        self.defer(slot, false);
    }

    /// Marks a slot, and defers the wake if one is needed.
    fn defer(&mut self, slot: Slot, urgent: bool) {
        // What comes now is given its own time, if the turns before were kept up with.
        if !std::mem::replace(&mut self.has_marked, true)
            && let Some(wake) = self.deferred
            && wake.marks < self.policy.crowd_marks
        {
            self.save_if_watched_is_taken(&wake);
        }
        let need = self.notifier.mark(slot);
        if need != Need::Sleeper {
            self.notified_awake = true;
        }
        if need == Need::Nobody {
            return;
        }
        let deferred = self.deferred.get_or_insert_with(|| DeferredWake {
            since: Instant::now(),
            bytes: 0,
            marks: 0,
            watched: slot,
            urgent: false,
            may_be_taken: true,
        });
        deferred.marks += 1;
        deferred.urgent |= urgent;
        deferred.may_be_taken &= need == Need::SleeperUnlessTaken;
    }

    /// Gives up the deferred wake if who is awake has taken all marks: it is saved.
    fn save_if_taken(&mut self) {
        if self.deferred.is_some_and(|wake| wake.may_be_taken) && self.notifier.all_taken() {
            self.deferred = None;
            self.notifier.count_saved();
        }
    }

    /// Gives up the deferred wake if who is awake has taken the mark that was watched, and
    /// gives what stands by now its own time; whether it did.
    fn save_if_watched_is_taken(&mut self, wake: &DeferredWake) -> bool {
        if !wake.may_be_taken || self.notifier.is_marked(wake.watched) {
            return false;
        }
        self.deferred = self.notifier.first_mark().map(|watched| DeferredWake {
            since: Instant::now(),
            bytes: 0,
            marks: 1,
            watched,
            ..*wake
        });
        self.notifier.count_saved();
        true
    }

    /// A turn of the event loop is over.
    pub(crate) fn end_turn(&mut self) {
        self.has_marked = false;
    }

    /// Takes note of bytes that came for the guest. `full`: their ring will soon hold
    /// no more.
    pub(crate) fn bytes_received(&mut self, bytes: usize, full: bool) {
        if let Some(deferred) = &mut self.deferred {
            deferred.bytes += bytes;
            deferred.urgent |= full;
        }
    }

    /// Takes note of a piece that the guest sent.
    pub(crate) fn bytes_sent(&mut self, bytes: usize) {
        self.request_response |= bytes < self.policy.bulk_bytes;
    }

    /// Sends the deferred wake if it is due. `idle`: the monitor is about to sleep, with a
    /// timer if a wake is left.
    pub(crate) fn flush_if_due(&mut self, idle: bool) {
        if idle {
            self.save_if_taken();
        }
        let Some(deferred) = self.deferred else {
            return;
        };
        let idle = idle && !deferred.may_be_taken;
        let is_due =
            (idle || self.hold(&deferred).is_zero()) && (deferred.urgent || self.pause().is_none());
        if is_due && !self.save_if_watched_is_taken(&deferred) {
            self.send(deferred);
        }
    }

    /// Sends the deferred wake, due or not: nobody knows when the monitor is called
    /// again.
    pub(crate) fn flush(&mut self) {
        if let Some(deferred) = self.deferred {
            self.send(deferred);
        }
    }

    fn send(&mut self, wake: DeferredWake) {
        self.deferred = None;
        if !self.notifier.wake() {
            // It woke by itself.
            return;
        }
        let policy = &self.policy;
        let pause = if wake.marks >= policy.crowd_marks {
            Some(policy.crowd_pause)
        } else if wake.bytes >= policy.bulk_bytes && !self.request_response {
            Some(policy.bulk_pause)
        } else {
            None
        };
        self.last = pause.map(|pause| (Instant::now(), pause));
        self.request_response = false;
    }

    /// How long an idle monitor may sleep before the deferred wake is due; `None` if
    /// there is none.
    pub(crate) fn until_due(&self) -> Option<Duration> {
        let deferred = self.deferred?;
        let hold = match deferred.may_be_taken {
            true => self.hold(&deferred),
            false => Duration::ZERO,
        };
        let pause = match deferred.urgent {
            true => None,
            false => self.pause(),
        };
        Some(pause.unwrap_or_default().max(hold))
    }

    /// What is left of the time that a wake is deferred for.
    fn hold(&self, deferred: &DeferredWake) -> Duration {
        let hold = match deferred.may_be_taken {
            true => self.policy.hold_for_awake,
            false => self.policy.hold,
        };
        hold.saturating_sub(deferred.since.elapsed())
    }

    /// What is left of the pause after the last wake.
    fn pause(&self) -> Option<Duration> {
        let (at, pause) = self.last?;
        let left = pause.saturating_sub(at.elapsed());
        (!left.is_zero()).then_some(left)
    }

    /// Whether a guest that is awake was notified since this was last asked: it is
    /// likely to answer at once.
    pub(crate) fn take_notified_awake(&mut self) -> bool {
        std::mem::take(&mut self.notified_awake)
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
    const POLICY: WakePolicy = WakePolicy::new(Duration::ZERO);
    const BULK: usize = POLICY.bulk_bytes;
    const CROWD: u32 = POLICY.crowd_marks;
    const LONG: Duration = Duration::from_secs(3600);

    /// A coalescer whose pauses are longer than any test.
    fn wakes() -> WakeCoalescer {
        wakes_of(1)
    }

    fn wakes_of(vcpus: usize) -> WakeCoalescer {
        let allocator = BuddyAllocator::new(test_arena(1 << 20));
        let notifier = GuestNotifier::new(&allocator, Arc::new(Nobody), vcpus).expect("room");
        let policy = WakePolicy {
            hold: LONG,
            hold_for_awake: LONG,
            bulk_pause: LONG,
            crowd_pause: LONG,
            ..POLICY
        };
        WakeCoalescer::new(Arc::new(notifier), policy)
    }

    impl WakeCoalescer {
        /// The guest's vCPU goes to sleep.
        fn sleep(&self) {
            self.notifier.area().vcpu(0).prepare_sleep();
        }

        fn sent_so_far(&self) -> u64 {
            self.notifier.wakes().0
        }
    }

    #[test]
    fn no_wake_is_deferred_for_a_guest_that_is_awake() {
        let mut wakes = wakes();
        wakes.notify(SLOT);
        assert_eq!(wakes.until_due(), None);
        assert!(wakes.take_notified_awake() && !wakes.take_notified_awake());
        assert!(wakes.notifier.area().to_guest().any());
        wakes.flush();
        assert_eq!(wakes.sent_so_far(), 0);
    }

    #[test]
    fn one_that_sleeps_is_left_alone_while_another_may_take_the_mark() {
        let mut wakes = wakes_of(2);
        wakes.notifier.area().vcpu(1).prepare_sleep();
        wakes.notify(SLOT);
        assert!(wakes.take_notified_awake());
        wakes.flush_if_due(true);
        assert_eq!(wakes.sent_so_far(), 0);
        assert!(wakes.until_due().is_some_and(|due| due > LONG / 2));
        // It is taken, and the wake for it is not sent when its time comes.
        wakes.notifier.area().to_guest().take(|_| {});
        wakes.policy.hold_for_awake = Duration::ZERO;
        wakes.flush_if_due(true);
        assert_eq!((wakes.sent_so_far(), wakes.until_due()), (0, None));
        // One that is not taken in time is worth a wake.
        wakes.notify(SLOT);
        wakes.flush_if_due(true);
        assert_eq!(wakes.sent_so_far(), 1);
    }

    #[test]
    fn no_wake_is_left_for_a_sleep_once_all_marks_were_taken() {
        let mut wakes = wakes_of(2);
        wakes.notifier.area().vcpu(1).prepare_sleep();
        wakes.notify(SLOT);
        wakes.notifier.area().to_guest().take(|_| {});
        wakes.flush_if_due(false);
        assert!(wakes.until_due().is_some(), "a busy monitor does not look");
        wakes.flush_if_due(true);
        assert_eq!((wakes.sent_so_far(), wakes.until_due()), (0, None));
    }

    /// Two vCPUs, of which one sleeps, and a mark that the other may take; its time is over.
    fn with_a_mark_beside_one_awake() -> WakeCoalescer {
        let mut wakes = wakes_of(2);
        wakes.notifier.area().vcpu(1).prepare_sleep();
        wakes.notify(SLOT);
        wakes.policy.hold_for_awake = Duration::ZERO;
        wakes
    }

    #[test]
    fn one_that_sleeps_is_woken_for_a_mark_that_stands_for_long() {
        let mut wakes = with_a_mark_beside_one_awake();
        let first = wakes.deferred.expect("a wake").since;
        wakes.notify(Slot(4));
        let both = wakes.deferred.expect("the same");
        assert_eq!((both.since, both.marks), (first, 2));
        wakes.flush_if_due(false);
        assert_eq!(wakes.notifier.wakes(), (1, 0), "sent and saved");
    }

    #[test]
    fn marks_of_one_slot_that_are_taken_between_turns_need_nobody() {
        let mut wakes = with_a_mark_beside_one_awake();
        wakes.policy.hold_for_awake = LONG;
        for turn in 1..4 {
            wakes.end_turn();
            wakes.notifier.area().to_guest().take(|_| {});
            let before = wakes.deferred.expect("a wake").since;
            wakes.notify(SLOT);
            let next = wakes.deferred.expect("another");
            assert!(next.since > before && next.marks == 1);
            assert_eq!(wakes.notifier.wakes(), (0, turn), "sent and saved");
            // Later ones of this turn are no reason to look again.
            wakes.notifier.area().to_guest().take(|_| {});
            wakes.notify(SLOT);
            let same = wakes.deferred.expect("the same");
            assert_eq!((same.since, same.marks), (next.since, 2));
        }
        // Nor are those of a crowd.
        for _ in 2..CROWD {
            wakes.notify(SLOT);
        }
        wakes.end_turn();
        wakes.notifier.area().to_guest().take(|_| {});
        wakes.notify(SLOT);
        assert_eq!(wakes.deferred.expect("the same").marks, CROWD + 1);
    }

    #[test]
    fn marks_that_come_after_one_was_taken_have_their_own_time() {
        let mut wakes = with_a_mark_beside_one_awake();
        let first = wakes.deferred.expect("a wake");
        // One at a time, taken soon, again and again: no sleeper is needed.
        wakes.bytes_received(BULK, false);
        wakes.notifier.area().to_guest().take(|_| {});
        wakes.notify_data(Slot(4));
        wakes.flush_if_due(false);
        let next = wakes.deferred.expect("another");
        assert!(next.since > first.since);
        let carries = (next.watched, next.marks, next.bytes);
        assert_eq!(carries, (Slot(4), 1, 0));
        assert_eq!(wakes.notifier.wakes(), (0, 1), "sent and saved");
        // That one stands.
        wakes.notify(Slot(5));
        wakes.flush_if_due(false);
        assert_eq!((wakes.sent_so_far(), wakes.until_due()), (1, None));
    }

    #[test]
    fn a_wake_is_given_up_once_nothing_stands() {
        let mut wakes = with_a_mark_beside_one_awake();
        wakes.notifier.area().to_guest().take(|_| {});
        wakes.flush_if_due(false);
        assert_eq!((wakes.notifier.wakes(), wakes.until_due()), ((0, 1), None));
    }

    #[test]
    fn one_that_is_needed_is_woken_at_once() {
        let mut wakes = wakes_of(2);
        wakes.notifier.area().vcpu(1).prepare_sleep();
        wakes.notify_data(SLOT);
        // The other one goes to sleep before it has taken that.
        wakes.notifier.area().vcpu(0).prepare_sleep();
        wakes.notify(SLOT);
        wakes.flush_if_due(true);
        assert_eq!(wakes.sent_so_far(), 1);
    }

    #[test]
    fn nobody_is_woken_where_one_polls() {
        let mut wakes = wakes_of(2);
        wakes.notifier.area().vcpu(1).prepare_sleep();
        wakes.notifier.area().vcpu(0).prepare_poll();
        wakes.notify(SLOT);
        assert_eq!(wakes.until_due(), None);
        assert!(wakes.take_notified_awake());
        // Nor if it begins to only after the mark.
        wakes.notifier.area().vcpu(0).finish_sleep();
        wakes.notify(SLOT);
        wakes.notifier.area().vcpu(0).prepare_poll();
        wakes.flush();
        assert_eq!(wakes.sent_so_far(), 0);
    }

    #[test]
    fn a_busy_monitor_defers_a_wake_and_an_idle_one_sends_it() {
        let mut wakes = wakes();
        wakes.sleep();
        wakes.notify_data(SLOT);
        wakes.notify(SLOT);
        wakes.flush_if_due(false);
        assert_eq!(wakes.sent_so_far(), 0);
        assert_eq!(wakes.until_due(), Some(Duration::ZERO));
        wakes.policy.hold = Duration::ZERO;
        wakes.flush_if_due(false);
        assert_eq!((wakes.sent_so_far(), wakes.until_due()), (1, None));
        wakes.sleep();
        wakes.policy.hold = LONG;
        wakes.notify_data(SLOT);
        wakes.flush_if_due(true);
        assert_eq!((wakes.sent_so_far(), wakes.until_due()), (2, None));
        // One that is not called again for who knows how long defers nothing.
        wakes.sleep();
        wakes.notify_data(SLOT);
        wakes.flush();
        assert_eq!((wakes.sent_so_far(), wakes.until_due()), (3, None));
    }

    /// A wake that carries `bytes`, or as many marks as a crowd makes.
    fn after_a_wake(bytes: usize, marks: u32) -> WakeCoalescer {
        let mut wakes = wakes();
        wakes.sleep();
        for _ in 0..marks {
            wakes.notify_data(SLOT);
        }
        wakes.bytes_received(bytes, false);
        wakes.flush_if_due(true);
        assert_eq!(wakes.sent_so_far(), 1);
        wakes.sleep();
        wakes
    }

    #[test]
    fn streams_and_crowds_are_woken_for_again_after_a_pause() {
        for (bytes, marks) in [(BULK, 1), (1, CROWD)] {
            let mut wakes = after_a_wake(bytes, marks);
            wakes.notify_data(SLOT);
            wakes.flush_if_due(true);
            assert_eq!(wakes.sent_so_far(), 1);
            assert!(wakes.until_due().is_some_and(|due| due > LONG / 2));
            // A ring that fills does not wait, nor does a close or a reply.
            wakes.bytes_received(1, true);
            wakes.flush_if_due(true);
            assert_eq!(wakes.sent_so_far(), 2);
        }
        let mut wakes = after_a_wake(BULK - 1, CROWD - 1);
        wakes.notify_data(SLOT);
        wakes.flush_if_due(true);
        assert_eq!(wakes.sent_so_far(), 2);
    }

    #[test]
    fn what_somebody_waits_for_does_not_wait_for_a_pause_to_end() {
        let mut wakes = after_a_wake(BULK, 1);
        wakes.notify_data(SLOT);
        wakes.notify(SLOT);
        wakes.flush_if_due(true);
        assert_eq!(wakes.sent_so_far(), 2);
    }

    #[test]
    fn an_idle_monitor_sleeps_no_longer_for_a_pause_than_a_busy_one_would_wait() {
        let mut wakes = wakes_of(2);
        wakes.notifier.area().vcpu(1).prepare_sleep();
        wakes.last = Some((Instant::now(), LONG));
        wakes.policy.hold_for_awake = LONG / 4;
        wakes.notify_data(SLOT);
        wakes.flush_if_due(true);
        assert!(wakes.until_due().is_some_and(|due| due > LONG / 2));
        // Somebody waits for this one: only who is awake is given its time.
        wakes.notify(SLOT);
        wakes.flush_if_due(true);
        assert!(wakes.until_due().is_some_and(|due| due <= LONG / 4));
        assert_eq!(wakes.sent_so_far(), 0);
    }

    #[test]
    fn who_asks_for_much_is_answered_at_once() {
        let mut wakes = wakes();
        for _ in 0..3 {
            let before = wakes.sent_so_far();
            wakes.bytes_sent(100);
            wakes.sleep();
            wakes.notify_data(SLOT);
            wakes.bytes_received(4 * BULK, false);
            wakes.flush_if_due(true);
            assert_eq!(wakes.sent_so_far(), before + 1);
        }
        // One that sends much itself is an end of two streams.
        for (sent, is_stream) in [(BULK - 1, false), (BULK, true)] {
            wakes.bytes_sent(sent);
            wakes.sleep();
            wakes.notify_data(SLOT);
            wakes.bytes_received(BULK, false);
            wakes.flush_if_due(true);
            assert_eq!(wakes.last.is_some(), is_stream, "{sent}");
        }
    }
}
