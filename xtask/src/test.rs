//! `test`: proves it end to end.

use crate::qemu::{self, QemuOptions};
use crate::{cargo, guest, tool};
use anyhow::{Result, bail};
use arca_build::cargo::shield;
use arca_vmm::Platform;
use arca_vmm::cli::PLATFORM;
use clap::Args;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::{env, iter};

/// What `test` takes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask test                             everything, on every platform
  cargo xtask test --platform process          everything, with guests in processes
  cargo xtask test reset orphan                what has one of these in its name
  cargo xtask test --qemu                      what boots guests, in an emulated machine")]
pub struct Test {
    /// Boot guests on this platform only: kvm or process; auto is all that there are
    #[arg(long, value_name = "NAME", default_value_t)]
    platform: Platform,
    /// Run only tests whose name contains one of these
    filter: Vec<String>,
    #[command(flatten)]
    qemu: QemuOptions,
}

/// The packages whose tests boot guests.
const BOOTING: [&str; 2] = ["arca-tests", "arca-vmm"];

impl Test {
    /// Builds the guest programs and runs every test: those of each crate, those
    /// that boot a guest on each platform that there is, the documentation's examples,
    /// and the models; or, in a machine, those that boot a guest. The exit code is 0
    /// if all passed.
    ///
    /// # Errors
    ///
    /// If there is no such machine.
    pub fn run(self) -> Result<u8> {
        let passed = match self.qemu.qemu {
            true => qemu::test::run(&self.qemu, self.platform, &self.filter)?,
            false => match self.run_here() {
                Ok(()) => true,
                Err(error) => {
                    tool::say(format_args!("error: {error:#}"));
                    false
                }
            },
        };
        Ok(u8::from(!passed))
    }

    fn run_here(&self) -> Result<()> {
        guest::package()?.build_all()?;
        let mut lines = Vec::new();
        let mut platforms = Vec::new();
        for platform in [Platform::Kvm, Platform::Process] {
            if self.platform != Platform::Auto && self.platform != platform {
                continue;
            }
            match platform.check() {
                Ok(()) => platforms.push(platform),
                Err(error) => {
                    let error = anyhow::Error::from(error);
                    lines.push(format!("platform {platform}: not run: {error:#}"));
                }
            }
        }
        let result = self.run_on(&platforms, &mut lines);
        for line in lines {
            tool::say(line);
        }
        result
    }

    fn run_on(&self, platforms: &[Platform], lines: &mut Vec<String>) -> Result<()> {
        let Some((first, others)) = platforms.split_first() else {
            bail!("no platform can be used here");
        };
        lines.push(self.tests(*first, &["--workspace"])?);
        for platform in others {
            let packages = BOOTING.map(|package| ["--package", package]);
            lines.push(self.tests(*platform, packages.as_flattened())?);
        }
        if self.filter.is_empty() {
            let mut models = cargo::cargo()?;
            models
                .args(["test", "--release", "--package", "arca-shared"])
                .args(["--test", "loom", "--", "--quiet"]);
            shield(&mut models, "--cfg loom", iter::empty());
            let passed = passed(&tool::check_and_keep(&mut models)?);
            lines.push(format!("models: {passed} passed"));
        }
        Ok(())
    }

    /// Runs tests with guests on that platform. Gives a line about it.
    fn tests(&self, platform: Platform, packages: &[&str]) -> Result<String> {
        let skips = cargo::target_dir()?.join("skipped");
        // Left from an earlier run, or not there at all.
        let _ = fs::remove_file(&skips);
        let mut tests = cargo::cargo()?;
        tests.args(["test", "--release"]).args(packages);
        // libtest runs what any of the filters names.
        tests.args(["--", "--quiet"]).args(&self.filter);
        tests.env(SKIPS, &skips).env(PLATFORM, platform.name());
        let output = tool::check_and_keep(&mut tests);
        let reasons = fs::read_to_string(&skips).unwrap_or_default();
        let skipped = reasons.lines().count();
        let reasons = counted(reasons.lines());
        for reason in &reasons {
            tool::say(format_args!("skipped: {reason}"));
        }
        let passed = passed(&output?).saturating_sub(skipped);
        Ok(format!(
            "platform {platform}: {passed} passed, {skipped} skipped{}{}",
            if reasons.is_empty() { "" } else { ": " },
            reasons.join("; ")
        ))
    }
}

/// Each reason once, in order, and how often it was given if that is more.
pub(crate) fn counted<'a>(reasons: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut counts = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_insert(0) += 1;
    }
    let say = |(reason, count)| match count {
        1 => String::from(reason),
        count => format!("{reason} ({count} times)"),
    };
    counts.into_iter().map(say).collect()
}

/// How many tests passed, by libtest's own account; those that were skipped did.
fn passed(output: &str) -> usize {
    output
        .lines()
        .filter_map(|line| line.strip_prefix("test result: ok. "))
        .filter_map(|rest| rest.split(' ').next()?.parse::<usize>().ok())
        .sum()
}

/// The variable that names the file in which tests say what they skipped, a line
/// each.
pub(crate) const SKIPS: &str = "ARCA_TESTS_SKIPPED";

/// The variable that says how many times slower this machine is than others, by
/// which tests scale their deadlines.
pub const SLOWER: &str = "ARCA_TESTS_SLOWER";

/// Says that a test could not be done here, and why, to the `cargo xtask test`
/// that runs it, if one does.
pub fn record_skip(reason: &str) {
    let Some(skips) = env::var_os(SKIPS) else {
        return;
    };
    let file = File::options().create(true).append(true).open(skips);
    // Where the note cannot be kept, the test's own output still has it.
    if let Ok(mut file) = file {
        // One piece: tests that run at the same time do not mix their lines.
        let line = reason.replace('\n', " ") + "\n";
        let _ = file.write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_given_once() {
        let reasons = ["no b", "no a", "no b"];
        assert_eq!(counted(reasons.into_iter()), ["no a", "no b (2 times)"]);
    }

    #[test]
    fn results_are_counted() {
        let output = "running 2 tests\n..\ntest result: ok. 2 passed; 0 failed; 0 ignored\n\n\
            test result: FAILED. 7 passed; 1 failed\ntest result: ok. 40 passed; 0 failed\n";
        assert_eq!(passed(output), 42);
        assert_eq!(passed("test result: ok. many"), 0);
    }
}
