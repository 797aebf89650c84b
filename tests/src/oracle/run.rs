//! One run of a script, and what was seen.

use super::actor::Actor;
use super::case::{Case, Step};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Runs a case once; what each step gave, with addresses replaced by whose they
/// are.
///
/// # Panics
///
/// If a step does not end, or something is left at the end: shows the steps done.
pub fn run(case: &Case, host: &mut dyn Actor, arca: &mut dyn Actor) -> Vec<String> {
    let mut names = Names::default();
    let mut seen: Vec<String> = Vec::new();
    for step in &case.steps {
        let line = names.resolve(&step.line);
        let answer = match step.is_arca {
            true => arca.ask(&line),
            false => host.ask(&line),
        };
        match answer {
            Ok(answer) => {
                names.note(&line, &answer);
                seen.push(names.hide(&answer));
            }
            Err(error) => panic!("{}\n{line}: {error}", show(case, &seen)),
        }
    }
    for cleared in [arca.ask("clear"), host.ask("clear")] {
        let steps = || show(case, &seen);
        assert_eq!(cleared.as_deref(), Ok("ok"), "{}", steps());
    }
    arca.settle();
    seen
}

/// The steps that were done, each with what was seen.
#[must_use]
pub fn show(case: &Case, seen: &[String]) -> String {
    let mut text = format!("case {}", case.title);
    for (step, seen) in case.steps.iter().zip(seen) {
        text += &format!("\n    {} {}: {seen}", who(step), step.line);
    }
    text
}

/// Who does a step.
#[must_use]
pub fn who(step: &Step) -> &'static str {
    if step.is_arca { "arca" } else { "host" }
}

/// Whose address is which.
#[derive(Default)]
struct Names {
    addresses: BTreeMap<String, SocketAddr>,
}

impl Names {
    /// A line with addresses in place of names.
    fn resolve(&self, line: &str) -> String {
        let words = line.split(' ').map(|word| {
            let Some((before, name)) = word.split_once('$') else {
                return word.into();
            };
            let (name, port) = match name.strip_suffix(".port") {
                Some(name) => (name, true),
                None => (name, false),
            };
            let address = self.addresses.get(name);
            let address = address.unwrap_or_else(|| panic!("{line}: what is ${name}?"));
            match port {
                true => format!("{before}{}", address.port()),
                false => address.to_string(),
            }
        });
        words.collect::<Vec<String>>().join(" ")
    }

    /// Takes note of the address of what an operation made.
    fn note(&mut self, line: &str, answer: &str) {
        let mut words = line.split(' ');
        let mut verb = words.next();
        let mut name = words.next();
        if verb == Some("start") {
            verb = words.next();
            name = words.next();
        }
        let local = answer.strip_prefix("ok ");
        let local = local.and_then(|rest| rest.split(' ').next()?.parse().ok());
        if let (Some(local), Some(name), Some(verb)) = (local, name, verb)
            && verb != "local"
            && verb != "peer"
            && !self.addresses.values().any(|&known| is(known, local))
        {
            self.addresses.insert(name.into(), local);
        }
    }

    /// An answer with names in place of addresses.
    fn hide(&self, answer: &str) -> String {
        let words = answer.split(' ').map(|word| {
            let Ok(address) = word.parse() else {
                return word.into();
            };
            match self
                .addresses
                .iter()
                .find(|(_, known)| is(**known, address))
            {
                Some((name, _)) => format!("<{name}>"),
                None => word.into(),
            }
        });
        words.collect::<Vec<String>>().join(" ")
    }
}

/// Whether an address is the known one, or one of those that the known one stands
/// for.
fn is(known: SocketAddr, address: SocketAddr) -> bool {
    known == address || known.ip().is_unspecified() && known.port() == address.port()
}
