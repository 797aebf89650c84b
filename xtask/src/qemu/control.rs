//! What the host and the machine's init say to each other, each a line of JSON on
//! a port of its own, and the ports.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A port of the machine: a byte stream to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Port {
    /// [`Order`]s and [`Report`]s.
    Control,
    /// The program's standard output.
    Stdout,
    /// Its standard error.
    Stderr,
    /// Requests for standard input, and answers (`stdin` has them).
    Stdin,
}

impl Port {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Control, Self::Stdout, Self::Stderr, Self::Stdin];

    /// Its number on the bus. Number 0 is for a console.
    #[must_use]
    pub fn number(self) -> u32 {
        self as u32 + 1
    }

    /// Its device in the machine, which has no other bus of that kind.
    #[must_use]
    pub fn device(self) -> PathBuf {
        format!("/dev/vport0p{}", self.number()).into()
    }
}

/// What the host wants.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Run a program.
    Start(Start),
    /// Send it a signal.
    Signal(i32),
    /// The host takes nothing more of that stream.
    Refuse(Port),
}

/// A program to run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    /// It and its arguments.
    pub args: Vec<String>,
    /// Its environment, beside a path.
    pub env: BTreeMap<String, String>,
    /// Its working directory.
    pub folder: PathBuf,
}

/// What init has to say.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// It is there.
    Booted(Booted),
    /// It still is: once each [`ALIVE`].
    Alive,
    /// The program has ended.
    Ended(Ended),
}

/// The machine as init found it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Booted {
    /// Why there is no KVM in it, if there is none.
    pub no_kvm: Option<String>,
    /// How long [`Pace::measure`] took, in nanoseconds.
    pub pace: Pace,
}

/// How a program ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ended {
    /// Its exit code, or 128 and the signal that killed it, as a shell has it.
    pub code: u8,
    /// Bytes that all programs so far wrote to standard output and standard error.
    pub written: [u64; 2],
    /// What its tests said that they skipped.
    pub skipped: Vec<String>,
}

/// How often init says that it is alive.
pub const ALIVE: Duration = Duration::from_secs(1);

/// Sends a message.
///
/// # Errors
///
/// If nobody takes it.
pub fn send(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// The next message; none at the end.
///
/// # Errors
///
/// If what comes is no message.
pub fn receive<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}

/// How long a fixed amount of work takes: what an emulator is slow at, beside what
/// it is less slow at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace(u64);

impl Pace {
    /// Measures it here and now; the best of a few, so that a neighbour counts
    /// less.
    #[must_use]
    pub fn measure() -> Self {
        let times = (0..3).map(|_| {
            let began = Instant::now();
            work();
            began.elapsed()
        });
        let best = times.min().unwrap_or_default();
        Self(u64::try_from(best.as_nanos()).unwrap_or(u64::MAX))
    }

    /// How many times slower this is than another one: at least 1, and at most
    /// 100, so that a deadline stays one.
    #[must_use]
    pub fn times(self, other: Self) -> f64 {
        (self.0 as f64 / other.0.max(1) as f64).clamp(1.0, 100.0)
    }
}

/// Some milliseconds of arithmetic, memory and system calls.
fn work() {
    let mut bytes = vec![0_u8; 64 << 10];
    let mut state = 1_u64;
    for round in 0..200 {
        for byte in &mut bytes[..8 << 10] {
            state = state
                .wrapping_mul(0x5851_F42D_4C95_7F2D)
                .wrapping_add(round);
            *byte ^= (state >> 56) as u8;
        }
        // Anything that asks the kernel; whether it is there does not matter.
        let _ = black_box(Path::new("/proc/self/exe").symlink_metadata());
    }
    black_box(&bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let mut line = Vec::new();
        let start = Start {
            args: vec!["a\nb".into(), String::new()],
            env: [("NAME".into(), "= \"".into())].into(),
            folder: "/x y".into(),
        };
        send(&mut line, &Order::Start(start)).expect("memory");
        send(&mut line, &Order::Signal(15)).expect("memory");
        let mut lines = &line[..];
        match receive(&mut lines).expect("a message") {
            Some(Order::Start(start)) => {
                assert_eq!(start.args, ["a\nb", ""]);
                assert_eq!(start.env["NAME"], "= \"");
                assert_eq!(start.folder, Path::new("/x y"));
            }
            other => panic!("{other:?}"),
        }
        let second = receive::<Order>(&mut lines).expect("a message");
        assert!(matches!(second, Some(Order::Signal(15))), "{second:?}");
        assert!(receive::<Order>(&mut lines).expect("the end").is_none());
        assert!(receive::<Order>(&mut &b"no message\n"[..]).is_err());
    }

    #[test]
    fn a_slower_pace_is_a_larger_factor() {
        let times = |slow, fast| Pace(slow).times(Pace(fast));
        assert_eq!([times(30, 10), times(5, 10), times(5, 0)], [3.0, 1.0, 5.0]);
        assert_eq!(times(u64::MAX, 1), 100.0);
        assert_ne!(Pace::measure(), Pace(0));
    }
}
