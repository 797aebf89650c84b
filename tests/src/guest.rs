//! A guest in a process of its own, as a user runs it.

use nix::sys::signal::{SigHandler, Signal, signal};
use std::collections::BTreeMap;
use std::env;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use xtask::cargo;

/// How long anything may take before its test fails.
#[must_use]
pub fn deadline() -> Duration {
    scaled(Duration::from_secs(60))
}

/// So much time on a machine that is as fast as those where the tests were written;
/// longer where a machine says that it is slower, as an emulated one does.
#[must_use]
pub fn scaled(time: Duration) -> Duration {
    static SLOWER: LazyLock<f64> = LazyLock::new(|| {
        let slower = env::var(xtask::test::SLOWER).ok();
        let slower = slower.and_then(|slower| slower.parse::<f64>().ok());
        slower.map_or(1.0, |slower| slower.clamp(1.0, 100.0))
    });
    time.mul_f64(*SLOWER)
}

/// What was built in this process, by name: an image, or a command.
static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());

fn built(name: &str, build: impl FnOnce() -> PathBuf) -> PathBuf {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    built.entry(name.into()).or_insert_with(build).clone()
}

/// The VMM's command, built once for each process of tests.
///
/// # Panics
///
/// If it cannot be built.
#[must_use]
pub fn vmm() -> PathBuf {
    binary("arca-vmm")
}

/// The command of `cargo xtask`, built once for each process of tests.
///
/// # Panics
///
/// If it cannot be built.
#[must_use]
pub fn xtask() -> PathBuf {
    binary("xtask")
}

