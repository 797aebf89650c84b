//! `doctor`: what this machine has of what the project can use.
//!
//! | module | looks at |
//! |---|---|
//! | `kvm` | /dev/kvm |
//! | `process` | whether a guest can be in a bare process, and what it is locked up with |
//! | `host` | QEMU, toolchain, limits, memory |

mod host;
mod kvm;
mod process;

use crate::tool::say;
use clap::Args;
use std::fmt;
use std::io::{self, Write};

/// What `doctor` takes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask doctor")]
pub struct Doctor {}

/// What was found of one thing.
struct Finding {
    what: &'static str,
    found: Found,
}

/// How it is.
#[derive(Debug)]
enum Found {
    /// As it should be.
    Good(String),
    /// It is not, and that mends it.
    Lacking(Lack),
}

/// What is wrong, and what mends it.
#[derive(Debug)]
struct Lack {
    why: String,
    mend: String,
}

impl From<Result<String, Lack>> for Found {
    fn from(result: Result<String, Lack>) -> Self {
        result.map_or_else(Self::Lacking, Self::Good)
    }
}

/// Makes a [`Lack`].
fn lack(why: impl Into<String>, mend: impl Into<String>) -> Lack {
    let (why, mend) = (why.into(), mend.into());
    Lack { why, mend }
}

impl Doctor {
    /// Prints a line for each thing, and for each that is not as it should be what
    /// mends it. The exit code is 0 if a guest can be built and booted here.
    ///
    /// # Errors
    ///
    /// If nothing can be printed.
    pub fn run(self) -> io::Result<u8> {
        let look = |what, found: Result<String, Lack>| Finding {
            what,
            found: found.into(),
        };
        let findings = [
            look("kvm", kvm::look()),
            look("process", process::look()),
            look("landlock", process::landlock()),
            look("namespaces", process::namespaces()),
            look("qemu", host::qemu()),
            look("toolchain", host::toolchain()),
            look("limits", host::limits()),
            look("memory", host::memory()),
        ];
        let mut out = io::stdout().lock();
        for finding in &findings {
            writeln!(out, "{finding}")?;
        }
        let good = |names: &[&str]| {
            let mut those = findings.iter().filter(|one| names.contains(&one.what));
            those.all(|one| matches!(one.found, Found::Good(_)))
        };
        let boots = good(&["kvm"]) || good(&["process"]) || good(&["qemu"]);
        let works = boots && good(&["toolchain", "memory"]);
        if !works {
            say("a guest cannot be built and booted here before that is mended");
        }
        Ok(u8::from(!works))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found {
            Found::Good(text) => write!(f, "ok       {:<11} {text}", self.what),
            Found::Lacking(Lack { why, mend }) => {
                write!(f, "lacking  {:<11} {why}; {mend}", self.what)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line() {
        let finding = |found: Result<String, Lack>| Finding {
            what: "kvm",
            found: found.into(),
        };
        let good = finding(Ok("is there".into())).to_string();
        assert_eq!(good, "ok       kvm         is there");
        let lacking = finding(Err(lack("is missing", "mend it: `x`"))).to_string();
        assert_eq!(lacking, "lacking  kvm         is missing; mend it: `x`");
    }
}
