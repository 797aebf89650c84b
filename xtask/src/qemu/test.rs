//! `test --qemu`: the tests that boot guests, in the machine.

use super::control::Start;
use super::initramfs::Files;
use super::interrupts::Interrupts;
use super::machine::{Machine, Outcome, Outlet, Plan};
use super::run::{find_kernel, inherited};
use super::{INIT, QemuOptions};
use crate::root::root;
use crate::test::{SLOWER, counted};
use crate::{built, cargo, guest, tool};
use anyhow::{Context, Result, bail};
use arca_vmm::Platform;
use arca_vmm::cli::PLATFORM;
use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The folders of the packages whose tests boot guests.
const FOLDERS: [&str; 2] = ["tests", "vmm"];
/// Those that are not for the machine, and why.
const LEFT_OUT: [(&str, &str); 6] = [
    (
        "checkout",
        "it builds, and there is no cargo in the machine",
    ),
    (
        "commands",
        "it builds, and there is no cargo in the machine",
    ),
    (
        "doctor",
        "it asks for the toolchain, which is not in the machine",
    ),
    (
        "documents",
        "it reads the whole checkout, which is not in the machine",
    ),
    ("outside", "it builds, and there is no cargo in the machine"),
    ("qemu", "there is no machine in the machine"),
];
/// Programs that tests run, where this system has them.
const TOOLS: [&str; 21] = [
    "ab",
    "bash",
    "cat",
    "chmod",
    "cp",
    "curl",
    "head",
    "mount",
    "nginx",
    "redis-benchmark",
    "redis-cli",
    "redis-server",
    "sed",
    "setpriv",
    "setsid",
    "sh",
    "sleep",
    "strace",
    "touch",
    "unshare",
    "wrk",
];
/// What tests read of the checkout.
const READ: [&str; 4] = [
    "Cargo.toml",
    "PROTOCOL.md",
    "guest/Cargo.toml",
    "tests/cases",
];
/// Files of a system that programs look into.
const SYSTEM: [(&str, &str); 6] = [
    ("/etc/passwd", "root:x:0:0::/:/bin/sh\n"),
    ("/etc/group", "root:x:0:\n"),
    ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    // A name in that file has all its addresses, as systems are set up.
    ("/etc/host.conf", "multi on\n"),
    ("/etc/resolv.conf", ""),
    ("/etc/nsswitch.conf", "hosts: files dns\n"),
];
/// The folder in the machine with what was built.
const BUILT: &str = "/built";
/// The machine's memory, in bytes: for ten thousand connections, and for several
/// guests at a time.
const MEMORY: u64 = 3 << 30;
/// How long the tests of one program may take here.
const LIMIT: Duration = Duration::from_secs(600);
/// Less of what is done many times, unless the user asks for another number.
const LESS: [(&str, &str); 6] = [
    ("ARCA_CROWD_KIBIBYTES", "64"),
    ("ARCA_CYCLES", "2000"),
    ("ARCA_HTTP_MEBIBYTES", "4"),
    ("ARCA_NC_MEBIBYTES", "4"),
    ("ARCA_REDIS_REQUESTS", "200"),
    ("ARCA_SOAK_SECONDS", "1"),
];

/// A program with tests.
struct Suite {
    name: String,
    path: PathBuf,
    /// The folder that cargo runs it in.
    folder: PathBuf,
}

/// What became of the tests.
#[derive(Default)]
struct Tally {
    run: u64,
    failed: Vec<String>,
    skipped: Vec<String>,
    /// How many of which suite, and why.
    left_out: Vec<(usize, (&'static str, &'static str))>,
}