/// A command of the workspace, built as the tests are: optimised or not.
fn binary(package: &str) -> PathBuf {
    built(package, || {
        if let Some(folder) = xtask::built::folder() {
            return xtask::built::find(&folder, package).expect("it was built");
        }
        let mut cargo = cargo::cargo().expect("a checkout");
        cargo.args(["build", "--package", package, "--bin", package]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        arca_build::cargo::build_one(&mut cargo, package).expect("the command builds")
    })
}

/// The image of a guest program, built once for each process of tests.
///
/// # Panics
///
/// If it cannot be built.
#[must_use]
pub fn image(program: &str) -> PathBuf {
    built(program, || {
        xtask::guest::build(program).expect("the guest program builds")
    })
}

/// A running guest; killed when dropped.
pub struct Guest {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Arc<Text>,
    reader: Option<JoinHandle<()>>,
}

/// What standard error said so far.
#[derive(Default)]
struct Text {
    text: Mutex<String>,
    more: Condvar,
}

/// How a guest ended.
#[derive(Debug)]
pub struct Ended {
    /// The process's exit code; none if a signal killed it.
    pub code: Option<i32>,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: String,
}

impl Ended {
    /// Fails, showing standard error, unless the exit code is `code`.
    ///
    /// # Panics
    ///
    /// If it is another.
    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Self {
        let Self { stderr, .. } = self;
        assert_eq!(self.code, Some(code), "standard error:\n{stderr}");
        self
    }

    /// Fails, showing standard error, unless it contains `text`.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[track_caller]
    pub fn expect_stderr(&self, text: &str) -> &Self {
        let Self { stderr, .. } = self;
        assert!(stderr.contains(text), "{text:?} is not in:\n{stderr}");
        self
    }
}

impl Guest {
    /// Starts `program` with options of the VMM's command before it.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    #[must_use]
    pub fn start(options: &[&str], program: &str, args: &[&str]) -> Self {
        let mut command = Command::new(vmm());
        command.args(options).arg(image(program)).args(args);
        command.stdin(Stdio::null());
        Self::spawn(command)
    }

    /// Starts any command, whose standard output is collected unless it was set
    /// with [`Guest::spawn_to`].
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    #[must_use]
    pub fn spawn(command: Command) -> Self {
        Self::spawn_to(command, Stdio::piped())
    }

    /// Starts a command with that standard output.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    #[must_use]
    pub fn spawn_to(mut command: Command, stdout: Stdio) -> Self {
        command.stdout(stdout).stderr(Stdio::piped());
        // Tests that run under nohup(1) hand down that this is ignored.
        let hang_up = || {
            // SAFETY: the default action is no code of ours.
            unsafe { signal(Signal::SIGHUP, SigHandler::SigDfl) }?;
            Ok(())
        };
        // SAFETY: between fork and exec it makes a system call and nothing else.
        unsafe { command.pre_exec(hang_up) };
        let mut child = command.spawn().expect("the command starts");
        let stdout = child.stdout.take().map(|mut pipe| {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = pipe.read_to_end(&mut bytes);
                bytes
            })
        });
        let stderr = Arc::new(Text::default());
        let reader = child.stderr.take().map(|pipe| {
            let text = stderr.clone();
            thread::spawn(move || text.collect(pipe))
        });
        Self {
            child,
            stdout,
            stderr,
            reader,
        }
    }

    /// What standard error said so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.lock().clone()
    }

    /// Waits until standard error has a line that contains `text`, and gives the
    /// line from there on.
    ///
    /// # Panics
    ///
    /// If there is none by the deadline.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        let end = Instant::now() + deadline();
        let mut said = self.stderr.lock();
        loop {
            if let Some((start, _)) = said.match_indices(text).next()
                && let Some(len) = said[start..].find('\n')
            {
                return said[start..start + len].to_owned();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {text:?} on standard error:\n{said}");
            let waited = self.stderr.more.wait_timeout(said, left);
            said = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }

    /// Waits until what standard error has said is as `wanted`.
    ///
    /// # Panics
    ///
    /// If it is not by the deadline.
    #[track_caller]
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        let end = Instant::now() + deadline();
        let mut said = self.stderr.lock();
        while !wanted(&said) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "never {what}; standard error:\n{said}");
            let waited = self.stderr.more.wait_timeout(said, left);
            said = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }

    /// Waits for the echo server's "listening on ADDRESS", and gives the address.
    ///
    /// # Panics
    ///
    /// If it does not come by the deadline.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.address_of("echo-server")
    }

    /// Waits for the "listening on ADDRESS" of that program, and gives the address.
    /// What the monitor's log says about listening is not taken for it.
    ///
    /// # Panics
    ///
    /// If it does not come by the deadline.
    #[track_caller]
    pub fn address_of(&self, program: &str) -> SocketAddr {
        let says = format!("{}] listening on ", program.replace('-', "_"));
        let line = self.wait_for(&says);
        let address = line[says.len()..].trim();
        let parsed = address.parse();
        parsed.unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// The process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal to the process.
    ///
    /// # Panics
    ///
    /// If there is no such process any more.
    pub fn signal(&self, signal: Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, signal).expect("the guest runs");
    }

    /// Waits for the end.
    ///
    /// # Panics
    ///
    /// If it does not come by the deadline.
    #[track_caller]
    pub fn finish(self) -> Ended {
        self.finish_within(deadline())
    }

    /// Waits for the end, for at most that long.
    ///
    /// # Panics
    ///
    /// If it does not come in that time.
    #[track_caller]
    pub fn finish_within(mut self, limit: Duration) -> Ended {
        let status = wait(&mut self.child, limit).unwrap_or_else(|| {
            let said = self.stderr();
            panic!("the guest does not end; standard error:\n{said}")
        });
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let stdout = self.stdout.take().and_then(|reader| reader.join().ok());
        Ended {
            code: status.code(),
            stdout: stdout.unwrap_or_default(),
            stderr: self.stderr(),
        }
    }
}

/// Waits for a child for so long.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < end => thread::park_timeout(Duration::from_millis(2)),
            _ => return None,
        }
    }
}

impl Text {
    fn lock(&self) -> std::sync::MutexGuard<'_, String> {
        let text = self.text.lock();
        text.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn collect(&self, mut pipe: impl Read) {
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = pipe.read(&mut buffer) {
            let piece = String::from_utf8_lossy(&buffer[..len]);
            self.lock().push_str(&piece);
            self.more.notify_all();
        }
        self.more.notify_all();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let mut stderr = std::io::stderr();
            let _ = writeln!(stderr, "--- the guest said:\n{}---", self.stderr());
        }
    }
}
