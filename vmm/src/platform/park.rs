//! vCPUs that sleep and are woken.
//!
//! Under KVM a vCPU that writes the PARK register sleeps in its own thread of the
//! VMM; in a process it sleeps there, on a word of the shared area. Either word is a
//! [`ParkWord`], whose wakes are tokens.
//!
//! `std::thread::park` would be the same thing, but its token is also used by
//! `std`'s own channels, and a wake-up that these consumed would be lost.

use crate::platform::cores::TakenCores;
use crate::platform::process::SharedArea;
use crate::vm::outcome::RunState;
use arca_monitor::VcpuWaker;
use arca_stub::park::ParkWord;
use nix::libc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// One vCPU's place to sleep in this process.
#[derive(Debug, Default)]
pub struct Parker(ParkWord);

impl Parker {
    /// Sleeps until woken or until `left` says that the time is up. Says
    /// whether it slept at all.
    pub fn park(&self, mut left: impl FnMut() -> Option<Option<Duration>>) -> bool {
        self.0.park(|word, asleep| {
            let Some(timeout) = left() else {
                return false;
            };
            futex_wait(word, asleep, timeout, libc::FUTEX_PRIVATE_FLAG);
            true
        })
    }

    /// Ends the sleep, or leaves a token.
    pub fn wake(&self) {
        self.0
            .wake(|word| futex_wake(word, libc::FUTEX_PRIVATE_FLAG));
    }
}

/// The places of all vCPUs of a guest.
pub struct Parkers {
    places: Places,
    /// On which cores they stay.
    pub cores: TakenCores,
    run_state: Arc<RunState>,
}

/// Where they are.
enum Places {
    /// In this process.
    Here(Vec<Parker>),
    /// In the guest's process, this many.
    There(Arc<SharedArea>, usize),
}

/// What was counted where vCPUs sleep in the guest's process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ParkCounts {
    /// How often one asked to sleep.
    pub parks: u64,
    /// How often one slept.
    pub sleeps: u64,
    /// How often one woke another.
    pub kicks: u64,
}

impl Parkers {
    /// As many as there are vCPUs, which sleep in threads of this process.
    pub fn new(vcpus: usize, run_state: Arc<RunState>) -> Self {
        let parkers = (0..vcpus).map(|_| Parker::default()).collect();
        Self {
            places: Places::Here(parkers),
            cores: TakenCores::default(),
            run_state,
        }
    }

    /// As many as there are vCPUs, which sleep in the process that has this area.
    pub fn shared(area: Arc<SharedArea>, vcpus: usize, run_state: Arc<RunState>) -> Self {
        Self {
            places: Places::There(area, vcpus),
            cores: TakenCores::default(),
            run_state,
        }
    }

    /// The place of a vCPU that sleeps in this process.
    pub fn here(&self, vcpu: usize) -> Option<&Parker> {
        match &self.places {
            Places::Here(parkers) => parkers.get(vcpu),
            Places::There(..) => None,
        }
    }

    /// Wakes one; `false` if there is no such vCPU.
    pub fn wake_one(&self, vcpu: usize) -> bool {
        match &self.places {
            Places::Here(parkers) => {
                let Some(parker) = parkers.get(vcpu) else {
                    return false;
                };
                parker.wake();
            }
            Places::There(area, vcpus) => {
                let Some(slot) = area.slots[..*vcpus].get(vcpu) else {
                    return false;
                };
                slot.parker.wake(futex_wake_shared);
            }
        }
        self.run_state.counters.wakes.add(1);
        true
    }

    /// Wakes all that sleep in this process.
    pub fn wake_all(&self) {
        if let Places::Here(parkers) = &self.places {
            parkers.iter().for_each(Parker::wake);
        }
    }

    /// What the guest's process counted, if vCPUs sleep there. It can say anything.
    pub fn counts(&self) -> ParkCounts {
        let mut counts = ParkCounts::default();
        if let Places::There(area, vcpus) = &self.places {
            for slot in &area.slots[..*vcpus] {
                counts.parks = counts.parks.wrapping_add(slot.parks.get());
                counts.sleeps = counts.sleeps.wrapping_add(slot.sleeps.get());
                counts.kicks = counts.kicks.wrapping_add(slot.kicks.get());
            }
        }
        counts
    }
}

impl VcpuWaker for Parkers {
    /// Wakes one, and makes way for it: whoever calls this works with it.
    fn wake(&self, vcpu: usize) {
        self.cores.make_way();
        self.wake_one(vcpu);
    }
}

/// Sleeps while the word, which another process has mapped too, has that value.
/// Returns for a wake, at the timeout, for a signal, or for no reason.
pub fn futex_wait_shared(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    futex_wait(word, expected, timeout, 0);
}

/// Wakes all who sleep on the word, which another process has mapped too.
pub fn futex_wake_shared(word: &AtomicU32) {
    futex_wake(word, 0);
}

/// Sleeps if the word is still `expected`. Returns for a wake, at the timeout,
/// for a signal, or for no reason. `scope`: FUTEX_PRIVATE_FLAG, or nothing.
fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>, scope: libc::c_int) {
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
            libc::FUTEX_WAIT | scope,
            expected,
            timeout,
        );
    }
}

fn futex_wake(word: &AtomicU32, scope: libc::c_int) {
    // SAFETY: the kernel uses the word's address as a name only.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | scope,
            libc::c_int::MAX,
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
