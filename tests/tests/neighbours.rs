//! A hostile guest beside a good one in the same process: the good one finishes
//! byte for byte, and of the hostile ones, however they end, nothing is left.
//! Alone in its file: it counts what the whole process has.
//!
//! The attacks go on for five seconds. `ARCA_SOAK_SECONDS` makes it longer; the
//! project promises 60.

use arca_tests::data::{assert_same, noise};
use arca_tests::local::{LocalGuest, free_port};
use arca_tests::process::{descriptors, resident, threads};
use arca_tests::service;
use arca_vmm::{Output, VmConfig};
use std::env;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Memory of each hostile guest.
const LOW: u64 = 32 << 20;
const ARENA: u64 = 64 << 20;
/// Growth that is none: what the good guest touches of its own memory meanwhile.
const SLACK: u64 = 8 << 20;

/// Memory in use, without what the allocator keeps of what was freed.
fn held() -> u64 {
    // SAFETY: gives free memory back to the kernel; nothing else changes.
    unsafe { nix::libc::malloc_trim(0) };
    resident()
}

/// Sends to the good guest and compares what comes back.
fn exchange(address: SocketAddr, seed: u64, len: usize) {
    let sent = noise(seed, len);
    let mut stream = TcpStream::connect(address).expect("the good guest listens");
    let mut writer = stream.try_clone().expect("a second handle");
    thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).expect("the good guest reads");
            writer.shutdown(Shutdown::Write).expect("connected");
        });
        let mut got = Vec::with_capacity(len);
        stream
            .read_to_end(&mut got)
            .expect("the good guest answers");
        assert_same(&got, &sent);
    });
}

/// Runs one hostile guest to its end.
fn attack(name: &str, seed: u64, port: u16) -> u8 {
    let args = [name, "300", &seed.to_string(), &port.to_string()];
    let guest = LocalGuest::start_with("hostile", &args, |config: &mut VmConfig| {
        config.vcpus = 2;
        config.low_memory = LOW;
        config.arena_size = ARENA;
        config.console = Box::new(std::io::sink());
        config.stderr = Output::Null;
        config.timeout = Some(Duration::from_secs(30));
        config.sandbox = true;
    });
    let handle = guest.handle().clone();
    let (status, _) = guest.finish();
    let stats = handle.stats().monitor;
    let left = (stats.pipes_allocated, stats.connections, stats.listeners);
    assert_eq!(left, (0, 0, 0), "{name} {seed}: {status}");
    status.code()
}

#[test]
fn a_hostile_guest_harms_no_other_and_leaves_nothing_behind() {
    let seconds = env::var("ARCA_SOAK_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(5);
    // One pool of memory for all the threads that there will be, or each would keep
    // some megabytes of what was freed.
    // SAFETY: sets a number of the allocator's.
    unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1) };
    let (service, open) = service::echo();
    let address: SocketAddr = (Ipv4Addr::LOCALHOST, free_port()).into();
    let good = LocalGuest::start_with("echo-server", &[&address.port().to_string()], |config| {
        config.low_memory = 128 << 20;
        config.arena_size = 128 << 20;
    });
    good.wait_listening(address);
    for seed in 0..20 {
        exchange(address, seed, 2 << 20);
    }
    // The first of each kind: what stays once for all is there then.
    attack("scribble", 0, service.port());
    attack("frames", 0, service.port());
    good.wait_until("free", |stats| stats.monitor.pipes_allocated == 0);
    let before = (descriptors(), threads());
    let memory = held();

    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let carrying = thread::spawn(move || {
        let (mut rounds, mut peak) = (0, 0);
        while !stopped.load(Ordering::Relaxed) {
            rounds += 1;
            exchange(address, rounds, 2 << 20);
            peak = peak.max(resident());
        }
        (rounds, peak)
    });
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut seed, mut codes) = (0, [0u32; 256]);
    while Instant::now() < end {
        for name in [
            "scribble",
            "frames",
            "storm",
            "scribble",
            "registers",
            "log",
        ] {
            seed += 1;
            codes[usize::from(attack(name, seed, service.port()))] += 1;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let (rounds, peak) = carrying.join().expect("the good guest is not harmed");

    // Threads of the services end when the hostile guests' connections have.
    let deadline = Instant::now() + arca_tests::guest::deadline();
    let settled = || open.count() == 0 && (descriptors(), threads()) == before;
    while !settled() && Instant::now() < deadline {
        thread::park_timeout(Duration::from_millis(1));
    }
    let left = held();
    println!(
        "{seed} hostile guests, {} ended for a rule; {rounds} exchanges of 2 MiB; memory {} MiB \
         before, at most {} MiB, {} MiB left",
        codes[102],
        memory >> 20,
        peak >> 20,
        left >> 20
    );
    assert_eq!((descriptors(), threads()), before);
    assert!(codes[102] > 0 && rounds > 0);
    // One hostile guest at a time, beside what the good one holds.
    assert!(left < memory + SLACK, "{memory} grew to {left}");
    assert!(peak < memory + LOW + ARENA + 2 * SLACK, "{peak}");
    good.stop();
}
