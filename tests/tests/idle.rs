//! An idle guest costs nothing: counted, not timed.

use arca_tests::local::{LocalGuest, free_port};
use std::sync::mpsc;
use std::time::Duration;

/// How long the guest is left alone.
const QUIET: Duration = Duration::from_secs(10);

#[test]
fn an_idle_guest_is_not_run_and_wakes_nobody() {
    let port = free_port();
    let guest = LocalGuest::start("echo-server", &[&port.to_string()]);
    guest.wait_listening(([127, 0, 0, 1], port).into());
    // Asleep when the vCPU is parked: it went to sleep more often than it was
    // woken.
    guest.wait_until("asleep", |stats| stats.sleeps > stats.wakes);
    let before = guest.stats();
    // Nothing will come: this is the time in which nothing may happen.
    let (_sender, nothing) = mpsc::channel::<()>();
    assert_eq!(
        nothing.recv_timeout(QUIET),
        Err(mpsc::RecvTimeoutError::Timeout)
    );
    let after = guest.stats();
    let turns = after.monitor.epoll_turns - before.monitor.epoll_turns;
    let exits = after.vcpu_exits - before.vcpu_exits;
    assert!(turns <= 1, "{turns} epoll turns in {QUIET:?}");
    assert!(exits <= 1, "{exits} vCPU exits in {QUIET:?}");
    guest.stop();
}
