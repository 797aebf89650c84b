//! Guests that do what they must not, each in a process of its own: the process
//! survives or ends as it should, and its memory stays bounded.
//!
//! Each attack lasts a second. `ARCA_SOAK_SECONDS` makes it longer; the project
//! promises 60.

use arca_tests::guest::Guest;
use arca_tests::service;
use std::env;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// Memory that each guest has: low memory and arena.
const OPTIONS: [&str; 6] = ["--memory", "32M", "--arena", "64M", "--vcpus", "2"];
const GUEST: u64 = (32 + 64) << 20;

/// What the VMM itself may take, whatever its guest does. It takes less than 10 MiB,
/// most of them for a crash report.
const VMM: u64 = 32 << 20;

/// How long an attack lasts, in milliseconds.
fn millis() -> u64 {
    let seconds = env::var("ARCA_SOAK_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse::<u64>().ok());
    seconds.map_or(1000, |seconds| seconds * 1000)
}

/// The most memory that a process ever had, in bytes, while it lives.
fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

/// Runs an attack; its exit code must be one of `codes`.
#[track_caller]
fn attack(name: &str, seed: u64, codes: &[i32]) -> String {
    attack_with(&[], name, seed, codes)
}

/// Runs an attack with further options.
#[track_caller]
fn attack_with(options: &[&str], name: &str, seed: u64, codes: &[i32]) -> String {
    let (address, _) = service::echo();
    let (millis, seed) = (millis().to_string(), seed.to_string());
    let port = address.port().to_string();
    let options = [&OPTIONS, options].concat();
    let mut guest = Guest::start(&options, "hostile", &[name, &millis, &seed, &port]);
    let pid = guest.child().id();
    let watch = thread::spawn(move || {
        let mut most = 0;
        // A process that has ended has a status without memory.
        while let Some(now) = peak(pid) {
            most = now.max(most);
            thread::park_timeout(Duration::from_millis(1));
        }
        most
    });
    let allowed = Duration::from_millis(millis.parse().unwrap_or(0));
    let ended = guest.finish_within(allowed + Duration::from_secs(60));
    let most = watch.join().expect("no panic");
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    println!(
        "{name} {seed}: exit code {:?}, at most {} MiB, {} KiB of log, {}",
        ended.code,
        most >> 20,
        ended.stderr.len() >> 10,
        said.trim()
    );
    let code = ended.code.expect("not killed by a signal");
    let end = ended.stderr.lines().last().unwrap_or_default();
    assert!(codes.contains(&code), "{name} {seed}: {code}: {end}");
    assert!(most < GUEST + VMM, "{name} {seed}: {most} bytes");
    // One line names the rule; what is said of single connections is limited.
    if code == 102 {
        assert!(
            end.starts_with("arca: the guest's session was ended"),
            "{end}"
        );
    }
    let warnings = ended.stderr.matches("[WARN ").count() as u64;
    let limit = 15 * (2 + allowed.as_secs());
    assert!(warnings <= limit, "{name} {seed}: {warnings} warnings");
    said
}

#[test]
fn scribbling_over_the_arena() {
    for seed in 0..6 {
        // It may write over its standard output too, and so lose what it says last.
        attack("scribble", seed, &[0, 74, 102]);
    }
}

#[test]
fn requests_in_any_order_and_frames_that_are_cut() {
    for seed in 0..2 {
        attack("frames", seed, &[102]);
    }
}

#[test]
fn storms_and_floods() {
    for name in ["storm", "uart", "log"] {
        attack(name, 1, &[0]);
    }
}

#[test]
fn writes_to_any_register() {
    // Whatever it hits first: the exit register, or one that is none.
    let any: Vec<i32> = (0..256).collect();
    for seed in 0..8 {
        attack("registers", seed, &any);
    }
}

#[test]
fn writing_over_the_process_around_it() {
    // In a machine there is none: a crash. In a process nearly anything may come of it,
    // but to the guest; it may wait for what never comes.
    let codes: Vec<i32> = (0..=255).collect();
    for seed in 0..8 {
        attack_with(&["--timeout", "3s"], "stub", seed, &codes);
    }
}

#[test]
fn returning_from_signals_that_never_came() {
    for seed in 0..24 {
        attack_with(&["--timeout", "3s"], "forge", seed, &[101, 124]);
    }
}

#[test]
fn breaking_ones_own_connections_harms_no_other_of_the_same_guest() {
    let began = Instant::now();
    let said = attack("pipes", 5, &[0]);
    assert!(said.contains(" 0 others harmed"), "{said}");
    assert!(began.elapsed() >= Duration::from_millis(millis()));
}
