//! The command line: options of a run, for this crate's command and for
//! others that run guests.

mod access;
mod command;
mod logging;
mod parse;

use crate::cli::access::AccessOptions;
use crate::error::{StartError, in_one_line};
use crate::host::descriptor::StandardError;
use crate::host::signals::Signals;
use crate::host::trace::{Trace, TraceFilter};
use crate::platform::Platform;
use crate::vm::config::{Image, Input, Output, VmConfig};
use crate::vm::status::{CODE_NOT_STARTED, ExitStatus};
use crate::vm::{Vm, VmHandle};
use arca_monitor::MonitorConfig;
use arca_shared::protocol::layout::{ARENA_SIZE_DEFAULT, LOW_MEMORY_DEFAULT};
use clap::Args;
use log::LevelFilter;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

pub use crate::cli::command::Command;
pub use crate::cli::parse::parse;

/// The variable that names the platform where no option does.
pub const PLATFORM: &str = "ARCA_PLATFORM";

/// Options of a run.
#[derive(Args, Clone, Debug)]
pub struct RunOptions {
    /// What carries the guest: kvm, a virtual machine; process, a process that has
    /// given up nearly all system calls; or auto, KVM where it can be used
    #[arg(long, value_name = "NAME", env = PLATFORM, default_value_t)]
    pub platform: Platform,
    /// Low memory of the guest: image, stacks and heap
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value_t = Size(LOW_MEMORY_DEFAULT))]
    pub memory: Size,
    /// Shared memory for sockets and standard streams
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value_t = Size(ARENA_SIZE_DEFAULT))]
    pub arena: Size,
    /// Number of vCPUs
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub vcpus: usize,
    /// Stop the guest after this time (5, 5s, 500ms, 2m), print what it waits for and
    /// exit with 124
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// What the guest and the monitor log to standard error: off, error, warn,
    /// info, debug or trace; RUST_LOG says it by target, as in
    /// RUST_LOG=warn,echo_server=debug
    #[arg(long, value_name = "LEVEL", value_parser = parse_level, default_value_t = LevelFilter::Info)]
    pub log: LevelFilter,
    /// Give a peer up that takes nothing for this time of what was written to it
    /// before its connection was closed, or the program ended; by default when
    /// Linux does
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "341s")]
    pub orphan_timeout: Duration,
    /// What the guest may reach and have.
    #[command(flatten)]
    pub access: AccessOptions,
    /// Let the threads that serve the guest keep the rights of this process: no
    /// seccomp, no landlock
    #[arg(long)]
    pub no_sandbox: bool,
    /// Print what was counted to standard error when the guest has ended
    #[arg(long)]
    pub stats: bool,
    /// Print to standard error, this often, what is open and what every vCPU and task
    /// waits for; SIGUSR1 prints it once
    #[arg(long, value_name = "TIME", value_parser = parse_interval)]
    pub stats_every: Option<Duration>,
    /// Print every frame of the control pipe, decoded, and what happens on every
    /// connection to standard error: all of it, or a list of control, connections,
    /// data and ports
    #[arg(long, value_name = "FILTER", num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    pub trace: Option<TraceFilter>,
    /// Write every connection's bytes, with made-up TCP headers, and the frames of the
    /// control pipe to this file, for Wireshark
    #[arg(long, value_name = "FILE")]
    pub trace_file: Option<PathBuf>,
    /// Wait for gdb on this port of 127.0.0.1 before the first instruction, and serve it
    /// from then on; 0 takes a free one
    #[arg(long, value_name = "PORT")]
    pub gdb: Option<u16>,
}

impl RunOptions {
    /// A guest as these options want it, with this process's standard input and
    /// output.
    #[must_use]
    pub fn config(&self, image: Image, program: &str, args: Vec<String>) -> VmConfig {
        VmConfig {
            args,
            platform: self.platform,
            low_memory: self.memory.0,
            arena_size: self.arena.0,
            vcpus: self.vcpus,
            log_level: logging::guest_level(self.log),
            stdin: Input::Inherit,
            stdout: Output::Inherit,
            timeout: self.timeout,
            dump_every: self.stats_every,
            gdb: self.gdb,
            monitor: MonitorConfig {
                orphan_timeout: self.orphan_timeout,
                ..self.access.config()
            },
            sandbox: !self.no_sandbox,
            ..VmConfig::new(image, program)
        }
    }

    /// What these options want written down of the session.
    ///
    /// # Errors
    ///
    /// [`StartError::TraceFile`].
    pub fn trace(&self) -> Result<Trace, StartError> {
        let text = self.trace.clone();
        let file = match &self.trace_file {
            None => None,
            Some(path) => {
                let failed = |source| StartError::TraceFile {
                    path: path.clone(),
                    source,
                };
                Some(Box::new(File::create(path).map_err(failed)?) as Box<_>)
            }
        };
        Ok(Trace {
            text: text.map(|filter| (filter, Box::new(StandardError) as Box<_>)),
            file,
        })
    }

    /// Sends log records of this process to standard error, up to the level of
    /// these options, or as RUST_LOG says. A logger that is there already stays.
    pub fn init_logger(&self) {
        logging::init(self.log);
    }
}

