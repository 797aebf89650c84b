//! What a guest is built from.

use crate::host::descriptor::StandardError;
use crate::host::trace::Trace;
use crate::platform::Platform;
use arca_monitor::MonitorConfig;
use arca_shared::protocol::layout;
use std::fmt;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where the guest's image comes from.
#[derive(Clone, Debug)]
pub enum Image {
    /// A file. Only what is needed of it is read; its debug information only
    /// when a crash is reported.
    Path(PathBuf),
    /// The file's content.
    Bytes(Arc<[u8]>),
}

/// Where the guest's standard input comes from.
#[derive(Default)]
pub enum Input {
    /// The guest finds its standard input ended.
    #[default]
    Null,
    /// This process's standard input.
    Inherit,
    /// A reader of the caller's. When the guest ends while a read blocks, the
    /// reading thread is interrupted by a signal; a reader that retries when
    /// interrupted keeps its thread until the read returns.
    Reader(Box<dyn Read + Send>),
}

/// Where a stream of the guest's goes.
#[derive(Default)]
pub enum Output {
    /// Nowhere.
    #[default]
    Null,
    /// To this process's stream of the same name, unbuffered: every byte that the
    /// guest wrote is handed to the kernel at once.
    Inherit,
    /// To a writer of the caller's. One that retries when interrupted (those of
    /// `std` that buffer do) cannot be given up on while it blocks: prefer a
    /// [`std::fs::File`].
    Writer(Box<dyn Write + Send>),
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "Null",
            Self::Inherit => "Inherit",
            Self::Writer(_) => "Writer",
        })
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "Null",
            Self::Inherit => "Inherit",
            Self::Reader(_) => "Reader",
        })
    }
}

/// What a guest is built from.
pub struct VmConfig {
    /// The guest's image.
    pub image: Image,
    /// The program's name, which it finds as its first argument.
    pub program: String,
    /// The program's arguments after its name.
    pub args: Vec<String>,
    /// What carries the guest.
    pub platform: Platform,
    /// Size of low memory (image, stacks and heap), in bytes: a multiple of the
    /// page size.
    pub low_memory: u64,
    /// Size of the arena, in bytes: a multiple of the page size.
    pub arena_size: u64,
    /// Number of vCPUs.
    pub vcpus: usize,
    /// Most verbose level that the guest's log records should have.
    pub log_level: log::LevelFilter,
    /// The guest's standard input.
    pub stdin: Input,
    /// The guest's standard output.
    pub stdout: Output,
    /// Where the lines written to the UART go: what the guest says before its
    /// log works and while it panics.
    pub console: Box<dyn Write + Send>,
    /// Where text goes that the program writes to its standard error.
    pub stderr: Output,
    /// How long the guest may run. Its state is written to the notices then.
    pub timeout: Option<Duration>,
    /// How often its state is written to the notices meanwhile.
    pub dump_every: Option<Duration>,
    /// Where a guest's state is written to: when its time is up, and whenever it is
    /// asked for ([`crate::VmHandle::dump`]).
    pub notices: Box<dyn Write + Send>,
    /// The port of 127.0.0.1 on which a debugger is waited for before the first
    /// instruction, and served from then on; 0 takes a free one.
    pub gdb: Option<u16>,
    /// What happens on the control pipe and on connections, written down.
    pub trace: Trace,
    /// The monitor's configuration.
    pub monitor: MonitorConfig,
    /// Whether the guest's threads give up what they do not need once they are
    /// set up. They can then open no file and start no thread: neither can the
    /// readers and writers above, nor a logger of this process that one of those
    /// threads calls. The command has it on.
    pub sandbox: bool,
}

impl VmConfig {
    /// A guest with one vCPU, memory of the default sizes, no input, its output
    /// discarded, and the UART, its errors and notices on standard error.
    #[must_use]
    pub fn new(image: Image, program: impl Into<String>) -> Self {
        Self {
            image,
            program: program.into(),
            args: Vec::new(),
            platform: Platform::default(),
            low_memory: layout::LOW_MEMORY_DEFAULT,
            arena_size: layout::ARENA_SIZE_DEFAULT,
            vcpus: 1,
            log_level: log::LevelFilter::Info,
            stdin: Input::Null,
            stdout: Output::Null,
            console: Box::new(StandardError),
            stderr: Output::Inherit,
            timeout: None,
            dump_every: None,
            notices: Box::new(StandardError),
            gdb: None,
            trace: Trace::default(),
            monitor: MonitorConfig::default(),
            sandbox: false,
        }
    }
}

impl fmt::Debug for VmConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VmConfig")
            .field("image", &self.image)
            .field("program", &self.program)
            .field("args", &self.args)
            .field("platform", &self.platform)
            .field("low_memory", &self.low_memory)
            .field("arena_size", &self.arena_size)
            .field("vcpus", &self.vcpus)
            .field("log_level", &self.log_level)
            .field("stdin", &self.stdin)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .field("timeout", &self.timeout)
            .field("dump_every", &self.dump_every)
            .field("sandbox", &self.sandbox)
            .finish_non_exhaustive()
    }
}
