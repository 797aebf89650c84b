//! Many runs of both kinds, compared.

use super::actor::{Actor, GuestActor, NativeActor};
use super::case::{Case, parse};
use super::run::{run, who};
use std::collections::BTreeSet;

/// Native runs of each case.
const NATIVE_RUNS: usize = 50;
/// Runs of each case in each guest.
const GUEST_RUNS: usize = 3;

/// What was seen in a run, each step of it.
type Seen = Vec<String>;

/// Runs all cases of a file natively and in guests, on one vCPU and on two, with
/// blocking calls and as tasks.
///
/// # Panics
///
/// If what a guest sees is nothing that was seen natively, and not a difference
/// that the case expects.
pub fn check(file: &str) {
    let cases = parse(file);
    let mut host = NativeActor::default();
    let mut native = NativeActor::default();
    let kinds = [(1, false), (1, true), (2, false), (2, true)];
    let mut guests = kinds.map(|(vcpus, tasks)| GuestActor::start(vcpus, tasks));
    let mut complaints = Vec::new();
    for case in &cases {
        let natively = runs(case, &mut host, &mut native, NATIVE_RUNS);
        for ((vcpus, tasks), guest) in kinds.iter().zip(&mut guests) {
            let in_guest = runs(case, &mut host, guest, GUEST_RUNS);
            if let Some(complaint) = compare(case, &natively, &in_guest) {
                let calls = if *tasks { "as tasks" } else { "blocking" };
                complaints.push(format!("{complaint}    on {vcpus} vCPUs, {calls}\n"));
                break;
            }
        }
    }
    let count = cases.len();
    assert!(
        complaints.is_empty(),
        "{} of {count} cases differ:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
    println!("{file}: {count} cases");
}

fn runs(case: &Case, host: &mut dyn Actor, arca: &mut dyn Actor, count: usize) -> BTreeSet<Seen> {
    (0..count).map(|_| run(case, host, arca)).collect()
}

/// Says what differs that should not.
fn compare(case: &Case, natively: &BTreeSet<Seen>, in_guest: &BTreeSet<Seen>) -> Option<String> {
    let mut wrong = String::new();
    // Differences that are expected must be there, and are then left out.
    for (index, step) in case.steps.iter().enumerate() {
        let Some(difference) = &step.difference else {
            continue;
        };
        let sides = [
            ("natively", natively, &difference.native),
            ("in the guest", in_guest, &difference.arca),
        ];
        for (side, seen, wanted) in sides {
            for seen in seen {
                if !wanted.contains(&seen[index]) {
                    let got = &seen[index];
                    wrong += &format!("    {}: {got} {side}, not {wanted:?}\n", step.line);
                }
            }
        }
    }
    let strip = |seen: &BTreeSet<Seen>| -> BTreeSet<Seen> {
        let rest = seen.iter().map(|seen| {
            let steps = case.steps.iter().zip(seen);
            let rest = steps.filter(|(step, _)| step.difference.is_none());
            rest.map(|(_, seen)| seen.clone()).collect()
        });
        rest.collect()
    };
    let known = strip(natively);
    let unknown = strip(in_guest).difference(&known).next().cloned();
    if let Some(unknown) = unknown {
        let steps = case.steps.iter().filter(|step| step.difference.is_none());
        for (index, step) in steps.enumerate() {
            let natively: BTreeSet<&str> = known.iter().map(|seen| &*seen[index]).collect();
            let got = &unknown[index];
            let mark = if natively.contains(&**got) { ' ' } else { '!' };
            let line = format!("{} {}: {got}", who(step), step.line);
            wrong += &format!("  {mark} {line}");
            if natively.len() > 1 || mark == '!' {
                wrong += &format!("   (natively {natively:?})");
            }
            wrong += "\n";
        }
    }
    (!wrong.is_empty()).then(|| format!("case {}\n{wrong}", case.title))
}
