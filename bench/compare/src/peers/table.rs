//! Results on the terminal.

use super::pasta::PACKAGE;
use super::standing::{Cell, Standing, State};
use crate::plan::Workload;
use crate::table::number;
use anyhow::Result;

/// Prints a workload's results, and why what failed did.
///
/// # Errors
///
/// If nobody takes them.
pub fn print(workload: Workload, standings: &[Standing]) -> Result<()> {
    lines(workload, standings).iter().try_for_each(crate::show)
}

fn lines(workload: Workload, standings: &[Standing]) -> Vec<String> {
    let mut lines = vec![String::new()];
    let Some(first) = standings.first() else {
        return lines;
    };
    let mut heading = format!("{:<28} {:>8}", workload.name(), "unit");
    for cell in &first.cells {
        heading += &format!(" {:>9}", cell.party);
    }
    // How many times as good the guest is.
    for cell in against(first) {
        heading += &format!(" {:>10}", format!("x {}", cell.party));
    }
    lines.push(heading + "  target");
    let mut failures: Vec<String> = Vec::new();
    for standing in standings {
        let mut line = format!("  {:<26} {:>8}", standing.metric, standing.unit);
        for cell in &standing.cells {
            line += &format!(" {:>9}", value(cell));
        }
        for cell in against(standing) {
            let ahead = cell.guest_ahead;
            let ahead = ahead.map_or_else(|| "-".into(), |ahead| format!("{ahead:.3}"));
            line += &format!(" {ahead:>10}");
        }
        let verdicts = standing.cells.iter().filter_map(verdict);
        line += &format!("  {}", verdicts.collect::<Vec<_>>().join(", "));
        lines.push(line.trim_end().into());
        for cell in &standing.cells {
            for reason in &cell.failures {
                let rounds = cell.samples.len();
                let failed = cell
                    .samples
                    .iter()
                    .filter(|sample| sample.is_none())
                    .count();
                let (case, _) = standing.metric.rsplit_once(": ").unwrap_or_default();
                let separator = if case.is_empty() { "" } else { ", " };
                let failure = format!(
                    "  * {}{separator}{case}: failed in {failed} of {rounds} rounds: {reason}",
                    cell.party
                );
                // All metrics of a case have the same.
                if !failures.contains(&failure) {
                    failures.push(failure);
                }
            }
        }
    }
    lines.extend(failures);
    if first.cells.iter().any(|cell| cell.state == State::Missing) {
        lines.push(format!(
            "  * pasta is not installed and was left out (Debian's package {PACKAGE})"
        ));
    }
    lines
}

/// Those that the guest is held against.
fn against(standing: &Standing) -> impl Iterator<Item = &Cell> {
    standing.cells.iter().filter(|cell| cell.party != "guest")
}

/// A median; marked where a sample is missing from it.
fn value(cell: &Cell) -> String {
    match cell.state {
        State::Missing => "missing".into(),
        State::Failed => "failed".into(),
        State::Measured if cell.failures.is_empty() => number(cell.median),
        State::Measured => format!("{}*", number(cell.median)),
    }
}

fn verdict(cell: &Cell) -> Option<String> {
    let (target, met) = (cell.target?, cell.met?);
    let met = if met { "yes" } else { "NO" };
    Some(format!("{} >= {target}: {met}", cell.party))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(party: &'static str, samples: &[Option<f64>]) -> Cell {
        let median = samples.iter().flatten().next().copied();
        Cell {
            party,
            state: match median {
                Some(_) => State::Measured,
                None => State::Failed,
            },
            failures: vec![],
            median,
            p99: median,
            spread: None,
            guest_ahead: None,
            target: None,
            met: None,
            samples: samples.to_vec(),
        }
    }

    #[test]
    fn what_failed_says_so_and_why() {
        let guest = cell("guest", &[Some(2.0); 2]);
        let mut relay = cell("relay", &[Some(1.0); 2]);
        relay.guest_ahead = Some(2.0);
        (relay.target, relay.met) = (Some(1.0), Some(true));
        let mut pasta = cell("pasta", &[Some(1.0), None]);
        pasta.failures = vec!["round 2: no answer".into()];
        let mut native = cell("native", &[None, None]);
        native.failures = vec!["gone".into()];
        let mut missing = cell("other", &[None, None]);
        missing.state = State::Missing;
        let standing = |metric: &str| Standing {
            workload: "fan",
            metric: metric.into(),
            unit: "GiB/s",
            cells: vec![
                native.clone(),
                guest.clone(),
                pasta.clone(),
                relay.clone(),
                missing.clone(),
            ],
        };
        let both = [standing("16 up: throughput"), standing("16 up: CPU")];
        let lines = lines(Workload::Fan, &both);
        let words: Vec<_> = lines[2].split_whitespace().skip(3).collect();
        let expected = "GiB/s failed 2.000 1.000* 1.000 missing - - 2.000 - relay >= 1: yes";
        assert_eq!(words.join(" "), expected);
        assert_eq!(
            lines[4..],
            [
                "  * native, 16 up: failed in 2 of 2 rounds: gone",
                "  * pasta, 16 up: failed in 1 of 2 rounds: round 2: no answer",
                "  * pasta is not installed and was left out (Debian's package passt)",
            ]
        );
    }
}
