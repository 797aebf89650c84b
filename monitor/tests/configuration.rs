//! A monitor works, and ends, with whatever its configuration holds.

mod common;

use arca_monitor::{Limits, MonitorConfig, PipeSizes, SessionEnd};
use arca_shared::errno::Errno;
use common::{Session, pattern};
use proptest::prelude::*;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::from_nanos(1)),
        Just(Duration::MAX),
        Just(Duration::from_secs(u64::MAX / 2)),
        Just(Duration::from_millis(i32::MAX as u64 + 1)),
        (any::<u64>(), 0..1_000_000_000u32).prop_map(|(s, n)| Duration::new(s, n)),
        (0..2_000u64).prop_map(Duration::from_micros),
    ]
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(u64::MAX / 2 + 1),
        any::<u64>(),
        0..100u64,
        (0..64u32).prop_map(|shift| 1 << shift),
    ]
}

fn count() -> impl Strategy<Value = usize> {
    size().prop_map(|size| size as usize)
}

fn limits() -> impl Strategy<Value = Limits> {
    let counts = (
        count(),
        count(),
        count(),
        count(),
        count(),
        count(),
        count(),
    );
    (counts, any::<u8>()).prop_map(|(counts, arena_percent)| Limits {
        connections: counts.0,
        listeners: counts.1,
        accepts: counts.2,
        connects: counts.3,
        lookups: counts.4,
        requests: counts.5,
        frames: counts.6,
        arena_percent,
    })
}

fn config() -> impl Strategy<Value = MonitorConfig> {
    let durations = (duration(), duration(), duration(), duration());
    (limits(), durations, size(), size(), count()).prop_map(
        |(limits, durations, largest, smallest, turn_budget)| MonitorConfig {
            limits,
            pipe_sizes: PipeSizes { largest, smallest },
            orphan_timeout: durations.0,
            drain: durations.1,
            drain_limit: durations.2,
            busy_poll: durations.3,
            turn_budget,
            ..MonitorConfig::default()
        },
    )
}

/// Some turns of a session, and its end in the way `end`.
fn use_it(config: MonitorConfig, close: bool, end: u8) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let mut session = Session::with(config, 1 << 20);
    session.peer.hello();
    let sent = pattern(3000, 1);
    match session.peer.connect(address) {
        Ok(mut stream) => {
            let (mut host, _) = listener.accept().expect("connected");
            let area = session.peer.area.clone();
            let slot = stream.pipe.shm_offset().into();
            // The ring may be one of a few bytes.
            let mut rest = &sent[..];
            common::until("room in ring A", || {
                rest = &rest[stream.pipe.write(rest).unwrap_or(0)..];
                area.to_monitor().mark(slot);
                session.peer.ring();
                rest.is_empty().then_some(())
            });
            let mut got = vec![0; sent.len()];
            host.set_read_timeout(Some(common::DEADLINE)).expect("set");
            host.read_exact(&mut got).expect("it comes");
            assert_eq!(got, sent);
            host.write_all(&sent).expect("connected");
            let mut back = Vec::new();
            while back.len() < sent.len() {
                let more = stream.read_some(&mut back);
                assert!(more, "the end after {} bytes", back.len());
                area.to_monitor().mark(slot);
                session.peer.ring();
            }
            assert_eq!(back, sent);
            if close {
                stream.close();
                area.to_monitor().mark(slot);
                session.peer.ring();
                session.expect_no_pipes();
            }
        }
        Err(errno) => assert!(
            matches!(errno, Errno::ENOBUFS | Errno::EAGAIN | Errno::ENFILE),
            "{errno:?}"
        ),
    }
    match end {
        0 => session.handle.finish(),
        1 => session.handle.stop(),
        _ => session.handle.abort(),
    }
    assert_eq!(session.end(), SessionEnd::Stopped);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64,
        // What is left of a case that fails takes its deadline each time.
        max_shrink_iters: 8, ..ProptestConfig::default() })]

    #[test]
    fn a_monitor_works_with_any_configuration(
        config in config(),
        close in any::<bool>(),
        end in 0..3u8,
    ) {
        use_it(config, close, end);
    }
}

#[test]
fn a_stop_with_the_longest_times_ends_when_all_is_delivered() {
    use_it(
        MonitorConfig {
            orphan_timeout: Duration::MAX,
            drain: Duration::MAX,
            drain_limit: Duration::MAX,
            busy_poll: Duration::MAX,
            ..MonitorConfig::default()
        },
        false,
        1,
    );
}
