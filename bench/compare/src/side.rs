//! The processes that are measured: this program again, as one of the sides or
//! as the service.
//!
//! Each reads commands from standard input and answers on standard output.

use crate::relay;
use anyhow::{Context, Result};
use arca_bench::native::Native;
use arca_bench::{Net, Outcome, Reply, service, session};
use arca_vmm::cli::{self, RunOptions};
use arca_vmm::{Image, Input, VmHandle, VmStats};
use clap::{Parser, ValueEnum};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use std::io::{self, BufRead, PipeWriter, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;

/// The line that asks the process of a guest for the VM's counters.
pub const COUNTERS: &str = "counters";

/// The argument that makes this program one of those processes.
pub const COMMAND: &str = "side";

/// What such a process is started with.
#[derive(Parser)]
#[command(name = COMMAND)]
pub struct Side {
    #[command(flatten)]
    options: RunOptions,
    /// The guest's image
    #[arg(long)]
    image: Option<PathBuf>,
    /// Which process this is
    role: Role,
    /// Where to connect before anything else
    first: Option<SocketAddr>,
}

/// Which process it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// The native program.
    Native,
    /// The guest.
    Guest,
    /// The service.
    Service,
    /// A relay between a native program and the service.
    Relay,
}

impl Side {
    /// Does it; the exit code is the process's.
    ///
    /// # Errors
    ///
    /// If it cannot begin.
    pub fn run(self) -> Result<u8> {
        // Whoever started it is its only purpose, be it this program or pasta.
        set_pdeathsig(Signal::SIGKILL).context("signal at the parent's end")?;
        match self.role {
            Role::Native => {
                let began = Native.unix_now();
                let mut lines = io::stdin().lines().map_while(Result::ok);
                session::serve(&Native, began, self.first, || lines.next(), say)
                    .map_err(|failure| anyhow::anyhow!("{failure}"))?;
                Ok(0)
            }
            Role::Service => {
                service::serve(io::stdin().lines().map_while(Result::ok), say);
                Ok(0)
            }
            Role::Relay => {
                relay::serve(io::stdin().lines().map_while(Result::ok), say);
                Ok(0)
            }
            Role::Guest => self.guest(),
        }
    }

    fn guest(self) -> Result<u8> {
        self.options.init_logger();
        let image = Image::Path(self.image.context("a guest needs an image")?);
        let args = self.first.iter().map(ToString::to_string).collect();
        let (input, commands) = io::pipe().context("a pipe for the guest's standard input")?;
        let mut config = self.options.config(image, "bench", args);
        config.stdin = Input::Reader(Box::new(input));
        let started = |handle: &VmHandle| {
            let handle = handle.clone();
            thread::spawn(move || forward(&handle, commands));
        };
        let status = cli::run_config(config, started)?;
        if !status.success() {
            crate::say(format_args!("bench guest: {status}"));
        }
        Ok(status.code())
    }
}

/// Passes the guest's commands on and answers what the VMM knows. The guest's
/// standard input ends when this process's does.
fn forward(handle: &VmHandle, mut commands: PipeWriter) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        if line == COUNTERS {
            say(&Reply::Done(counters(&handle.stats())).to_string());
        } else if writeln!(commands, "{line}").is_err() {
            // The guest is gone; how it ended is said elsewhere.
            return;
        }
    }
}

/// One line, at once.
fn say(line: &str) {
    // Nobody listens any more: the commands end, too.
    let _ = io::stdout()
        .lock()
        .write_all(format!("{line}\n").as_bytes());
}

/// The counters that `bench` reports.
fn counters(stats: &VmStats) -> Outcome {
    let monitor = &stats.monitor;
    Outcome::default()
        .with("doorbells", monitor.guest_doorbells)
        .with("doorbells_saved", monitor.guest_suppressed)
        .with("parks", stats.parks)
        .with("sleeps", stats.sleeps)
        .with("wakes", stats.wakes)
        .with("wakes_saved", monitor.wakes_suppressed)
        .with("vcpu_exits", stats.vcpu_exits)
        .with("epoll_turns", monitor.epoll_turns)
        .with("ring_full", monitor.ring_full)
        .with("ring_empty", monitor.ring_empty)
        .with("bytes_to_tcp", monitor.bytes_to_tcp)
        .with("bytes_from_tcp", monitor.bytes_from_tcp)
}
