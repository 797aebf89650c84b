//! The system calls of each role, and their arguments.
//!
//! A filter sees numbers and no memory: an argument that is an int, a flag or a null
//! pointer can be checked, what an address points at cannot. So a call is listed
//! with its arguments where they decide what code of the kernel it reaches, and
//! without where all that they choose is which of the thread's own descriptors or
//! bytes it is about.

use super::Role;
use std::collections::BTreeSet;

use kvm_bindings::{kvm_regs, kvm_sregs};
use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

/// What every thread needs, whatever the arguments: memory, time, output, and its
/// own end.
const COMMON: [libc::c_long; 22] = [
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
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

/// What the relay does with sockets, whatever the arguments.
const SOCKETS: [libc::c_long; 10] = [
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_wait,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_listen,
    libc::SYS_shutdown,
];

/// Level and name of an option.
type SocketOption = (i32, i32);

/// Reading it clears the socket's error.
const ERROR: SocketOption = (libc::SOL_SOCKET, libc::SO_ERROR);

/// The options that the relay sets: those that Arca may set, and what its own work
/// needs.
pub(super) fn set_options() -> BTreeSet<SocketOption> {
    let own = [
        (libc::SOL_SOCKET, libc::SO_LINGER),
        (libc::SOL_SOCKET, libc::SO_RCVBUF),
        (libc::SOL_SOCKET, libc::SO_REUSEADDR),
        (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
        (libc::IPPROTO_TCP, libc::TCP_CONGESTION),
        (libc::IPPROTO_TCP, libc::TCP_NODELAY),
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    ];
    let arca = arca_monitor::kernel_options().filter(|&option| option != ERROR);
    arca.chain(own).collect()
}

/// The options that the relay reads.
pub(super) fn get_options() -> BTreeSet<SocketOption> {
    let own = [(libc::SOL_SOCKET, libc::SO_DOMAIN), ERROR];
    arca_monitor::kernel_options().chain(own).collect()
}

/// The type of KVM's requests.
const KVM: u64 = 0xae;

/// The number of a request of KVM's that hands out `size` bytes.
const fn kvm_read(number: u64, size: usize) -> u64 {
    const READ: u64 = 2 << 30;
    READ | (size as u64) << 16 | KVM << 8 | number
}

/// The number of a request of KVM's that takes `size` bytes.
const fn kvm_write(number: u64, size: usize) -> u64 {
    const WRITE: u64 = 1 << 30;
    WRITE | (size as u64) << 16 | KVM << 8 | number
}

/// What a vCPU's thread asks of KVM.
pub(super) const KVM_REQUESTS: [u64; 3] = [
    // KVM_RUN, KVM_GET_REGS, KVM_GET_SREGS.
    KVM << 8 | 0x80,
    kvm_read(0x81, size_of::<kvm_regs>()),
    kvm_read(0x83, size_of::<kvm_sregs>()),
];

/// What it asks of KVM besides, at a debugger's bidding: KVM_SET_REGS.
pub(super) const DEBUG_REQUEST: u64 = kvm_write(0x82, size_of::<kvm_regs>());

/// The filter of a role; `debugged`: a debugger may be at the guest.
pub(super) fn filter(role: Role, debugged: bool) -> Result<BpfProgram, BackendError> {
    let plain = |calls: &[libc::c_long]| -> Vec<_> {
        calls.iter().map(|&call| (call, Vec::new())).collect()
    };
    let mut rules = plain(&COMMON);
    let mut often = Vec::new();
    rules.extend(memory_and_locks()?);
    match role {
        Role::Stream => {}
        Role::Vcpu => {
            let requests = KVM_REQUESTS.into_iter();
            let requests = requests.chain(debugged.then_some(DEBUG_REQUEST));
            let requests = requests.map(|request| rule([is(1, request)]));
            rules.push((libc::SYS_ioctl, requests.collect::<Result<_, _>>()?));
            // What this thread has used, and no other.
            rules.push((
                libc::SYS_getrusage,
                vec![rule([is(0, libc::RUSAGE_THREAD as u64)])?],
            ));
            rules.push(own_cores()?);
        }
        Role::Relay => {
            rules.push(own_cores()?);
            rules.extend(plain(&SOCKETS));
            rules.extend(tcp()?);
            often.extend(pieces()?);
        }
    }
    let mut program = compile(often)?;
    // Its last instruction is the answer to all other calls.
    program.pop();
    program.extend(compile(rules)?);
    Ok(program)
}

/// The program that lets these calls through.
fn compile(rules: Vec<Call>) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(
        rules.into_iter().collect(),
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?
    .try_into()
}

/// A call, and the rules of which one has to hold for it.
type Call = (libc::c_long, Vec<SeccompRule>);

/// Memory of the process's own, and not to execute; locks that lend no priority.
fn memory_and_locks() -> Result<Vec<Call>, BackendError> {
    let code = libc::PROT_EXEC;
    let kind = libc::MAP_TYPE | libc::MAP_ANONYMOUS;
    let own = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let advice = [
        libc::MADV_DONTNEED,
        libc::MADV_FREE,
        libc::MADV_HUGEPAGE,
        libc::MADV_NOHUGEPAGE,
        libc::MADV_POPULATE_WRITE,
    ];
    let locks = [
        libc::FUTEX_WAIT,
        libc::FUTEX_WAKE,
        libc::FUTEX_WAIT_BITSET,
        libc::FUTEX_WAKE_BITSET,
    ];
    let modes = libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME;
    let lock = |&operation| rule([masked(1, !modes, operation)]);
    let advise = |&advice: &i32| rule([is(2, advice as u64)]);
    Ok(vec![
        (
            libc::SYS_mmap,
            vec![rule([masked(2, code, 0), masked(3, kind, own)])?],
        ),
        (libc::SYS_mprotect, vec![rule([masked(2, code, 0)])?]),
        (
            libc::SYS_madvise,
            advice.iter().map(advise).collect::<Result<_, _>>()?,
        ),
        (
            libc::SYS_futex,
            locks.iter().map(lock).collect::<Result<_, _>>()?,
        ),
    ])
}

/// On which cores this thread runs, and no other.
fn own_cores() -> Result<Call, BackendError> {
    Ok((libc::SYS_sched_setaffinity, vec![rule([is(0, 0)])?]))
}

/// The flags that the relay sends with.
const SENT: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_MORE;
/// Those that it receives with.
const RECEIVED: i32 = libc::MSG_DONTWAIT | libc::MSG_PEEK | libc::MSG_TRUNC;

/// A piece of data that goes where the socket is connected to, or comes from there. The
/// relay makes these calls for each piece. The kernel goes through a program for every call
/// with arguments to check, and the program through its calls one by one, so that to have
/// them behind the others takes 50 ns more of each.
fn pieces() -> Result<Vec<Call>, BackendError> {
    // No address: the kernel has none to send to, or to tell.
    let piece = |flags: i32| Ok(vec![rule([masked(3, !flags, 0), no_address(4)])?]);
    Ok(vec![
        (libc::SYS_sendto, piece(SENT)?),
        (libc::SYS_recvfrom, piece(RECEIVED)?),
    ])
}

/// TCP sockets, their options, and data in two pieces.
fn tcp() -> Result<Vec<Call>, BackendError> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let mut sockets = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        // 0 is the family's usual one. Another stream protocol, such as multipath
        // TCP, is other code of the kernel's.
        for protocol in [0, libc::IPPROTO_TCP] {
            sockets.push(rule([
                is(0, family as u64),
                masked(1, !flags, libc::SOCK_STREAM),
                is(2, protocol as u64),
            ])?);
        }
    }
    let options = |options: BTreeSet<SocketOption>| {
        let option =
            |&(level, name): &SocketOption| rule([is(1, level as u64), is(2, name as u64)]);
        options.iter().map(option).collect::<Result<Vec<_>, _>>()
    };
    let message = |flags: i32| Ok(vec![rule([masked(2, !flags, 0)])?]);
    Ok(vec![
        (libc::SYS_socket, sockets),
        (libc::SYS_setsockopt, options(set_options())?),
        (libc::SYS_getsockopt, options(get_options())?),
        (libc::SYS_sendmsg, message(SENT)?),
        (libc::SYS_recvmsg, message(RECEIVED)?),
    ])
}

type Condition = Result<SeccompCondition, BackendError>;

/// The rule by which all of these hold.
fn rule<const N: usize>(conditions: [Condition; N]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.into_iter().collect::<Result<_, _>>()?)
}

/// The argument, an int, has that value.
fn is(index: u8, value: u64) -> Condition {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

/// The argument, an int, has that value where the mask has ones.
fn masked(index: u8, mask: i32, value: i32) -> Condition {
    let equal = SeccompCmpOp::MaskedEq(u64::from(mask as u32));
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, equal, value as u64)
}

/// The argument is a null pointer.
fn no_address(index: u8) -> Condition {
    SeccompCondition::new(index, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)
}
