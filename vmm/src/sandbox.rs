//! What the threads that serve a guest may still ask of the kernel, once they
//! are set up.
//!
//! Two layers, both for one thread and for good: landlock takes the file system
//! away (and TCP ports, where the thread has no use for them), seccomp all system
//! calls but those of the thread's work. A call outside the list fails with
//! EPERM: it does not kill the process, which may run other guests.
//!
//! | role | may, besides memory, locks, time and its own end |
//! |---|---|
//! | [`Role::Vcpu`] | run the vCPU and read its registers; write (the console) |
//! | [`Role::Relay`] | make and use TCP sockets; wait for events; write (the log) |
//! | [`Role::Stream`] | read and write |
//!
//! None can open a file, start a process or a thread, signal another process, or
//! make memory executable. What such a thread shares with the process, its memory
//! and open descriptors, it keeps: the sandbox limits what an attacker reaches
//! from there, and is not the guest's first wall but its second.

use std::io;
use std::sync::Arc;

use kvm_bindings::{kvm_regs, kvm_sregs};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope,
};
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::control::{Control, Outcome};
use crate::error::StartError;

/// What a thread is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs a vCPU.
    Vcpu,
    /// Relays between sockets and pipes.
    Relay,
    /// Copies a standard stream, or the log.
    Stream,
}

/// The filters, compiled.
pub struct Sandbox {
    vcpu: BpfProgram,
    relay: BpfProgram,
    stream: BpfProgram,
}

/// What every thread needs: memory, locks, time, output, and its own end.
const COMMON: [libc::c_long; 24] = [
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_write,
    libc::SYS_writev,
];

/// What the relay does with sockets.
const SOCKETS: [libc::c_long; 16] = [
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_wait,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
];

/// The type of KVM's requests.
const KVM: u64 = 0xae;

/// The number of a request of KVM's that hands out `size` bytes.
const fn kvm_read(number: u64, size: usize) -> u64 {
    const READ: u64 = 2 << 30;
    READ | (size as u64) << 16 | KVM << 8 | number
}

/// What a vCPU's thread asks of KVM.
const KVM_REQUESTS: [u64; 3] = [
    // KVM_RUN, KVM_GET_REGS, KVM_GET_SREGS.
    KVM << 8 | 0x80,
    kvm_read(0x81, size_of::<kvm_regs>()),
    kvm_read(0x83, size_of::<kvm_sregs>()),
];

impl Sandbox {
    /// Compiles the filters.
    pub fn new() -> Result<Self, StartError> {
        let compile = |role| {
            filter(role).map_err(|error| StartError::Host {
                action: "compile the sandbox's filters; --no-sandbox runs without one",
                source: io::Error::other(error),
            })
        };
        Ok(Self {
            vcpu: compile(Role::Vcpu)?,
            relay: compile(Role::Relay)?,
            stream: compile(Role::Stream)?,
        })
    }

    /// Takes from the calling thread what its role does not need.
    ///
    /// # Errors
    ///
    /// If the kernel has no seccomp. One without landlock, or with an older one,
    /// gives what it has.
    pub fn enter(&self, role: Role) -> io::Result<()> {
        restrict(role).map_err(io::Error::other)?;
        let program = match role {
            Role::Vcpu => &self.vcpu,
            Role::Relay => &self.relay,
            Role::Stream => &self.stream,
        };
        seccompiler::apply_filter(program).map_err(io::Error::other)
    }
}

/// A thread's way into the sandbox: the last step of its set-up.
#[derive(Clone, Default)]
pub struct Entrance {
    /// The sandbox, if there is one.
    pub sandbox: Option<Arc<Sandbox>>,
    /// Who is told if it cannot be entered.
    pub control: Arc<Control>,
}

impl Entrance {
    /// Enters; `false` if that failed, whereupon the guest ends.
    pub fn enter(&self, role: Role) -> bool {
        let entered = match &self.sandbox {
            Some(sandbox) => sandbox.enter(role),
            None => Ok(()),
        };
        if let Err(error) = &entered {
            self.control.end(Outcome::HostFailed(format!(
                "the sandbox could not be entered: {error}; --no-sandbox runs without one"
            )));
        }
        entered.is_ok()
    }
}

/// Landlock: no file, no TCP port but the relay's, no way to other processes.
fn restrict(role: Role) -> Result<(), landlock::RulesetError> {
    let abi = ABI::V6;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .scope(Scope::from_all(abi))?;
    if role != Role::Relay {
        rules = rules.handle_access(AccessNet::from_all(abi))?;
    }
    rules.create()?.restrict_self().map(drop)
}

