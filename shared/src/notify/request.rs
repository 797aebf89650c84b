//! What other threads ask of one that may sleep in an epoll.
//!
//! ```text
//!   any thread                      the sleeper
//!   post: the request, then an edge ─▶ sleeps until there is an edge
//!                                      consumes the edge, reads the request
//!                                      acts on what was posted, or sleeps again
//! ```
//!
//! An edge that is consumed leaves nothing behind to wake the sleeper. So whoever
//! consumes one reads the request after that ([`SleeperRequest::posted`]): it has
//! then either acted on the request, or has another edge to wake it.

use crate::sync::{AtomicU8, Ordering};

/// A request, as a number that only grows: the more urgent, the greater. 0 is none.
#[derive(Debug, Default)]
pub struct SleeperRequest {
    urgency: AtomicU8,
}

impl SleeperRequest {
    /// Posts a request, unless a more urgent one is there already, and gives an
    /// edge by `wake`, which must reach the sleeper awake or asleep.
    pub fn post(&self, urgency: u8, wake: impl FnOnce()) {
        // Release: pairs with the Acquire in `posted`; what was done before the
        // request is seen by whoever reads it.
        self.urgency.fetch_max(urgency, Ordering::Release);
        wake();
    }

    /// The most urgent request so far. To be read after an edge was consumed.
    #[must_use]
    pub fn posted(&self) -> u8 {
        // Acquire: pairs with the Release in `post`.
        self.urgency.load(Ordering::Acquire)
    }
}
