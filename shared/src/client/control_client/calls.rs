//! The requests in flight, and what is kept for those to come.

use crate::error::Error;
use crate::protocol::message::Reply;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::task::Waker;

/// Every request that was made and is not done with.
#[derive(Default)]
pub(super) struct Calls {
    pub(super) last_id: u32,
    /// Requests whose future is alive.
    pub(super) live: BTreeMap<u32, CallState>,
    /// Requests whose own reply is still to come, and is nobody's: the future is
    /// gone, or got another's reply.
    pub(super) abandoned: BTreeSet<u32>,
    /// Listeners that are open.
    pub(super) listeners: BTreeSet<u32>,
    /// Connections accepted for nobody, by open listener.
    pub(super) unclaimed: BTreeMap<u32, VecDeque<Reply>>,
    /// Signals that came for nobody: bit n stands for signal n.
    pub(super) signals: u32,
    /// Why the session is over, once it is.
    pub(super) ended: Option<Error>,
}

/// How far a request in flight is.
pub(super) enum CallState {
    /// The reply is not there; the listener is the one an accept waits on.
    Waiting {
        waker: Option<Waker>,
        listener: Option<u32>,
    },
    /// The reply is there, for the future to take.
    Answered(Reply),
}

impl Calls {
    /// An id that no request in flight has: the next after the last one, around
    /// 0, which is for requests whose reply says nothing that matters.
    pub(super) fn fresh_id(&mut self) -> u32 {
        loop {
            self.last_id = self.last_id.wrapping_add(1).max(1);
            let id = self.last_id;
            if !self.live.contains_key(&id) && !self.abandoned.contains(&id) {
                return id;
            }
        }
    }

    /// A connection that is kept for the next accept of that listener.
    pub(super) fn take_unclaimed(&mut self, listener: u32) -> Option<Reply> {
        let unclaimed = self.unclaimed.get_mut(&listener)?;
        let reply = unclaimed.pop_front();
        if unclaimed.is_empty() {
            self.unclaimed.remove(&listener);
        }
        reply
    }

    /// A signal of those that came for nobody.
    pub(super) fn take_signal(&mut self, wanted: u32) -> Option<u8> {
        let there = self.signals & wanted;
        let signal = (there != 0).then(|| there.trailing_zeros() as u8)?;
        self.signals &= !(1 << signal);
        Some(signal)
    }

    /// Gives an accepted connection whose accept is gone to the oldest other
    /// accept of that listener, which is then abandoned on the monitor's side:
    /// its id, and whom to wake. Kept for the next accept if there is none.
    pub(super) fn redirect(&mut self, wanted: u32, reply: Reply) -> Option<(u32, Option<Waker>)> {
        let oldest = self.live.iter_mut().find_map(|(&id, state)| match state {
            CallState::Waiting { waker, listener } if *listener == Some(wanted) => {
                let waker = waker.take();
                *state = CallState::Answered(reply);
                Some((id, waker))
            }
            _ => None,
        });
        match oldest {
            Some((id, _)) => {
                self.abandoned.insert(id);
            }
            None => self.unclaimed.entry(wanted).or_default().push_back(reply),
        }
        oldest
    }
}