/// Runs the tests whose names contain one of the filters; false if one failed.
///
/// # Errors
///
/// If there is no such machine, or something cannot be built.
pub fn run(options: &QemuOptions, platform: Platform, filter: &[String]) -> Result<bool> {
    // The machine is there for its KVM.
    let platform = match platform {
        Platform::Auto => Platform::Kvm,
        platform => platform,
    };
    let _interrupts = Interrupts::take()?;
    let kernel = find_kernel(options)?;
    let images = guest::package()?.build_all()?;
    let commands = commands()?;
    let mut tally = Tally::default();
    let mut suites = suites()?;
    suites.sort_by(|one, other| one.name.cmp(&other.name));
    suites.retain(|suite| {
        let tests = suite.count(filter);
        match LEFT_OUT.iter().find(|(name, _)| *name == suite.name) {
            Some(left_out) if tests > 0 => tally.left_out.push((tests, *left_out)),
            _ => {}
        }
        tests > 0 && LEFT_OUT.iter().all(|(name, _)| *name != suite.name)
    });
    if suites.is_empty() {
        bail!(
            "no test that boots a guest has {} in its name",
            filter.join(" or ")
        );
    }
    // Not this program's file: a build that had to be made has replaced it.
    let [(_, xtask), _] = &commands;
    let mut files = Files::default();
    files.program(xtask)?;
    kernel.add_modules(&mut files);
    for (path, text) in SYSTEM {
        files.bytes(Path::new(path), text, 0o644);
    }
    for name in READ {
        add_all(&mut files, &root()?.join(name))?;
    }
    for image in &images {
        files.file(&image.path, &Path::new(BUILT).join(&image.name))?;
    }
    for (name, path) in &commands {
        files.program(path)?;
        files.link(&Path::new(BUILT).join(name), path);
    }
    for path in TOOLS.iter().filter_map(|name| find_tool(name)) {
        files.program(&path)?;
    }
    for suite in &suites {
        // What a crash report finds in symbols is tested by the tests' own.
        match suite.reads_itself() {
            true => files.whole_program(&suite.path)?,
            false => files.program(&suite.path)?,
        }
        files.folder(&suite.folder);
    }
    let plan = Plan {
        kernel: &kernel,
        files: &files,
        init: (xtask, INIT),
        memory: MEMORY,
        processors: 2,
    };
    let said = Said::default();
    let boot = || {
        let stderr: Outlet = Box::new(|text| std::io::stderr().write_all(text));
        let machine = Machine::boot(&plan, [said.outlet(), stderr], std::io::empty())?;
        tool::say(format_args!(
            "qemu: booted in {:.1?}; programs take {:.1} times as long as here",
            machine.boot, machine.slower
        ));
        anyhow::Ok(machine)
    };
    let began = Instant::now();
    let mut machine = boot()?;
    for suite in &suites {
        if let Err(error) = suite.run(&mut machine, platform, filter, &said, &mut tally) {
            tally.add(&suite.name, &said.take());
            tally.failed.push(format!("{}: {error:#}", suite.name));
            // The next ones are not to suffer for it.
            machine = boot()?;
        }
    }
    tally.show(platform, began.elapsed());
    Ok(tally.failed.is_empty())
}

/// The commands of the workspace that tests run, built.
fn commands() -> Result<[(&'static str, PathBuf); 2]> {
    let build = |name: &'static str| {
        let mut command = cargo::cargo()?;
        command.args(["build", "--package", name, "--bin", name]);
        profile(&mut command);
        anyhow::Ok((name, arca_build::cargo::build_one(&mut command, name)?))
    };
    Ok([build("xtask")?, build("arca-vmm")?])
}

/// The programs with tests, built.
fn suites() -> Result<Vec<Suite>> {
    let mut command = cargo::cargo()?;
    // All of them, as `cargo xtask test` does: what one has built, the other finds.
    command.args(["test", "--no-run", "--workspace"]);
    profile(&mut command);
    let tests = arca_build::cargo::build_tests(&mut command)?;
    let folders = FOLDERS.map(|folder| root().map(|root| root.join(folder)));
    let boots = |folder: &Path| folders.iter().flatten().any(|known| known == folder);
    let tests = tests.into_iter().filter(|(_, folder)| boots(folder));
    let suites = tests.map(|(program, folder)| Suite {
        name: program.name,
        path: program.path,
        folder,
    });
    Ok(suites.collect())
}

/// As this program was built: optimised or not.
fn profile(command: &mut Command) {
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
}

/// A program on this system's path.
fn find_tool(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut files = env::split_paths(&path).map(|folder| folder.join(name));
    files.find(|file| file.is_absolute() && file.is_file())
}

/// Adds a file, or all in a folder, at the path that it has here.
fn add_all(files: &mut Files, path: &Path) -> Result<()> {
    if !path.is_dir() {
        return files.file(path, path);
    }
    for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
        add_all(files, &entry?.path())?;
    }
    Ok(())
}

