//! What other threads want of one that sleeps.
//!
//! ```text
//!   any thread                      the one that sleeps
//!   raise: the wish, then the edge ─▶ sleeps until there is an edge
//!                                     consumes the edge: heard
//!                                     acts on what it has heard, or sleeps again
//! ```
//!
//! An edge that is consumed without a look at the wish leaves nothing behind, and
//! the wish is forgotten. So the wish is looked at when an edge is consumed, and
//! only then: [`SleeperRequest::posted`] is what consuming one gives. Whoever sleeps after
//! that has either acted on the wish or has an edge to wake it.

use crate::sync::{AtomicU8, Ordering};

/// A wish, as a number that only grows: the more urgent, the greater. 0 is none.
#[derive(Debug)]
pub struct SleeperRequest {
    urgency: AtomicU8,
}

impl Default for SleeperRequest {
    fn default() -> Self {
        Self {
            urgency: AtomicU8::new(0),
        }
    }
}

impl SleeperRequest {
    /// Wants something, unless something more urgent is wanted already, and gives
    /// an edge by `wake`, which must reach the sleeper awake or asleep.
    pub fn post(&self, urgency: u8, wake: impl FnOnce()) {
        // Release: pairs with the Acquire in `posted`; what was done before the wish
        // is seen by whoever hears it.
        self.urgency.fetch_max(urgency, Ordering::Release);
        wake();
    }

    /// What is wanted. To be called after an edge was consumed.
    #[must_use]
    pub fn posted(&self) -> u8 {
        // Acquire: pairs with the Release in `post`.
        self.urgency.load(Ordering::Acquire)
    }
}
