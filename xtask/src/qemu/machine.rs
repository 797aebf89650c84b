//! The emulated machine: a QEMU process that ends with this one.

use super::console::Console;
use super::control::{Ended, Order, Pace, Port, Report, Start, receive, send};
use super::initramfs::Files;
use super::kernel::Kernel;
use super::stdin;
use anyhow::{Context, Result, anyhow, bail};
use arca_vmm::Reading;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Seek};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The emulator.
const QEMU: &str = "qemu-system-x86_64";
/// A processor with nested virtualisation. KVM takes its clock for good: QEMU's is
/// the host's.
const PROCESSOR: &str = "EPYC,+svm,+npt";
/// All processors in one thread, in turns. Each in a thread of its own, QEMU (7.2) let a
/// guest's stores through to memory that was the kernel's now and then: a stack of the
/// kernel's was found overwritten, or the guest was reset, in 9 of 45 runs of one that
/// writes all over its memory; in turns, in none of 24.
const ACCELERATOR: &str = "tcg,thread=single";
/// A PC: it has the timer by which the kernel corrects what it measured of its local
/// timers on a busy host, which `microvm` has not.
const KIND: &str = "pc";
/// What the kernel is told: its console, to end at a panic, that the processor's
/// clock is one (it is the host's), and not to guard against its own programs.
const KERNEL: &str = "console=ttyS0 loglevel=4 panic=-1 tsc=reliable mitigations=off";
/// And the frequency of that clock, in kHz. By what it measures itself, where the host
/// is busy, its time passed up to six times too fast.
const FREQUENCY: &str = "tsc_early_khz";
/// How long a machine may take to say that it is there. Seconds are usual.
const BOOT: Duration = Duration::from_secs(180);
/// How long one may be silent, of which [`super::control::ALIVE`] is usual.
const SILENCE: Duration = Duration::from_secs(60);

/// What a machine is made of.
pub struct Plan<'a> {
    /// Its kernel.
    pub kernel: &'a Kernel,
    /// Its files.
    pub files: &'a Files,
    /// The program among the files that is its init, and its argument.
    pub init: (&'a Path, &'a str),
    /// Its memory beside that of the files, in bytes.
    pub memory: u64,
    /// Its processors.
    pub processors: usize,
}

/// Where a stream of the programs' goes: called with each piece, until it fails.
pub type Outlet = Box<dyn FnMut(&[u8]) -> std::io::Result<()> + Send>;

/// A running machine; ended when dropped, and with this process's main thread.
pub struct Machine {
    qemu: Child,
    console: Console,
    keepers: Vec<JoinHandle<()>>,
    orders: UnixStream,
    reports: Receiver<Report>,
    passed: [Arc<Passed>; 2],
    /// How many times slower than here programs run in it.
    pub slower: f64,
    /// How long it took to boot.
    pub boot: Duration,
}

/// How a program ended in a machine.
pub enum Outcome {
    /// By itself, or by a signal.
    Ended(Ended),
    /// It was killed at its deadline.
    TimedOut(Ended),
}

