//! Signals to the process that the program of the guest sees to.

use crate::requests::Ticket;
use arca_shared::errno::Errno;
use std::sync::atomic::{AtomicU32, Ordering};

/// Those that a program may wait for, bit n for signal n: SIGHUP, SIGINT and SIGTERM.
const ALLOWED: u32 = 1 << 1 | 1 << 2 | 1 << 15;

/// What the monitor shares about them with whoever takes the signals.
#[derive(Debug, Default)]
pub(crate) struct SharedSignals {
    /// The program has asked for these.
    wanted: AtomicU32,
    /// These came.
    came: AtomicU32,
}

impl SharedSignals {
    /// Takes note of a signal; `false` if it is not the program's. The monitor is the
    /// caller's to wake.
    pub(crate) fn post(&self, signal: i32) -> bool {
        let bit = u32::try_from(signal).map_or(0, |n| 1u32.checked_shl(n).unwrap_or(0));
        // Relaxed: nothing else is read on the strength of it.
        if self.wanted.load(Ordering::Relaxed) & bit == 0 {
            return false;
        }
        // Relaxed: the wake, a system call, comes after it.
        self.came.fetch_or(bit, Ordering::Relaxed);
        true
    }
}

/// The requests that wait for signals.
#[derive(Default)]
pub(crate) struct Signals {
    waiting: Vec<(Ticket, u32)>,
    /// Signals that came while nobody waited for them.
    kept: u32,
}

impl Signals {
    /// A request for these signals: the one that came already. They are the program's
    /// from now on.
    ///
    /// # Errors
    ///
    /// EINVAL if there are none, or others than may be waited for.
    pub(crate) fn ask(
        &mut self,
        signals: u32,
        shared: &SharedSignals,
    ) -> Result<Option<u8>, Errno> {
        if signals == 0 || signals & !ALLOWED != 0 {
            return Err(Errno::EINVAL);
        }
        // Relaxed: as in `post`.
        shared.wanted.fetch_or(signals, Ordering::Relaxed);
        let there = self.kept & signals;
        if there == 0 {
            return Ok(None);
        }
        let signal = there.trailing_zeros();
        self.kept &= !(1 << signal);
        Ok(Some(signal as u8))
    }

    /// Has a request wait.
    pub(crate) fn wait(&mut self, ticket: Ticket, signals: u32) {
        self.waiting.push((ticket, signals));
    }

    /// Lets a request wait no more.
    pub(crate) fn cancel(&mut self, ticket: Ticket) {
        self.waiting.retain(|(waiting, _)| *waiting != ticket);
    }

    /// Takes what came: the requests that it answers. What nobody waits for is kept.
    pub(crate) fn take(&mut self, shared: &SharedSignals) -> Vec<(Ticket, u8)> {
        // Relaxed: as in `post`.
        let came = shared.came.swap(0, Ordering::Relaxed);
        let mut answered = Vec::new();
        let mut unheard = came;
        self.waiting.retain(|&(ticket, signals)| {
            let heard = signals & came;
            if heard != 0 {
                answered.push((ticket, heard.trailing_zeros() as u8));
                unheard &= !(1 << heard.trailing_zeros());
            }
            heard == 0
        });
        self.kept |= unheard;
        answered
    }

    /// The program sees to no signal any more.
    pub(crate) fn end(&mut self, shared: &SharedSignals) {
        // Relaxed: as in `post`.
        shared.wanted.store(0, Ordering::Relaxed);
        self.waiting.clear();
    }
}
