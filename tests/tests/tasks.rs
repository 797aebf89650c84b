//! `tasks`: the executor, on one vCPU and spread over more.

use arca_tests::local::LocalGuest;
use arca_tests::service;

/// What the program says of each thing that it has checked.
const CHECKED: [&str; 11] = [
    "ok: every task slept as long as it wanted, at least",
    "ok: what was sent over a channel was received",
    "ok: a mutex kept tasks apart, also over a wait",
    "ok: a channel ends when either side has gone",
    "ok: every task was notified, one by another",
    "ok: local tasks ran where they were started",
    "ok: an interval ticks in time and loses no tick",
    "ok: a time-out ends a long wait and spares a short one",
    "ok: a task can be cancelled, and another one gives its output",
    "ok: tasks that block let others run",
    "ok: time did not go back between vCPUs",
];

fn run(vcpus: usize) {
    let guest = LocalGuest::start_with("tasks", &[], |config| config.vcpus = vcpus);
    let (status, output) = guest.finish();
    let output = String::from_utf8(output).expect("text");
    assert_eq!(status.code(), 0, "{output}");
    let mut lines: Vec<&str> = output.lines().collect();
    let spread = lines.pop().expect("the last line");
    assert_eq!(lines, CHECKED);
    let words: Vec<&str> = spread.split(' ').collect();
    let ["ran", "on", count, "vCPUs"] = words[..] else {
        panic!("{spread}");
    };
    let count: usize = count.parse().expect("a number");
    assert!((vcpus.min(2)..=vcpus).contains(&count), "{spread}");
}

#[test]
fn tasks_run_on_one_vcpu() {
    run(1);
}

#[test]
fn tasks_run_on_two_vcpus() {
    run(2);
}

#[test]
fn tasks_run_on_four_vcpus() {
    run(4);
}

#[test]
fn what_a_task_wrote_is_sent_while_it_does_not_give_way() {
    const TASKS: usize = 64;
    const ROUNDS: usize = 256;
    let (address, _) = service::echo();
    let args = [address.to_string(), TASKS.to_string(), ROUNDS.to_string()];
    let guest = LocalGuest::start("spin", &args.each_ref().map(String::as_str));
    let (status, output) = guest.finish();
    let output = String::from_utf8(output).expect("text");
    assert_eq!(output.trim(), (TASKS * ROUNDS).to_string());
    assert_eq!(status.code(), 0);
}
