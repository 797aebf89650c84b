//! Taking turns, and what happens to who fails.

use super::party::Kind;
use crate::rig::Sample;
use anyhow::{Context, Result};
use indicatif::ProgressBar;

/// How often one may fail before it gets no more turns. Each failure may take as long
/// as an answer may.
const FAILURES: usize = 2;

/// One that takes turns, as the rounds see it.
pub trait Peer {
    /// Does what is done in a sample.
    ///
    /// # Errors
    ///
    /// If it cannot, or does not in time.
    fn sample(&mut self, number: usize) -> Result<Sample>;

    /// CPU time of its processes so far, in nanoseconds.
    fn cpu_ns(&self) -> u64;
}

/// What one of them came to.
pub struct Lane {
    pub kind: Kind,
    /// Whether it is not installed.
    pub missing: bool,
    /// A sample of each round; none where it failed.
    pub samples: Vec<Option<Sample>>,
    /// Why it failed, each time.
    pub failures: Vec<String>,
}

impl Lane {
    /// One that is yet to begin.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            missing: false,
            samples: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// One that cannot be started, for it is not installed.
    pub fn missing(kind: Kind) -> Self {
        Self {
            missing: true,
            ..Self::new(kind)
        }
    }
}

/// Takes a sample of each in every round, in an order that moves on by one from round
/// to round. One is started when its turn comes and does what is not counted first; one
/// that fails is ended, and started anew at its next turn. Gives the CPU time of them
/// all, in nanoseconds.
pub fn run<P: Peer>(
    lanes: &mut [Lane],
    rounds: usize,
    start: impl Fn(Kind) -> Result<P>,
    progress: &ProgressBar,
) -> u64 {
    let mut ours = 0;
    let mut peers: Vec<Option<P>> = lanes.iter().map(|_| None).collect();
    for round in 1..=rounds {
        for turn in 0..lanes.len() {
            let index = (round + turn) % lanes.len();
            let (lane, peer) = (&mut lanes[index], &mut peers[index]);
            progress.inc(1);
            if lane.missing || lane.failures.len() >= FAILURES {
                lane.samples.push(None);
                continue;
            }
            let sample = sample(lane.kind, peer, round, &start);
            if let Err(error) = &sample {
                lane.failures.push(format!("{error:#}"));
                ours += peer.take().map_or(0, |peer| peer.cpu_ns());
            }
            lane.samples.push(sample.ok());
        }
    }
    ours + peers.iter().flatten().map(Peer::cpu_ns).sum::<u64>()
}

fn sample<P: Peer>(
    kind: Kind,
    peer: &mut Option<P>,
    round: usize,
    start: impl Fn(Kind) -> Result<P>,
) -> Result<Sample> {
    let peer = match peer {
        Some(peer) => peer,
        None => {
            let peer = peer.insert(start(kind).context("start")?);
            peer.sample(0).context("before the first sample")?;
            peer
        }
    };
    peer.sample(round).with_context(|| format!("round {round}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Program;
    use crate::side::Role;
    use arca_bench::Outcome;
    use std::cell::RefCell;
    use std::process::Command;
    use std::time::Duration;

    /// Answers with the number of the round, but in one of them.
    struct Fake {
        kind: Kind,
        fails: Option<usize>,
    }

    impl Peer for Fake {
        fn sample(&mut self, number: usize) -> Result<Sample> {
            anyhow::ensure!(self.fails != Some(number), "{:?} fails", self.kind);
            let outcome = Outcome::default().with("ns", number as u64);
            Ok(Sample::new(outcome, 0, 0))
        }

        fn cpu_ns(&self) -> u64 {
            7
        }
    }

    fn numbers(lane: &Lane) -> Vec<Option<f64>> {
        let number = |sample: &Option<Sample>| sample.as_ref().map(Sample::ns);
        lane.samples.iter().map(number).collect()
    }

    #[test]
    fn one_that_fails_is_started_anew() {
        let started = RefCell::new(Vec::new());
        let mut lanes = Kind::ALL.map(Lane::new);
        lanes[3] = Lane::missing(Kind::Relay);
        let start = |kind| {
            started.borrow_mut().push(kind);
            let fails = (kind == Kind::Pasta).then_some(2);
            Ok(Fake { kind, fails })
        };
        let ours = run(&mut lanes, 3, start, &ProgressBar::hidden());
        let all = [Some(1.0), Some(2.0), Some(3.0)];
        assert_eq!(numbers(&lanes[0]), all);
        assert_eq!(numbers(&lanes[1]), all);
        assert_eq!(numbers(&lanes[2]), [Some(1.0), None, Some(3.0)]);
        assert_eq!(lanes[2].failures, ["round 2: Pasta fails"]);
        assert_eq!(numbers(&lanes[3]), [None; 3]);
        assert!(lanes[3].failures.is_empty());
        let count = |kind| {
            started
                .borrow()
                .iter()
                .filter(|&&known| known == kind)
                .count()
        };
        assert_eq!([1, 1, 2, 0], Kind::ALL.map(count));
        assert_eq!(ours, 4 * 7);
    }

    #[test]
    fn one_that_fails_twice_gets_no_more_turns() {
        let mut lanes = [Lane::new(Kind::Native), Lane::new(Kind::Pasta)];
        let start = |kind| match kind {
            Kind::Pasta => anyhow::bail!("no namespace"),
            _ => Ok(Fake { kind, fails: None }),
        };
        run(&mut lanes, 4, start, &ProgressBar::hidden());
        assert_eq!(numbers(&lanes[0]).iter().flatten().count(), 4);
        assert_eq!(numbers(&lanes[1]), [None; 4]);
        assert_eq!(lanes[1].failures, ["start: no namespace"; 2]);
    }

    /// A process that takes everything and never answers.
    struct Mute(Program);

    impl Peer for Mute {
        fn sample(&mut self, _: usize) -> Result<Sample> {
            let outcome = self.0.ask("transfer")?;
            Ok(Sample::new(outcome, 0, 0))
        }

        fn cpu_ns(&self) -> u64 {
            0
        }
    }

    #[test]
    fn one_that_never_answers_has_failed() {
        let mut lanes = [Lane::new(Kind::Pasta)];
        let start = |_| {
            let mut command = Command::new("sleep");
            command.arg("1000");
            let program = Program::spawn(Role::Native, command)?;
            Ok(Mute(program.within(Duration::from_millis(50))))
        };
        run(&mut lanes, 3, start, &ProgressBar::hidden());
        assert_eq!(numbers(&lanes[0]), [None; 3]);
        let [first, _] = &lanes[0].failures[..] else {
            panic!("{:?}", lanes[0].failures);
        };
        assert!(first.contains("no answer within 50ms"), "{first}");
    }
}
