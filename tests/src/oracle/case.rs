//! A script, and the differences that are expected.
//!
//! A file holds cases. A line is one of
//!
//! ```text
//! case TITLE
//! pair
//! host OPERATION...
//! arca OPERATION...
//! differs NATIVE => ARCA because ROW
//! ```
//!
//! or empty, or a comment that begins with `#`. After `pair`, there is a connection
//! with the ends `s` (arca's) and `p`; such a case is made twice, once with a
//! connection that arca makes and once with one that it accepts. `$NAME` in an operation stands
//! for the local address of what has that name, `$NAME.port` for its port. A
//! difference is one of the step above it: both outcomes must be those that it
//! names, where `or` separates several, and ROW must begin a row of PROTOCOL.md's
//! table of differences.

use std::fs;

/// A script.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it shows.
    pub title: String,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

/// A step of a script.
#[derive(Clone, Debug)]
pub struct Step {
    /// Whether the side that is compared does it; else its peer does.
    pub is_arca: bool,
    /// What is done.
    pub line: String,
    /// The difference that is expected.
    pub difference: Option<Difference>,
}

/// A difference that has to remain.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Outcomes that are right natively.
    pub native: Vec<String>,
    /// Outcomes that are right in the guest.
    pub arca: Vec<String>,
    /// The first words of a row in PROTOCOL.md.
    pub row: String,
}

/// What `pair` stands for, if arca makes the connection, and if it accepts it.
const PAIRS: [(&str, &[&str]); 2] = [
    (
        "outbound",
        &[
            "host bind h 127.0.0.1:0",
            "arca connect s $h",
            "host accept p h",
        ],
    ),
    (
        "inbound",
        &[
            "arca bind l 127.0.0.1:0",
            "host connect p $l",
            "arca accept s l",
        ],
    ),
];

/// A step without a difference.
fn step(line: &str) -> Option<Step> {
    let (who, rest) = line.split_once(' ')?;
    Some(Step {
        is_arca: match who {
            "arca" => true,
            "host" => false,
            _ => return None,
        },
        line: rest.into(),
        difference: None,
    })
}

/// The cases that a case stands for.
fn expand(case: Case) -> Vec<Case> {
    if case.steps.first().is_none_or(|step| step.line != PAIR) {
        return vec![case];
    }
    let variants = PAIRS.iter().map(|(kind, lines)| {
        let mut steps: Vec<Step> = lines.iter().filter_map(|line| step(line)).collect();
        steps.extend_from_slice(&case.steps[1..]);
        let title = format!("{} ({kind})", case.title);
        Case { title, steps }
    });
    variants.collect()
}

/// The line that stands for a connection.
const PAIR: &str = "pair";

/// The cases of a file in the folder `cases`.
///
/// # Panics
///
/// If the file cannot be read, or a line is none of those above, or a row is not
/// in PROTOCOL.md.
#[must_use]
pub fn parse(file: &str) -> Vec<Case> {
    let root = xtask::root::root().expect("a checkout");
    let path = root.join("tests/cases").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
    let rows = rows(&fs::read_to_string(root.join("PROTOCOL.md")).expect("PROTOCOL.md"));
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let bad = || -> ! { panic!("{file}:{}: {line}", number + 1) };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        if first == "case" {
            let title = rest.into();
            let steps = Vec::new();
            cases.push(Case { title, steps });
            continue;
        }
        let case = cases.last_mut().unwrap_or_else(|| bad());
        if first == "differs" {
            let step = case.steps.last_mut().unwrap_or_else(|| bad());
            let difference = difference(rest).unwrap_or_else(|| bad());
            let known = rows.iter().any(|row| row.starts_with(&difference.row));
            assert!(known, "{file}:{}: PROTOCOL.md does not say it", number + 1);
            step.difference = Some(difference);
            continue;
        }
        case.steps.push(match line {
            PAIR if case.steps.is_empty() => Step {
                is_arca: true,
                line: PAIR.into(),
                difference: None,
            },
            line => step(line).unwrap_or_else(|| bad()),
        });
    }
    cases.into_iter().flat_map(expand).collect()
}

fn difference(text: &str) -> Option<Difference> {
    let (native, rest) = text.split_once(" => ")?;
    let (arca, row) = rest.split_once(" because ")?;
    let outcomes = |text: &str| text.split(" or ").map(Into::into).collect();
    Some(Difference {
        native: outcomes(native),
        arca: outcomes(arca),
        row: row.into(),
    })
}

/// The first column of the table of differences.
fn rows(protocol: &str) -> Vec<String> {
    let section = protocol.split("## 15. Differences").nth(1);
    let section = section.expect("PROTOCOL.md lists the differences");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
    rows.filter_map(|row| row.split(" | ").next())
        .map(Into::into)
        .collect()
}
