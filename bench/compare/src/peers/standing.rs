//! One result: a metric of all four.

use super::case::{Case, Metric};
use super::party::Kind;
use super::rounds::Lane;
use crate::plan::Workload;
use crate::statistics::{self, Better};
use serde::Serialize;
use std::fmt;

/// How many times as good as the relay the guest must be, where it must be at all.
const AHEAD_OF_RELAY: f64 = 1.0;

/// One metric of a workload.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// The workload's name.
    pub workload: &'static str,
    /// What was measured.
    pub metric: String,
    /// In what.
    pub unit: &'static str,
    /// Each party's part.
    pub cells: Vec<Cell>,
}

/// What is known of one party.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// Its name.
    pub party: &'static str,
    pub state: State,
    /// Why samples failed, each time.
    pub failures: Vec<String>,
    pub median: Option<f64>,
    pub p99: Option<f64>,
    /// Largest less smallest, in parts of the median.
    pub spread: Option<f64>,
    /// How many times as good as this one the guest is: the median of the rounds'
    /// ratios. Above 1 the guest is ahead, in rates and times alike.
    pub guest_ahead: Option<f64>,
    /// What that must be, and whether it is.
    pub target: Option<f64>,
    pub met: Option<bool>,
    /// By round; none where it failed.
    pub samples: Vec<Option<f64>>,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// There are samples.
    Measured,
    /// There is none: it failed or hung.
    Failed,
    /// It is not installed.
    Missing,
}

/// The results of a case.
pub fn standings(workload: Workload, case: &Case, lanes: &[Lane]) -> Vec<Standing> {
    let standing = |metric: &Metric| Standing {
        workload: workload.name(),
        metric: format!("{}{}", case.prefix, metric.name),
        unit: metric.unit,
        cells: cells(metric, lanes),
    };
    case.metrics.iter().map(standing).collect()
}

fn cells(metric: &Metric, lanes: &[Lane]) -> Vec<Cell> {
    let better = Better::of(metric.unit);
    let values = |lane: &Lane| -> Vec<Option<f64>> {
        let samples = lane.samples.iter();
        samples
            .map(|sample| sample.as_ref().map(&metric.value))
            .collect()
    };
    let guest = lanes.iter().find(|lane| lane.kind == Kind::Guest);
    let guest = guest.map(values).unwrap_or_default();
    let cell = |lane: &Lane| {
        let samples = values(lane);
        let known: Vec<f64> = samples.iter().copied().flatten().collect();
        let guest_ahead = match lane.kind {
            Kind::Guest => None,
            _ => ahead(better, &guest, &samples),
        };
        let target = match lane.kind {
            Kind::Pasta => metric.ahead,
            Kind::Relay => metric.ahead.map(|_| AHEAD_OF_RELAY),
            Kind::Native | Kind::Guest => None,
        };
        Cell {
            party: lane.kind.name(),
            state: match (lane.missing, known.is_empty()) {
                (true, _) => State::Missing,
                (false, true) => State::Failed,
                (false, false) => State::Measured,
            },
            failures: lane.failures.clone(),
            median: statistics::median(&known),
            p99: statistics::p99(&known, better),
            spread: statistics::spread(&known),
            guest_ahead,
            target,
            // Who is not there, or fails, is no measure.
            met: target
                .zip(guest_ahead)
                .map(|(target, ahead)| ahead >= target),
            samples,
        }
    };
    lanes.iter().map(cell).collect()
}

/// How many times as good the guest is, by the rounds in which both have a sample.
fn ahead(better: Better, guest: &[Option<f64>], other: &[Option<f64>]) -> Option<f64> {
    let both = guest.iter().zip(other);
    let both = both.filter_map(|(guest, other)| (*guest).zip(*other));
    let (guest, other): (Vec<_>, Vec<_>) = both.unzip();
    match better {
        Better::Higher => statistics::pair_ratio(&other, &guest),
        Better::Lower => statistics::pair_ratio(&guest, &other),
    }
}

impl Standing {
    /// What falls short, a sentence each.
    pub fn short(&self) -> impl Iterator<Item = String> + '_ {
        let short = self.cells.iter().filter(|cell| cell.met == Some(false));
        short.map(move |cell| {
            let (ahead, target) = (cell.guest_ahead, cell.target);
            format!(
                "{self}: {:.3} times as good as {}, must be >= {}",
                ahead.unwrap_or(f64::NAN),
                cell.party,
                target.unwrap_or(f64::NAN)
            )
        })
    }

    /// Whether something of native or the guest could not be measured.
    pub fn is_incomplete(&self) -> bool {
        let ours = [Kind::Native.name(), Kind::Guest.name()];
        let mut failed = self.cells.iter().filter(|cell| !cell.failures.is_empty());
        failed.any(|cell| ours.contains(&cell.party))
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.workload, self.metric)
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::cases;
    use super::*;
    use crate::plan::Plan;
    use crate::rig::Sample;
    use arca_bench::Outcome;

    fn lane(kind: Kind, times: &[Option<u64>]) -> Lane {
        let sample = |ns: u64| Sample::new(Outcome::default().with("ns", ns), 1000, 0);
        let mut lane = Lane::new(kind);
        lane.samples = times.iter().map(|ns| ns.map(sample)).collect();
        lane
    }

    #[test]
    fn the_guest_is_held_against_each() {
        let case = cases(Workload::Crr, &Plan::new(true, None)).remove(0);
        let mut hangs = lane(Kind::Relay, &[None, None]);
        hangs.failures = vec!["no answer".into(); 2];
        let mut some = lane(Kind::Pasta, &[None, Some(30)]);
        some.failures = vec!["no answer".into()];
        let lanes = [
            lane(Kind::Native, &[Some(10), Some(10)]),
            lane(Kind::Guest, &[Some(40), Some(20)]),
            some,
            hangs,
        ];
        let standings = standings(Workload::Crr, &case, &lanes);
        let [rate, cpu] = &standings[..] else {
            panic!("{standings:?}");
        };
        let ahead = |cell: &Cell| cell.guest_ahead.map(|ahead| (ahead * 1e6).round() / 1e6);
        let ahead: Vec<_> = rate.cells.iter().map(ahead).collect();
        assert_eq!(ahead, [Some(0.375), None, Some(1.5), None]);
        let state = |cell: &Cell| (cell.state, cell.met);
        let states: Vec<_> = rate.cells.iter().map(state).collect();
        let (measured, failed) = (State::Measured, State::Failed);
        assert_eq!(states[..2], [(measured, None); 2]);
        assert_eq!(states[2..], [(measured, Some(false)), (failed, None)]);
        let short: Vec<_> = rate.short().collect();
        assert_eq!(short.len(), 1);
        assert!(
            short[0].contains("1.500 times as good as pasta"),
            "{short:?}"
        );
        assert!(!rate.is_incomplete());
        // A cost is no more than shown.
        assert_eq!(cpu.cells[0].guest_ahead, Some(1.0));
        assert_eq!(cpu.short().count(), 0);
    }

    #[test]
    fn what_is_missing_has_not_failed() {
        let case = cases(Workload::Rtt, &Plan::new(true, None)).remove(0);
        let mut guest = lane(Kind::Guest, &[None]);
        guest.failures = vec!["ended".into()];
        let lanes = [guest, Lane::missing(Kind::Pasta)];
        let standings = standings(Workload::Rtt, &case, &lanes);
        let states: Vec<_> = standings[0].cells.iter().map(|cell| cell.state).collect();
        assert_eq!(states, [State::Failed, State::Missing]);
        assert!(standings[0].is_incomplete());
    }
}
