//! The driver of `embassy-time`: its clock, and its timers.
//!
//! Each waker has one timer here, as `embassy-time` wants it: the nearest that it was
//! scheduled for. The reactor has one for them all.

use crate::{boot, runtime, time};
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use arca_shared::client::reactor::Timer;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Waker};
use embassy_time_driver::{Driver, TICK_HZ};
use spin::{Mutex, Once};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Ticks in that many nanoseconds.
fn to_ticks(nanos: u64) -> u64 {
    (u128::from(nanos) * u128::from(TICK_HZ) / u128::from(NANOS_PER_SECOND)) as u64
}

/// Nanoseconds until that tick, rounded up, so that the tick has come by then.
fn to_nanos(ticks: u64) -> u64 {
    let nanos = u128::from(ticks) * u128::from(NANOS_PER_SECOND);
    u64::try_from(nanos.div_ceil(u128::from(TICK_HZ))).unwrap_or(u64::MAX)
}

/// The wakers that wait, and when; in nanoseconds since boot.
struct Schedule {
    wakers: Vec<(u64, Waker)>,
    /// The reactor's timer, for the nearest of them.
    armed: Option<(u64, Timer)>,
}

static SCHEDULE: Mutex<Schedule> = Mutex::new(Schedule {
    wakers: Vec::new(),
    armed: None,
});

/// Wakes those whose time has come, when the reactor says so.
struct Alarm;

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        let mut schedule = SCHEDULE.lock();
        schedule.armed = None;
        let due = schedule.take_due();
        drop(schedule);
        wake_all(due);
    }
}

/// Wakes them; outside of the lock, because a waker may come back here.
fn wake_all(due: Vec<(u64, Waker)>) {
    for (_, waker) in due {
        waker.wake();
    }
}

/// The waker of the alarm, made once.
fn alarm() -> &'static Waker {
    static ALARM: Once<Waker> = Once::new();
    ALARM.call_once(|| Waker::from(Arc::new(Alarm)))
}

impl Schedule {
    fn add(&mut self, at: u64, waker: &Waker) {
        match self.wakers.iter_mut().find(|(_, w)| w.will_wake(waker)) {
            Some((earlier, _)) => *earlier = at.min(*earlier),
            None => self.wakers.push((at, waker.clone())),
        }
    }

    /// Takes those whose time has come, for the caller to wake, and has the reactor
    /// call for the nearest of the others.
    fn take_due(&mut self) -> Vec<(u64, Waker)> {
        let mut due = Vec::new();
        loop {
            let now = time::since_boot_ns();
            due.extend(self.wakers.extract_if(.., |(at, _)| *at <= now));
            let nearest = self.wakers.iter().map(|&(at, _)| at).min();
            if self.armed.as_ref().map(|&(at, _)| at) == nearest {
                return due;
            }
            self.armed = None;
            let Some(at) = nearest else {
                return due;
            };
            let mut timer = runtime::reactor().sleep_until(at);
            let polled = Pin::new(&mut timer).poll(&mut Context::from_waker(alarm()));
            // If its time has come meanwhile, it is among those that are due now.
            if polled.is_pending() {
                self.armed = Some((at, timer));
                return due;
            }
        }
    }
}

/// The clock and timers of the guest, as `embassy-time` sees them.
struct ArcaTime;

impl Driver for ArcaTime {
    fn now(&self) -> u64 {
        match boot::is_known() {
            true => to_ticks(time::since_boot_ns()),
            false => 0,
        }
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        let mut schedule = SCHEDULE.lock();
        schedule.add(to_nanos(at), waker);
        let due = schedule.take_due();
        drop(schedule);
        wake_all(due);
    }
}

embassy_time_driver::time_driver_impl!(static DRIVER: ArcaTime = ArcaTime);

#[cfg(test)]
mod tests {
    use super::{TICK_HZ, to_nanos, to_ticks};

    #[test]
    fn a_tick_has_come_when_its_nanoseconds_have() {
        for ticks in [0, 1, 2, 999, 1_000_001, u64::MAX / 4_000_000_000] {
            assert_eq!(to_ticks(to_nanos(ticks)), ticks);
        }
        assert_eq!(to_nanos(TICK_HZ), 1_000_000_000);
        assert_eq!(to_nanos(u64::MAX), u64::MAX, "a deadline that never comes");
    }
}