/// What the tests' programs wrote to standard output, which is shown as it comes.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    fn outlet(&self) -> Outlet {
        let said = Arc::clone(&self.0);
        Box::new(move |text| {
            said.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(text);
            std::io::stdout().write_all(text)
        })
    }

    /// What was said since this was asked last.
    fn take(&self) -> String {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&said).into_owned();
        said.clear();
        text
    }
}

impl Suite {
    /// How many tests of it the filter leaves.
    fn count(&self, filter: &[String]) -> usize {
        let mut command = Command::new(&self.path);
        command.args(["--list", "--format", "terse"]).args(filter);
        let output = command.stdin(Stdio::null()).output();
        let list = output.map(|output| output.stdout).unwrap_or_default();
        let list = String::from_utf8_lossy(&list);
        list.lines().filter(|line| line.ends_with(": test")).count()
    }

    /// Whether it is the VMM's own tests.
    fn reads_itself(&self) -> bool {
        self.name == "arca_vmm"
    }

    /// Runs its tests in the machine.
    fn run(
        &self,
        machine: &mut Machine,
        platform: Platform,
        filter: &[String],
        said: &Said,
        tally: &mut Tally,
    ) -> Result<()> {
        tool::say(format_args!("qemu: {}", self.name));
        let mut args = vec![self.path.display().to_string()];
        args.extend(filter.iter().cloned());
        let mut env = inherited([
            (built::FOLDER, BUILT.to_owned()),
            (PLATFORM, platform.name().to_owned()),
            (SLOWER, machine.slower.to_string()),
            ("CARGO_MANIFEST_DIR", self.folder.display().to_string()),
        ]);
        for (name, value) in LESS {
            env.entry(name.into()).or_insert_with(|| value.into());
        }
        let folder = self.folder.clone();
        let limit = machine.scaled(LIMIT);
        let outcome = machine.run(Start { args, env, folder }, Some(limit))?;
        let (Outcome::Ended(ended) | Outcome::TimedOut(ended)) = &outcome;
        let before = tally.failed.len();
        tally.add(&self.name, &said.take());
        match &outcome {
            Outcome::TimedOut(_) => {
                let reason = format!("{}: its tests did not end in {limit:.0?}", self.name);
                tally.failed.push(reason);
            }
            Outcome::Ended(_) if ended.code != 0 && tally.failed.len() == before => {
                let reason = format!("{}: ended with exit code {}", self.name, ended.code);
                tally.failed.push(reason);
            }
            Outcome::Ended(_) => {}
        }
        tally.skipped.extend(ended.skipped.iter().cloned());
        Ok(())
    }
}

impl Tally {
    /// Counts what the test harness says of each test.
    fn add(&mut self, suite: &str, text: &str) {
        let lines = text.lines().filter_map(|line| line.strip_prefix("test "));
        for (name, result) in lines.filter_map(|line| line.rsplit_once(" ... ")) {
            self.run += 1;
            match result {
                "ok" => {}
                "ignored" => self.run -= 1,
                _ => self.failed.push(format!("{suite}: {name}")),
            }
        }
    }

    /// A line for each test that failed or was skipped, and one for all.
    fn show(&self, platform: Platform, took: Duration) {
        for name in &self.failed {
            tool::say(format_args!("failed: {name}"));
        }
        for reason in counted(self.skipped.iter().map(String::as_str)) {
            tool::say(format_args!("skipped: {reason}"));
        }
        for (tests, (suite, why)) in &self.left_out {
            tool::say(format_args!("skipped: {tests} of {suite}: {why}"));
        }
        let skipped = self.skipped.len() as u64;
        let left_out: usize = self.left_out.iter().map(|(tests, _)| tests).sum();
        tool::say(format_args!(
            "platform {platform} in QEMU: {} passed, {} failed, {} skipped, in {took:.0?}",
            self.run.saturating_sub(skipped + self.failed.len() as u64),
            self.failed.len(),
            skipped + left_out as u64,
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_harness_says_is_counted() {
        let mut tally = Tally::default();
        let text = "\nrunning 4 tests\ntest a::b ... ok\ntest c ... FAILED\ntest d ... ignored\n\
            test results of mine\ntest e - should panic ... ok\n\nfailures:\n    c\n";
        tally.add("suite", text);
        assert_eq!((tally.run, tally.failed), (3, vec!["suite: c".to_owned()]));
    }
}
