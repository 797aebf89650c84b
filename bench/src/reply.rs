//! What a program under measurement answers.

use crate::failure::Failure;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use core::str::FromStr;

/// An answer: one line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The program has begun: `unix_ns` says when it came to its `main`, and
    /// `connected_ns` when the connection was there that it was told to make at
    /// once.
    Ready(Outcome),
    /// A command made a listener and waits for connections.
    Listening(SocketAddr),
    /// A command is done.
    Done(Outcome),
    /// A command could not be done.
    Failed(String),
}

/// What a command measured: numbers by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome(Vec<(String, u64)>);

impl Outcome {
    /// With a number more.
    #[must_use]
    pub fn with(mut self, name: &str, value: u64) -> Self {
        self.0.push((name.to_string(), value));
        self
    }

    /// The number of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|&(_, value)| value)
    }
}

/// With what lies between the shortest and the longest of `times`: `p50_ns`, `p99_ns`
/// and `max_ns`.
pub(crate) fn spread(mut times: Vec<u64>, outcome: Outcome) -> Outcome {
    times.sort_unstable();
    outcome
        .with("p50_ns", percentile(&times, 50))
        .with("p99_ns", percentile(&times, 99))
        .with("max_ns", percentile(&times, 100))
}

/// The smallest of `sorted` that at least `percent` of a hundred are no larger
/// than; 0 of nothing.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}

impl FromStr for Outcome {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let mut outcome = Self::default();
        for word in text.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let value = value
                .parse()
                .map_err(|_| Failure::new(format!("not a number: {word:?}")))?;
            outcome = outcome.with(name, value);
        }
        Ok(outcome)
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(outcome) => write!(f, "ready{outcome}"),
            Self::Listening(address) => write!(f, "listening {address}"),
            Self::Done(outcome) => write!(f, "done{outcome}"),
            Self::Failed(text) => write!(f, "failed {text}"),
        }
    }
}

impl FromStr for Reply {
    type Err = Failure;

    fn from_str(line: &str) -> Result<Self, Failure> {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        match name {
            "ready" => Ok(Self::Ready(rest.parse()?)),
            "listening" => match rest.parse() {
                Ok(address) => Ok(Self::Listening(address)),
                Err(_) => Err(Failure::new(format!("not an address: {rest:?}"))),
            },
            "done" => Ok(Self::Done(rest.parse()?)),
            "failed" => Ok(Self::Failed(rest.to_string())),
            _ => Err(Failure::new(format!("not an answer: {line:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_come_back() {
        let outcome = Outcome::default().with("ns", 12).with("p50_ns", u64::MAX);
        for reply in [
            Reply::Ready(Outcome::default().with("unix_ns", 1)),
            Reply::Listening(SocketAddr::from(([127, 0, 0, 1], 4000))),
            Reply::Done(outcome.clone()),
            Reply::Done(Outcome::default()),
            Reply::Failed("connect: no".into()),
        ] {
            assert_eq!(reply.to_string().parse(), Ok(reply));
        }
        assert_eq!(outcome.get("p50_ns"), Some(u64::MAX));
        assert_eq!(outcome.get("p99_ns"), None);
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let sorted: Vec<u64> = (1..=200).collect();
        assert_eq!(percentile(&sorted, 50), 100);
        assert_eq!(percentile(&sorted, 99), 198);
        assert_eq!(percentile(&sorted, 100), 200);
        assert_eq!(percentile(&[7], 50), 7);
        assert_eq!(percentile(&[], 50), 0);
    }

    #[test]
    fn others_are_refused() {
        for line in ["", "done ns", "done ns=-1", "listening there", "hello"] {
            assert!(line.parse::<Reply>().is_err(), "{line:?}");
        }
    }
}
