//! The first process of the machine: makes it ready, and runs what the host asks
//! for, one program after another. Nothing else runs in there.

use super::control::{ALIVE, Booted, Ended, Order, Pace, Port, Report, Start, receive, send};
use crate::test::SKIPS;
use anyhow::{Context, Result, bail};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use std::convert::Infallible;
use std::fs::{self, File, Permissions};
use std::io::{self, BufReader, PipeReader, Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// The folder with the modules to load, in the order of their names.
pub const MODULES: &str = "/modules";
/// Where the tests of a program say what they skipped.
const SKIPPED: &str = "/tmp/.skipped";
/// How long a device may take to appear.
const DEVICES: Duration = Duration::from_secs(60);
/// How long what a program leaves running may still write.
const LINGER: Duration = Duration::from_secs(2);
/// As many descriptors as a process may have by default, of which tests need many.
const DESCRIPTORS: u64 = 1 << 20;

/// File systems: kind, place, options.
const MOUNTS: [(&str, &str, &str); 5] = [
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devtmpfs", "/dev", ""),
    ("devpts", "/dev/pts", "ptmxmode=666"),
    ("tmpfs", "/dev/shm", ""),
];

/// Runs the machine until the host ends it.
///
/// # Errors
///
/// If this is not a machine of the host's, or something it needs is missing.
pub fn init() -> Result<Infallible> {
    if std::process::id() != 1 {
        bail!("this is for the first process of a machine; `cargo xtask run --qemu` makes one");
    }
    for (kind, place, options) in MOUNTS {
        fs::create_dir_all(place)?;
        let mounted = mount(
            Some(kind),
            place,
            Some(kind),
            MsFlags::empty(),
            Some(options),
        );
        mounted.with_context(|| format!("mounting {place}"))?;
    }
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        std::os::unix::fs::symlink(to, Path::new("/dev").join(name))?;
    }
    // A file system in memory is the root already. Programs may be under /tmp.
    fs::create_dir_all("/tmp")?;
    fs::create_dir_all("/mnt")?;
    fs::set_permissions("/tmp", Permissions::from_mode(0o1777))?;
    let modules = load_modules();
    loopback().context("loopback")?;
    setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, DESCRIPTORS).context("descriptors")?;
    // Memory of a guest is reserved whole, and little of it is touched.
    fs::write("/proc/sys/vm/overcommit_memory", "1").context("overcommit")?;
    let no_kvm = match Path::new("/dev/kvm").exists() {
        true => None,
        false => Some(match modules {
            Err(error) => format!("{error:#}"),
            Ok(()) => "this kernel has no kvm-amd".into(),
        }),
    };
    // Nothing is lost where there is none: programs say why.
    let _held = hold_vm();
    let ports = Ports::open()?;
    let pace = Pace::measure();
    ports.report(&Report::Booted(Booted { no_kvm, pace }))?;
    serve(&ports)
}

/// Loads all modules; the first error is what is said, once all were tried.
fn load_modules() -> Result<()> {
    let Ok(entries) = fs::read_dir(MODULES) else {
        return Ok(());
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut result = Ok(());
    for path in paths {
        let file = File::open(&path)?;
        // SAFETY: the kernel reads the file and an empty string of parameters.
        let loaded =
            unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
        let error = Errno::last();
        if loaded != 0 && error != Errno::EEXIST && result.is_ok() {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            result = Err(error).with_context(|| format!("loading {name}"));
        }
    }
    result
}

/// A virtual machine that never runs, with a vCPU like those of programs. While there
/// is one, the kernel does not patch the code of its scheduler each time that a
/// program makes its first machine or ends its last. A QEMU (7.2) that runs each
/// processor in a thread may go on executing the breakpoint that stands there meanwhile,
/// for ever, when it translates that code for one while another one writes it.
fn hold_vm() -> Result<(VmFd, VcpuFd), kvm_ioctls::Error> {
    let vm = Kvm::new()?.create_vm()?;
    let vcpu = vm.create_vcpu(0)?;
    Ok((vm, vcpu))
}

/// Turns the loopback interface on.
fn loopback() -> Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all-zero bytes are a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as i16;
    // SAFETY: the request is ours, and the kernel only reads it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    Errno::result(result)?;
    Ok(())
}

/// The ports, but for that of standard input, which is the program's.
struct Ports {
    orders: File,
    reports: Mutex<File>,
    stdout: Outlet,
    stderr: Outlet,
}

impl Ports {
    fn open() -> Result<Self> {
        let control = open(Port::Control)?;
        Ok(Self {
            reports: Mutex::new(control.try_clone()?),
            orders: control,
            stdout: Outlet::open(Port::Stdout)?,
            stderr: Outlet::open(Port::Stderr)?,
        })
    }

    fn report(&self, report: &Report) -> io::Result<()> {
        let port = self.reports.lock();
        send(&*port.unwrap_or_else(PoisonError::into_inner), report)
    }
}

/// Opens a port once it is there.
fn open(port: Port) -> Result<File> {
    let (path, end) = (port.device(), Instant::now() + DEVICES);
    loop {
        match File::options().read(true).write(true).open(&path) {
            Err(_) if Instant::now() < end => thread::park_timeout(Duration::from_millis(1)),
            result => return result.with_context(|| path.display().to_string()),
        }
    }
}

/// A stream of the programs' to the host.
struct Outlet {
    port: File,
    /// Bytes that went out. Relaxed: whoever reads it has joined who wrote it.
    written: AtomicU64,
    /// The host takes no more, now and later.
    refused: EventFd,
}

impl Outlet {
    fn open(port: Port) -> Result<Self> {
        Ok(Self {
            port: open(port)?,
            written: AtomicU64::new(0),
            refused: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        })
    }