fn filter(role: Role) -> Result<BpfProgram, seccompiler::BackendError> {
    let plain = |calls: &[libc::c_long]| -> Vec<_> {
        calls.iter().map(|&call| (call, Vec::new())).collect()
    };
    // Memory may be had, but not to execute.
    let not_executable = vec![SeccompRule::new(vec![SeccompCondition::new(
        2,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64),
        0,
    )?])?];
    let mut rules = plain(&COMMON);
    rules.push((libc::SYS_mmap, not_executable.clone()));
    rules.push((libc::SYS_mprotect, not_executable));
    match role {
        Role::Stream => {}
        Role::Vcpu => rules.push((libc::SYS_ioctl, argument(1, &KVM_REQUESTS)?)),
        Role::Relay => {
            let families = [libc::AF_INET as u64, libc::AF_INET6 as u64];
            rules.extend(plain(&SOCKETS));
            rules.push((libc::SYS_socket, argument(0, &families)?));
        }
    }
    SeccompFilter::new(
        rules.into_iter().collect(),
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?
    .try_into()
}

/// Rules by which an argument is one of `values`.
fn argument(index: u8, values: &[u64]) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let is = |&value| {
        let length = SeccompCmpArgLen::Dword;
        let equal = SeccompCondition::new(index, length, SeccompCmpOp::Eq, value)?;
        SeccompRule::new(vec![equal])
    };
    values.iter().map(is).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::net::TcpListener;
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;
    use std::sync::Mutex;
    use std::thread;

    /// Runs `body` in a thread that has entered the sandbox.
    fn inside<T: Send>(role: Role, body: impl FnOnce() -> T + Send) -> T {
        let sandbox = Sandbox::new().expect("compiles");
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                sandbox.enter(role).expect("enters");
                body()
            });
            thread.join().expect("no panic")
        })
    }

    const ROLES: [Role; 3] = [Role::Vcpu, Role::Relay, Role::Stream];

    fn errno() -> i32 {
        io::Error::last_os_error().raw_os_error().unwrap_or(0)
    }

    #[test]
    fn nothing_is_opened_started_or_signalled() {
        for role in ROLES {
            let denied = inside(role, || {
                let mut denied = BTreeMap::new();
                let mut deny = |what: &'static str, errno: Option<i32>| {
                    denied.insert(what, errno);
                };
                let error = |error: io::Error| error.raw_os_error();
                deny("open", File::open("/etc/passwd").err().and_then(error));
                deny("create", File::create("/tmp/arca").err().and_then(error));
                deny(
                    "exec",
                    Command::new("/bin/true").spawn().err().and_then(error),
                );
                deny(
                    "thread",
                    thread::Builder::new().spawn(|| ()).err().and_then(error),
                );
                deny("unix", UnixDatagram::unbound().err().and_then(error));
                // SAFETY: signal 0 is none; the calls change nothing.
                let result = unsafe { libc::kill(libc::getppid(), 0) };
                deny("kill", (result != 0).then(errno));
                // SAFETY: a new mapping, which nothing uses.
                let map = unsafe {
                    libc::mmap(
                        std::ptr::null_mut(),
                        4096,
                        libc::PROT_READ | libc::PROT_EXEC,
                        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                        -1,
                        0,
                    )
                };
                deny("executable memory", (map == libc::MAP_FAILED).then(errno));
                // SAFETY: a request that no descriptor of this number answers.
                let result = unsafe { libc::ioctl(0, libc::TIOCSTI, 0) };
                deny("ioctl", (result != 0).then(errno));
                denied
            });
            for (what, errno) in denied {
                assert_eq!(errno, Some(libc::EPERM), "{what} as {role:?}");
            }
        }
    }

    #[test]
    fn only_the_relay_has_sockets() {
        for role in ROLES {
            let bound = inside(role, || TcpListener::bind("127.0.0.1:0").is_ok());
            assert_eq!(bound, role == Role::Relay, "{role:?}");
        }
    }

    #[test]
    fn memory_locks_and_output_work() {
        for role in ROLES {
            let lock = Arc::new(Mutex::new(0));
            let (mut reader, mut writer) = io::pipe().expect("a pipe");
            inside(role, || {
                let large = vec![1u8; 64 << 20];
                *lock.lock().expect("not poisoned") = large.len();
                io::Write::write_all(&mut writer, b"out").expect("open");
            });
            assert_eq!(*lock.lock().expect("not poisoned"), 64 << 20);
            let mut bytes = [0; 3];
            io::Read::read_exact(&mut reader, &mut bytes).expect("written");
            assert_eq!(&bytes, b"out");
        }
    }

    #[test]
    fn the_requests_of_kvm_are_those_of_the_kernel() {
        assert_eq!(KVM_REQUESTS, [0xae80, 0x8090_ae81, 0x8138_ae83]);
    }
}
