//! An idle guest costs nothing: counted, not timed.

use arca_tests::local::{LocalGuest, free_port};
use arca_vmm::VmStats;
use std::sync::mpsc;
use std::time::Duration;

/// How long the guest is left alone.
const QUIET: Duration = Duration::from_secs(10);

/// How long start-up must have been over.
const MOMENT: Duration = Duration::from_millis(50);

/// Lets time pass: here, nothing must happen in it.
fn pass(time: Duration) {
    let (_sender, nothing) = mpsc::channel::<()>();
    let result = nothing.recv_timeout(time);
    assert_eq!(result, Err(mpsc::RecvTimeoutError::Timeout));
}

/// Epoll turns and vCPU exits so far.
fn count(stats: &VmStats) -> (u64, u64) {
    (stats.monitor.epoll_turns, stats.vcpu_exits)
}

#[test]
fn an_idle_guest_is_not_run_and_wakes_nobody() {
    let port = free_port();
    let guest = LocalGuest::start("echo-server", &[&port.to_string()]);
    guest.wait_listening(([127, 0, 0, 1], port).into());
    // Start-up is over when a moment passes in which nothing happened.
    let mut before = guest.stats();
    loop {
        pass(MOMENT);
        let now = guest.stats();
        if count(&now) == count(&before) {
            break;
        }
        before = now;
    }
    pass(QUIET);
    let after = guest.stats();
    let turns = count(&after).0 - count(&before).0;
    let exits = count(&after).1 - count(&before).1;
    assert!(turns <= 1, "{turns} epoll turns in {QUIET:?}");
    assert!(exits <= 1, "{exits} vCPU exits in {QUIET:?}");
    guest.stop();
}
