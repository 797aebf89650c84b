//! A process of the benchmark, as this one sees it.

use crate::side::{self, COUNTERS, Role};
use anyhow::{Context, Result, anyhow, bail};
use arca_bench::{Outcome, Reply};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running process; killed when dropped, unless it has ended.
pub struct Program {
    role: Role,
    child: Child,
    commands: Option<ChildStdin>,
    replies: Receiver<String>,
    patience: Duration,
    clocks: Vec<ClockId>,
}

impl Program {
    /// Starts it. `options` are those of `run`; a side connects to `first`
    /// before anything else.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start(role: Role, options: &[String], first: Option<SocketAddr>) -> Result<Self> {
        let mut words = command_line(role, options)?;
        words.extend(first.map(|first| first.to_string().into()));
        let mut command = Command::new(words.remove(0));
        command.args(words);
        Self::spawn(role, command)
    }

    /// Starts a command that is to behave as `role`.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn spawn(role: Role, mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().with_context(|| format!("start {name}"))?;
        let commands = child.stdin.take();
        let output = child.stdout.take().context("its standard output")?;
        let (sender, replies) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let clock = clock(child.id())?;
        Ok(Self {
            role,
            child,
            commands,
            replies,
            patience: PATIENCE,
            clocks: vec![clock],
        })
    }

    /// With another limit to how long an answer may take.
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Counts the CPU time of the processes that it has started, too: a guest's, where
    /// the platform has one for it.
    ///
    /// # Errors
    ///
    /// If the system does not say which those are.
    pub fn count_children(&mut self) -> Result<()> {
        let folder = format!("/proc/{}/task", self.child.id());
        for entry in fs::read_dir(&folder).with_context(|| folder.clone())? {
            // Each of those that its thread has started.
            let path = entry.with_context(|| folder.clone())?.path();
            let path = path.join("children");
            let shown = || path.display().to_string();
            let text = fs::read_to_string(&path).with_context(shown)?;
            for id in text.split_whitespace() {
                self.clocks.push(clock(id.parse().with_context(shown)?)?);
            }
        }
        Ok(())
    }

    /// Sends a line.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn send(&mut self, line: impl Display) -> Result<()> {
        let role = self.role;
        let commands = self.commands.as_mut().context("no more commands")?;
        // In one piece: one wake of the reader.
        commands
            .write_all(format!("{line}\n").as_bytes())
            .with_context(|| format!("{role:?} takes no commands"))
    }

    /// Waits for its next line.
    ///
    /// # Errors
    ///
    /// If it has nothing to say, or says that a command failed.
    pub fn reply(&mut self) -> Result<Reply> {
        let role = self.role;
        let patience = self.patience;
        let line = self.replies.recv_timeout(patience);
        let line = line.map_err(|error| match error {
            RecvTimeoutError::Timeout => anyhow!("{role:?}: no answer within {patience:?}"),
            RecvTimeoutError::Disconnected => anyhow!("{role:?} ended"),
        })?;
        match line.parse() {
            Ok(Reply::Failed(text)) => bail!("{role:?}: {text}"),
            Ok(reply) => Ok(reply),
            Err(failure) => bail!("{role:?}: {failure}"),
        }
    }

    /// Waits until a command is done.
    ///
    /// # Errors
    ///
    /// As [`Program::reply`].
    pub fn done(&mut self) -> Result<Outcome> {
        match self.reply()? {
            Reply::Done(outcome) => Ok(outcome),
            other => bail!("{:?}: unexpected answer \"{other}\"", self.role),
        }
    }

    /// Sends a command and waits until it is done.
    ///
    /// # Errors
    ///
    /// As [`Program::reply`].
    pub fn ask(&mut self, command: impl Display) -> Result<Outcome> {
        self.send(&command)
            .and_then(|()| self.done())
            .with_context(|| format!("\"{command}\""))
    }

    /// Waits until a listener is there.
    ///
    /// # Errors
    ///
    /// As [`Program::reply`].
    pub fn listening(&mut self) -> Result<SocketAddr> {
        match self.reply()? {
            Reply::Listening(address) => Ok(address),
            other => bail!("{:?}: unexpected answer \"{other}\"", self.role),
        }
    }

    /// Waits until a side has begun.
    ///
    /// # Errors
    ///
    /// As [`Program::reply`].
    pub fn ready(&mut self) -> Result<Outcome> {
        match self.reply()? {
            Reply::Ready(outcome) => Ok(outcome),
            other => bail!("{:?}: unexpected answer \"{other}\"", self.role),
        }
    }

    /// The VM's counters; empty where there is no VM.
    ///
    /// # Errors
    ///
    /// As [`Program::reply`].
    pub fn counters(&mut self) -> Result<Outcome> {
        match self.role {
            Role::Guest => self.ask(COUNTERS),
            _ => Ok(Outcome::default()),
        }
    }

    /// CPU time of all its threads so far, those included that have ended, in
    /// nanoseconds.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn cpu_ns(&self) -> Result<u64> {
        used(&self.clocks)
    }

    /// CPU time so far of its threads whose name contains `name`, in nanoseconds, and of
    /// all of its children that are counted: those of a guest run its vCPUs.
    ///
    /// # Errors
    ///
    /// If it is gone, or has no such thread.
    pub fn thread_cpu_ns(&self, name: &str) -> Result<u64> {
        let folder = format!("/proc/{}/task", self.child.id());
        let (mut sum, mut found) = (0, false);
        for entry in fs::read_dir(&folder).with_context(|| folder.clone())? {
            let thread = entry.with_context(|| folder.clone())?.path();
            // One that ends meanwhile is none of those that are looked for.
            let Ok(comm) = fs::read_to_string(thread.join("comm")) else {
                continue;
            };
            if comm.contains(name) {
                let text = fs::read_to_string(thread.join("schedstat"));
                let text = text.context("the kernel counts no CPU time of threads")?;
                let time = text.split(' ').next().and_then(|time| time.parse().ok());
                sum += time.unwrap_or(0u64);
                found = true;
            }
        }
        sum += used(self.clocks.get(1..).unwrap_or_default())?;
        found
            .then_some(sum)
            .with_context(|| format!("no thread {name} in {folder}"))
    }

    /// Its resident memory, in bytes.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn resident(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.trim().strip_suffix("kB"));
        let kib: Option<u64> = number.and_then(|number| number.trim().parse().ok());
        Ok(kib.with_context(|| format!("VmRSS in {path}"))? << 10)
    }

    /// Ends it by ending its commands.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn finish(mut self) -> Result<()> {
        drop(self.commands.take());
        let status = self.child.wait().context("waiting")?;
        match status.success() {
            true => Ok(()),
            false => bail!("{:?} ended with {status}", self.role),
        }
    }
}

/// The words that start this program again, as one of the processes.
///
/// # Errors
///
/// If this program's file is gone.
pub fn command_line(role: Role, options: &[String]) -> Result<Vec<OsString>> {
    let program = std::env::current_exe().context("this program's file")?;
    let role = match role {
        Role::Native => "native",
        Role::Guest => "guest",
        Role::Service => "service",
        Role::Relay => "relay",
    };
    let mut words = vec![program.into_os_string(), side::COMMAND.into()];
    words.push("--log=warn".into());
    words.extend(options.iter().map(OsString::from));
    words.push(role.into());
    Ok(words)
}

/// What these clocks show together, in nanoseconds.
fn used(clocks: &[ClockId]) -> Result<u64> {
    let mut sum = 0;
    for clock in clocks {
        let time = clock.now().context("CPU time")?;
        sum += time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64;
    }
    Ok(sum)
}

/// The clock of a process's CPU time.
fn clock(id: u32) -> Result<ClockId> {
    clock_getcpuclockid(Pid::from_raw(id as i32)).context("the clock of its CPU time")
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail if it has ended, as it should.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