/// Runs a guest as these options want it, and says how it ended on standard
/// error unless it ended by itself. `adjust` has its way with the
/// configuration before. Returns the exit code for the process, which is to end with
/// it: its signals stay taken over, so that this can be called once.
pub fn run(
    options: &RunOptions,
    image: Image,
    program: &str,
    args: Vec<String>,
    adjust: impl FnOnce(&mut VmConfig),
) -> u8 {
    options.init_logger();
    raise_descriptor_limit();
    // Beyond the last word: whoever is to read it may not, and the code is not out yet.
    let signals = match take_signals() {
        Ok(signals) => signals,
        Err(error) => {
            say(&in_one_line(&error));
            return CODE_NOT_STARTED;
        }
    };
    let mut handle = None;
    let result = options.trace().and_then(|trace| {
        let mut config = VmConfig {
            trace,
            ..options.config(image, program, args)
        };
        adjust(&mut config);
        run_watched(&signals, config, |vm| handle = Some(vm.clone()))
    });
    if let Some(handle) = handle.filter(|_| options.stats) {
        say(&handle.stats());
    }
    let code = match result {
        Ok(status) => {
            if !matches!(status, ExitStatus::Exited(_)) {
                say(&status);
            }
            status.code()
        }
        Err(error) => {
            say(&in_one_line(&error));
            CODE_NOT_STARTED
        }
    };
    signals.keep_until_exit();
    code
}

/// Lets this process have as many descriptors as it may: each connection takes
/// one, and the usual limit is meant for programs that use select(2).
fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Where it may not, the limit stays, and the guest gets EMFILE.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Runs a guest while SIGINT and SIGTERM stop it in an orderly way.
///
/// # Errors
///
/// [`StartError`]: one line that says what to do.
pub fn run_config(
    config: VmConfig,
    started: impl FnOnce(&VmHandle),
) -> Result<ExitStatus, StartError> {
    run_watched(&take_signals()?, config, started)
}

fn take_signals() -> Result<Signals, StartError> {
    Signals::take().map_err(|source| StartError::Host {
        action: "watch for signals",
        source,
    })
}

fn run_watched(
    signals: &Signals,
    config: VmConfig,
    started: impl FnOnce(&VmHandle),
) -> Result<ExitStatus, StartError> {
    let vm = Vm::new(config)?;
    signals.guest(vm.handle());
    started(&vm.handle());
    Ok(vm.run())
}

/// Writes a notice to standard error, in one piece.
fn say(notice: &dyn std::fmt::Display) {
    // A standard error that is closed has nobody to tell.
    let _ = StandardError.write_all(format!("arca: {notice}\n").as_bytes());
}

/// A number of bytes, as written on a command line: 4096, 64K, 16M, 1G.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (shift, unit) in [(30, "G"), (20, "M"), (10, "K")] {
            if self.0 != 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

fn parse_size(text: &str) -> Result<Size, String> {
    let (number, shift) = match text
        .trim_end_matches(['i', 'B'])
        .split_at_checked(text.trim_end_matches(['i', 'B']).len().saturating_sub(1))
    {
        Some((number, "k" | "K")) => (number, 10),
        Some((number, "m" | "M")) => (number, 20),
        Some((number, "g" | "G")) => (number, 30),
        _ => (text, 0),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .map(Size)
        .ok_or_else(|| "expected a number of bytes such as 65536, 512K, 256M or 1G".into())
}

fn parse_level(text: &str) -> Result<LevelFilter, String> {
    let level = text.parse();
    level.map_err(|_| "expected off, error, warn, info, debug or trace".into())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * scale).ok())
        .ok_or_else(|| "expected a time such as 5, 1.5s, 500ms or 2m".into())
}

/// A time between two of something, which is not none.
fn parse_interval(text: &str) -> Result<Duration, String> {
    const LEAST: Duration = Duration::from_millis(10);
    match parse_duration(text)? {
        interval if interval < LEAST => Err(format!("expected {LEAST:?} or more")),
        interval => Ok(interval),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arca_monitor::ORPHAN_TIMEOUT;

    #[test]
    fn sizes_are_parsed() {
        for (text, size) in [
            ("4096", 4096),
            ("64K", 65536),
            ("16MiB", 16 << 20),
            ("1g", 1 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(Size(size)), "{text}");
        }
        for text in ["", "M", "-1", "1T", "99999999999G", "é"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(Size(256 << 20).to_string(), "256M");
        assert_eq!(Size(4097).to_string(), "4097");
    }

    #[test]
    fn an_orphan_is_kept_as_long_as_the_library_does() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            options: RunOptions,
        }
        let line = <Line as clap::Parser>::try_parse_from(["arca"]).expect("no options");
        assert_eq!(line.options.orphan_timeout, ORPHAN_TIMEOUT);
    }

    #[test]
    fn levels_are_parsed() {
        for (text, level) in [("off", LevelFilter::Off), ("WARN", LevelFilter::Warn)] {
            assert_eq!(parse_level(text), Ok(level), "{text}");
        }
        for text in ["", "foo", "3"] {
            let told = parse_level(text).expect_err("no level");
            assert!(told.contains("off, error"), "{told}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_value_or_an_error(text in "[0-9.eE+-]{0,20}[a-zA-Zé]{0,3}") {
            let _ = parse_size(&text);
            let _ = parse_duration(&text);
        }
    }

    #[test]
    fn times_are_parsed() {
        for (text, millis) in [("5", 5000), ("1.5s", 1500), ("500ms", 500), ("2m", 120_000)] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in ["", "s", "-1", "5x", "nan", "1e400"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