    /// Passes on what a program writes, until it ends or the host takes no more:
    /// then the program finds its pipe broken.
    fn pass(&self, mut from: PipeReader) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
            let mut waits = [readable(from.as_fd()), readable(self.refused.as_fd())];
            let waited = poll(&mut waits, PollTimeout::NONE);
            let refused = waits[1].any().unwrap_or(true);
            match waited {
                Err(Errno::EINTR) => continue,
                Err(_) => return,
                Ok(_) if refused => return,
                Ok(_) => {}
            }
            let Ok(len @ 1..) = from.read(&mut buffer) else {
                return;
            };
            if (&self.port).write_all(&buffer[..len]).is_err() {
                return;
            }
            self.written.fetch_add(len as u64, Ordering::Relaxed);
        }
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

/// Does what the host orders.
fn serve(ports: &Ports) -> Result<Infallible> {
    let mut orders = BufReader::new(&ports.orders);
    let program = Program::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            // A host that is gone takes the machine with it.
            while ports.report(&Report::Alive).is_ok() {
                thread::sleep(ALIVE);
            }
        });
        loop {
            let order = receive(&mut orders).context("an order")?;
            match order.context("the host is gone")? {
                Order::Signal(signal) => program.signal(signal),
                Order::Refuse(Port::Stdout) => drop(ports.stdout.refused.write(1)),
                Order::Refuse(_) => drop(ports.stderr.refused.write(1)),
                // One at a time: the host waits for its end.
                Order::Start(start) => {
                    let program = &program;
                    scope.spawn(move || {
                        let ended = program.run(&start, ports).unwrap_or_else(|error| {
                            let said = format!("{error:#}\n");
                            let _ = (&ports.stderr.port).write_all(said.as_bytes());
                            let len = said.len() as u64;
                            ports.stderr.written.fetch_add(len, Ordering::Relaxed);
                            NOT_STARTED
                        });
                        let _ = ports.report(&Report::Ended(Ended {
                            code: ended,
                            written: [ports.stdout.written(), ports.stderr.written()],
                            skipped: skipped(),
                        }));
                    });
                }
            }
        }
    })
}

/// Exit code for a program that could not be started.
const NOT_STARTED: u8 = 125;

/// What the tests of the last program skipped.
fn skipped() -> Vec<String> {
    let text = fs::read_to_string(SKIPPED).unwrap_or_default();
    let _ = fs::remove_file(SKIPPED);
    text.lines().map(str::to_owned).collect()
}

/// The program that runs, if one does.
#[derive(Default)]
struct Program {
    /// Its process; locked where it is reaped, so that no signal goes to another
    /// one that got its number.
    pid: Mutex<Option<Pid>>,
}

impl Program {
    fn lock(&self) -> MutexGuard<'_, Option<Pid>> {
        self.pid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, signal: i32) {
        if let (Some(pid), Ok(signal)) = (*self.lock(), Signal::try_from(signal)) {
            // One that has ended takes none.
            let _ = kill(pid, signal);
        }
    }

    /// Runs it to its end, and ends what it leaves behind.
    fn run(&self, start: &Start, ports: &Ports) -> Result<u8> {
        let [(stdout, from_stdout), (stderr, from_stderr)] = [pipe()?, pipe()?];
        let (name, args) = start.args.split_first().context("a program")?;
        let mut command = Command::new(name);
        command.args(args).current_dir(&start.folder).env_clear();
        command.env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
        command.envs(&start.env).env(SKIPS, SKIPPED);
        command
            .stdin(Stdio::null())
            .stdout(from_stdout)
            .stderr(from_stderr);
        // A session of its own, without a terminal, as a service has one.
        // SAFETY: setsid is safe between fork and exec.
        unsafe { command.pre_exec(|| nix::unistd::setsid().map(|_| ()).map_err(Into::into)) };
        let mut pid = self.lock();
        let child = command
            .spawn()
            .with_context(|| format!("cannot run {name}"))?;
        // Whoever runs has these ends now.
        drop(command);
        let child = Pid::from_raw(child.id().cast_signed());
        *pid = Some(child);
        drop(pid);
        let code = thread::scope(|scope| {
            let (outlet, errlet) = (&ports.stdout, &ports.stderr);
            let passing = [
                scope.spawn(move || outlet.pass(stdout)),
                scope.spawn(move || errlet.pass(stderr)),
            ];
            let code = self.reap(child);
            let end = Instant::now() + LINGER;
            let passed = || passing.iter().all(ScopedJoinHandle::is_finished);
            while !passed() && Instant::now() < end {
                thread::park_timeout(Duration::from_millis(1));
            }
            // All but this one, so that the next finds nothing of the last.
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
            code
        });
        reap_the_rest();
        code
    }

    /// Waits for its end, and for those of orphans meanwhile, which are this
    /// process's to reap.
    fn reap(&self, child: Pid) -> Result<u8> {
        loop {
            // It keeps its number until it is reaped under the lock.
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            let ended = match waitid(Id::All, flags) {
                Err(Errno::EINTR) => continue,
                status => status.context("waiting")?.pid(),
            };
            let mut pid = self.lock();
            let status = waitpid(ended, None).context("reaping")?;
            if ended != Some(child) {
                continue;
            }
            *pid = None;
            return Ok(match status {
                WaitStatus::Exited(_, code) => code as u8,
                WaitStatus::Signaled(_, signal, _) => 128 + signal as u8,
                status => bail!("an end that is none: {status:?}"),
            });
        }
    }
}

/// Reaps all that have ended by now.
fn reap_the_rest() {
    let ended = |status| !matches!(status, WaitStatus::StillAlive);
    while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(ended) {}
}
