//! Moments in the future.

use std::time::{Duration, Instant};

/// As good as never: no session lives for a century, and the clock counts further.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The moment that is `wait` after `now`, for any wait that a configuration can
/// hold: more than a century is a century.
pub(crate) fn after(now: Instant, wait: Duration) -> Instant {
    now + wait.min(NEVER)
}
