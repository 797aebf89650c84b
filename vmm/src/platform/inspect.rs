//! Looking at a vCPU while it runs.
//!
//! A vCPU's registers are its own thread's to read. Whoever wants them asks, and
//! signals that thread until it has answered: the signal brings it out of the guest
//! or out of its sleep, it answers, and goes on as if nothing had been.

use crate::crash::Registers;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a vCPU does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It runs the guest.
    Runs,
    /// It sleeps.
    Sleeps {
        /// Since when, in nanoseconds of the guest's clock.
        since: u64,
        /// Until when at the latest, on the same clock.
        deadline: Option<u64>,
    },
}

/// A vCPU as it was when it was looked at.
#[derive(Clone, Copy, Debug)]
pub struct VcpuState {
    /// What it does.
    pub activity: Activity,
    /// Its registers.
    pub registers: Registers,
}

/// Where one vCPU is asked what it does, and answers.
#[derive(Default)]
pub struct Inspection {
    asked: AtomicBool,
    answer: Mutex<Option<VcpuState>>,
}

impl Inspection {
    /// Asks. The thread is then signalled until there is an answer.
    pub fn ask(&self) {
        *self.lock() = None;
        // Release: pairs with the Acquire in `answer`; an answer that is given after
        // this is none to an earlier question.
        self.asked.store(true, Ordering::Release);
    }

    /// The answer, once it is there.
    pub fn answered(&self) -> Option<VcpuState> {
        *self.lock()
    }

    /// Answers if somebody asks: for the vCPU's thread, whenever it is out of the
    /// guest, before it enters or sleeps.
    pub fn answer(&self, activity: Activity, registers: impl FnOnce() -> Option<Registers>) {
        // Relaxed: a question that is missed is followed by another signal.
        if !self.asked.load(Ordering::Relaxed) {
            return;
        }
        // Acquire: pairs with the Release in `ask`.
        if self.asked.swap(false, Ordering::Acquire)
            && let Some(registers) = registers()
        {
            *self.lock() = Some(VcpuState {
                activity,
                registers,
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<VcpuState>> {
        // Nobody panics while holding it.
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_is_answered_once_and_none_is_not() {
        let inspection = Inspection::default();
        let answer = |rip| {
            let registers = Registers {
                rip,
                ..Registers::default()
            };
            inspection.answer(Activity::Runs, || Some(registers));
            inspection.answered().map(|state| state.registers.rip)
        };
        assert_eq!(answer(1), None);
        inspection.ask();
        assert_eq!(answer(2), Some(2));
        assert_eq!(answer(3), Some(2));
        inspection.ask();
        assert_eq!(inspection.answered().map(|state| state.registers.rip), None);
        assert_eq!(answer(4), Some(4));
    }
}
