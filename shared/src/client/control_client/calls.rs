//! The requests in flight, and what is kept for those to come.

use super::accepts::{Accepts, Ahead};
use crate::error::Error;
use crate::protocol::message::Reply;
use alloc::collections::BTreeMap;
use core::task::Waker;

/// Every request that was made and is not done with.
#[derive(Default)]
pub(super) struct Calls {
    pub(super) last_id: u32,
    /// Requests whose future is alive.
    pub(super) live: BTreeMap<u32, CallState>,
    /// Requests whose reply is still to come, and is no future's.
    pub(super) unowned: BTreeMap<u32, Unowned>,
    /// Listeners that are open.
    pub(super) listeners: BTreeMap<u32, Accepts>,
    /// Whether accepts are sent ahead.
    pub(super) ahead: Ahead,
    /// Signals that came for nobody: bit n stands for signal n.
    pub(super) signals: u32,
    /// Why the session is over, once it is.
    pub(super) ended: Option<Error>,
}

/// How far a request in flight is.
pub(super) enum CallState {
    /// The reply is not there.
    Waiting {
        waker: Option<Waker>,
        /// The one that an accept waits on.
        listener: Option<u32>,
        /// Whether an accept that is refused is asked for again.
        retry: Retry,
    },
    /// The reply is there, for the future to take.
    Answered(Reply),
}

/// Whether a request that is refused is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// Not as things are.
    No,
    /// Once: what it was refused for is over.
    Once,
    /// In no case: it was given up, and nothing would end it again.
    Never,
}

/// Why a reply is no future's.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unowned {
    /// The future is gone, or got another's reply.
    Abandoned,
    /// It is one to an accept on that listener, which was sent ahead.
    Ahead(u32),
}

impl CallState {
    /// Of a request that is sent now; `listener`: the one that an accept waits on.
    pub(super) fn waiting(listener: Option<u32>) -> Self {
        Self::Waiting {
            waker: None,
            listener,
            retry: Retry::No,
        }
    }
}

impl Calls {
    /// An id that no request in flight has: the next after the last one, around
    /// 0, which is for requests whose reply says nothing that matters.
    pub(super) fn fresh_id(&mut self) -> u32 {
        loop {
            self.last_id = self.last_id.wrapping_add(1).max(1);
            let id = self.last_id;
            if !self.live.contains_key(&id) && !self.unowned.contains_key(&id) {
                return id;
            }
        }
    }

    /// A signal of those that came for nobody.
    pub(super) fn take_signal(&mut self, wanted: u32) -> Option<u8> {
        let there = self.signals & wanted;
        let signal = (there != 0).then(|| there.trailing_zeros() as u8)?;
        self.signals &= !(1 << signal);
        Some(signal)
    }
}