impl Machine {
    /// Boots one. What its programs write goes to `outlets`, and they read `stdin`.
    /// To be called by the main thread, with which the emulator dies.
    ///
    /// # Errors
    ///
    /// If QEMU is missing, or the machine does not boot, or has no KVM: lines that
    /// say why, and what to do.
    pub fn boot(
        plan: &Plan<'_>,
        outlets: [Outlet; 2],
        stdin: impl Read + Send + 'static,
    ) -> Result<Self> {
        let (began, clock) = (Instant::now(), Reading::now());
        let (host, machine) = pairs()?;
        let mut archive = tempfile::tempfile().context("a file for the machine's files")?;
        let written = plan.files.write(BufWriter::new(&archive));
        written.context("writing the machine's files")?;
        archive.rewind()?;
        let clock = clock.frequency().context("a clock that stands still")?;
        let mut command = command(plan, &machine, &archive, clock);
        let qemu = command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow!(
                "{QEMU} is not installed: install your distribution's package of it \
                 (`apt-get install qemu-system-x86`)"
            ),
            _ => anyhow!("cannot run {QEMU}: {error}"),
        })?;
        // QEMU has these ends: when it is gone, they are.
        drop((command, machine, archive));
        let [control, stdout, stderr, input] = host;
        let mut machine = Self {
            qemu,
            console: Console::default(),
            keepers: Vec::new(),
            orders: control.try_clone()?,
            reports: reports(control),
            passed: Default::default(),
            slower: 1.0,
            boot: Duration::ZERO,
        };
        let said = [
            machine.qemu.stdout.take().map(OwnedFd::from),
            machine.qemu.stderr.take().map(OwnedFd::from),
        ];
        for pipe in said.into_iter().flatten() {
            machine.keepers.push(machine.console.keep(File::from(pipe)));
        }
        let ports = [(Port::Stdout, stdout), (Port::Stderr, stderr)];
        for (((port, from), to), passed) in ports.into_iter().zip(outlets).zip(&machine.passed) {
            let (orders, passed) = (machine.orders.try_clone()?, Arc::clone(passed));
            thread::spawn(move || pass(port, from, to, &orders, &passed));
        }
        // Ends with the machine, or with this process while it waits for input.
        thread::spawn(move || stdin::serve(input, stdin));
        let Some(Report::Booted(booted)) = machine.next(BOOT)? else {
            let tail = &machine.console;
            bail!("the machine did not boot in {BOOT:?}; its console:{tail}")
        };
        if let Some(reason) = booted.no_kvm {
            bail!(
                "there is no KVM in the machine with kernel {}: {reason}; name a kernel with \
                 kvm-amd with --kernel PATH",
                plan.kernel.release
            );
        }
        machine.slower = booted.pace.times(Pace::measure());
        machine.boot = began.elapsed();
        Ok(machine)
    }

    /// A deadline for this machine, from one for this one here.
    #[must_use]
    pub fn scaled(&self, limit: Duration) -> Duration {
        limit.mul_f64(self.slower)
    }

    /// A handle by which orders go to the machine.
    ///
    /// # Errors
    ///
    /// If there is no descriptor left.
    pub fn orders(&self) -> Result<Orders> {
        Ok(Orders(self.orders.try_clone()?))
    }

    /// Runs a program to its end, or for so long; all that it wrote has gone out
    /// then.
    ///
    /// # Errors
    ///
    /// If the machine ends or falls silent.
    pub fn run(&mut self, start: Start, limit: Option<Duration>) -> Result<Outcome> {
        self.order(&Order::Start(start))?;
        let mut end = limit.map(|limit| Instant::now() + limit);
        let (mut killed, silence) = (false, self.scaled(SILENCE));
        let ended = loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let patience = left.map_or(silence, |left| left.min(silence));
            match self.next(patience)? {
                Some(Report::Ended(ended)) => break ended,
                Some(_) => {}
                None if left.is_some_and(|left| left <= silence) => {
                    self.order(&Order::Signal(libc::SIGKILL))?;
                    (killed, end) = (true, None);
                }
                None => bail!(
                    "the machine has said nothing for {silence:.0?}; its console:{}",
                    self.console
                ),
            }
        };
        for (passed, written) in self.passed.iter().zip(ended.written) {
            passed.wait_for(written);
        }
        Ok(match killed {
            true => Outcome::TimedOut(ended),
            false => Outcome::Ended(ended),
        })
    }

    /// The next report; none if none comes for so long.
    fn next(&mut self, patience: Duration) -> Result<Option<Report>> {
        match self.reports.recv_timeout(patience) {
            Ok(report) => Ok(Some(report)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                // It may have closed the port and hang; it is of no use any more.
                let _ = self.qemu.kill();
                let status = self.qemu.wait().context("waiting for QEMU")?;
                for keeper in self.keepers.drain(..) {
                    let _ = keeper.join();
                }
                bail!("QEMU has ended: {status}; it said:{}", self.console)
            }
        }
    }

    fn order(&self, order: &Order) -> Result<()> {
        send(&self.orders, order).context("the machine takes no orders")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // One that has ended already is only waited for.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// A handle by which orders go to a machine.
pub struct Orders(UnixStream);

impl Orders {
    /// Sends a signal to the program that runs. A machine that is gone has none.
    pub fn signal(&self, signal: Signal) {
        let _ = send(&self.0, &Order::Signal(signal as i32));
    }
}

/// The host's and the machine's ends of all ports.
fn pairs() -> Result<([UnixStream; 4], [UnixStream; 4])> {
    let [control, stdout, stderr, stdin] = Port::ALL.map(|_| UnixStream::pair());
    let (control, stdout, stderr, stdin) = (control?, stdout?, stderr?, stdin?);
    Ok((
        [control.0, stdout.0, stderr.0, stdin.0],
        [control.1, stdout.1, stderr.1, stdin.1],
    ))
}

/// QEMU's command line; the processor's clock is in kHz.
fn command(plan: &Plan<'_>, ports: &[UnixStream; 4], archive: &File, clock: u64) -> Command {
    let (init, arg) = plan.init;
    // The kernel has the archive twice while it unpacks it.
    let memory = plan.memory + 2 * plan.files.len();
    let mut command = Command::new(QEMU);
    command
        .args(["-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-display", "none", "-machine", KIND, "-cpu", PROCESSOR])
        .args(["-accel", ACCELERATOR])
        .args(["-smp", &plan.processors.to_string()])
        .args(["-m", &memory.div_ceil(1 << 20).to_string()])
        .arg("-kernel")
        .arg(&plan.kernel.image)
        .args(["-initrd", &format!("/proc/self/fd/{}", archive.as_raw_fd())])
        .args([
            "-append",
            &format!(
                "{KERNEL} {FREQUENCY}={clock} rdinit={} -- {arg}",
                init.display()
            ),
        ])
        .args(["-serial", "stdio", "-device", "virtio-serial-pci"]);
    for (port, end) in Port::ALL.iter().zip(ports) {
        let (number, fd) = (port.number(), end.as_raw_fd());
        command
            .args(["-chardev", &format!("socket,id=port{number},fd={fd}")])
            .args([
                "-device",
                &format!("virtserialport,nr={number},chardev=port{number}"),
            ]);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Not in the terminal's group of processes: its signals are for this process.
    command.process_group(0);
    let parent = std::process::id().cast_signed();
    let fds = ports
        .iter()
        .map(AsRawFd::as_raw_fd)
        .chain([archive.as_raw_fd()]);
    let fds: Vec<_> = fds.collect();
    let prepare = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have ended before that.
        if getppid().as_raw() != parent {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        for fd in &fds {
            // SAFETY: the parent keeps it open until the command is dropped.
            let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec it makes system calls and nothing else.
    unsafe { command.pre_exec(prepare) };
    command
}

/// What init says, until the machine is gone.
fn reports(control: UnixStream) -> Receiver<Report> {
    let (sender, reports) = channel();
    thread::spawn(move || {
        let mut control = BufReader::new(control);
        while let Ok(Some(report)) = receive(&mut control) {
            if sender.send(report).is_err() {
                break;
            }
        }
    });
    reports
}

/// How many bytes of a stream have come and gone out.
#[derive(Default)]
struct Passed {
    bytes: Mutex<u64>,
    more: Condvar,
}

impl Passed {
    fn add(&self, bytes: u64) {
        *self.bytes.lock().unwrap_or_else(PoisonError::into_inner) += bytes;
        self.more.notify_all();
    }

    /// Waits until that many have. Whoever takes them may be slow.
    fn wait_for(&self, bytes: u64) {
        let passed = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = |passed: &mut u64| *passed < bytes;
        drop(self.more.wait_while(passed, behind));
    }
}

/// Passes a stream on. What is refused is dropped, and the machine told, so that
/// the program finds its stream broken.
fn pass(port: Port, mut from: UnixStream, to: Outlet, orders: &UnixStream, passed: &Passed) {
    let (mut to, mut piece) = (Some(to), vec![0; 64 << 10]);
    loop {
        match from.read(&mut piece) {
            Ok(len @ 1..) => {
                if let Some(take) = &mut to
                    && take(&piece[..len]).is_err()
                {
                    to = None;
                    // A machine that is gone need not know.
                    let _ = send(orders, &Order::Refuse(port));
                }
                passed.add(len as u64);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Nothing more will come: nobody is to wait for it.
            _ => return passed.add(u64::MAX >> 1),
        }
    }
}
