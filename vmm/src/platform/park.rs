//! vCPUs that sleep and are woken.
//!
//! A vCPU that writes the PARK register sleeps in its own thread. A wake is a
//! token: it ends the sleep, or is kept for the next one. Waking costs a system
//! call only if somebody sleeps.
//!
//! `std::thread::park` would be the same thing, but its token is also used by
//! `std`'s own channels, and a wake-up that these consumed would be lost.

use crate::vm::outcome::RunState;
use arca_monitor::VcpuWaker;
use nix::libc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Nothing is waiting, nobody sleeps.
const EMPTY: u32 = 0;
/// A wake is waiting for the next park.
const TOKEN: u32 = 1;
/// The vCPU sleeps, or is about to.
const ASLEEP: u32 = 2;

/// One vCPU's place to sleep.
///
/// The word's every change is a swap or a compare-exchange. A wake releases
/// what was written before it; the park that consumes the token acquires that.
#[derive(Debug, Default)]
pub struct Parker {
    state: AtomicU32,
}

impl Parker {
    /// Sleeps until woken or until `left` says that the time is up. Says
    /// whether it slept at all.
    pub fn park(&self, mut left: impl FnMut() -> Option<Option<Duration>>) -> bool {
        // Acquire pairs with `wake`'s Release.
        let before =
            self.state
                .compare_exchange(EMPTY, ASLEEP, Ordering::Acquire, Ordering::Acquire);
        let mut slept = false;
        if before.is_ok() {
            while let Some(timeout) = left() {
                slept = true;
                futex_wait(&self.state, ASLEEP, timeout);
                // Relaxed: the swap below acquires.
                if self.state.load(Ordering::Relaxed) != ASLEEP {
                    break;
                }
            }
        }
        // Consumes the token, or ends a sleep that nobody ended. Acquire as
        // above.
        self.state.swap(EMPTY, Ordering::Acquire);
        slept
    }

    /// Ends the sleep, or leaves a token.
    pub fn wake(&self) {
        // Release pairs with `park`'s Acquire.
        if self.state.swap(TOKEN, Ordering::Release) == ASLEEP {
            futex_wake(&self.state);
        }
    }
}

/// The places of all vCPUs of a guest.
pub struct Parkers {
    parkers: Vec<Parker>,
    run_state: Arc<RunState>,
}

impl Parkers {
    /// As many as there are vCPUs.
    pub fn new(vcpus: usize, run_state: Arc<RunState>) -> Self {
        Self {
            parkers: (0..vcpus).map(|_| Parker::default()).collect(),
            run_state,
        }
    }

    /// One vCPU's place.
    pub fn get(&self, vcpu: usize) -> Option<&Parker> {
        self.parkers.get(vcpu)
    }

    /// Wakes all of them.
    pub fn wake_all(&self) {
        self.parkers.iter().for_each(Parker::wake);
    }
}

impl VcpuWaker for Parkers {
    fn wake(&self, vcpu: usize) {
        if let Some(parker) = self.get(vcpu) {
            self.run_state.counters.wakes.add(1);
            parker.wake();
        }
    }
}

/// Sleeps if the word is still `expected`. Returns for a wake, at the timeout,
/// for a signal, or for no reason.
fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let timeout = timeout.map(|timeout| libc::timespec {
        // A deadline that is out of the range is as good as the largest one.
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let timeout = timeout
        .as_ref()
        .map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the word and the timeout outlive the call, and the kernel only
    // reads them.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            timeout,
        );
    }
}

fn futex_wake(word: &AtomicU32) {
    // SAFETY: the kernel uses the word's address as a name only.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            1,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_token_is_consumed_without_sleeping() {
        let parker = Parker::default();
        parker.wake();
        parker.wake();
        assert!(!parker.park(|| Some(None)));
        let mut tries = [Some(Some(Duration::from_millis(1))), None].into_iter();
        assert!(
            parker.park(|| tries.next().flatten()),
            "only one token is kept"
        );
    }

    #[test]
    fn a_deadline_that_has_passed_does_not_sleep() {
        assert!(!Parker::default().park(|| None));
    }

    #[test]
    fn every_wake_arrives() {
        const ROUNDS: u32 = 20_000;
        let pair = [Parker::default(), Parker::default()];
        let started = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    pair[0].park(|| Some(None));
                    pair[1].wake();
                }
            });
            for _ in 0..ROUNDS {
                pair[0].wake();
                pair[1].park(|| Some(None));
            }
        });
        assert!(started.elapsed() < Duration::from_secs(60));
    }
}
