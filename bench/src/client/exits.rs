//! What it takes to leave the program: to tell the host something, to hand over to
//! another processor, to sleep.

use crate::failure::Failure;
use crate::net::Net;
use crate::reply::Outcome;

/// How long a sleep is to be, in nanoseconds.
const SLEEP: u64 = 200_000;

/// Does each so many times, and sleeps a twentieth as often. Answers with
/// `notify_ns`, `hand_over_ns` (both the time for one) and `late_ns` (how much later
/// than asked for a sleep ended), each on average.
///
/// # Errors
///
/// If the system cannot do one of them.
pub fn run<N: Net>(net: &N, count: usize) -> Result<Outcome, Failure> {
    let count = count.max(1);
    let each = |ns: u64, count: usize| ns / count as u64;
    let notify = net.notify(count)?;
    let hand_over = net.hand_over(count)?;
    let sleeps = count.div_ceil(20);
    let mut late = 0;
    for _ in 0..sleeps {
        let deadline = net.now() + SLEEP;
        net.sleep_until(deadline);
        late += net.now().saturating_sub(deadline);
    }
    Ok(Outcome::default()
        .with("notify_ns", each(notify, count))
        // There and back are two.
        .with("hand_over_ns", each(hand_over, 2 * count))
        .with("late_ns", each(late, sleeps)))
}
