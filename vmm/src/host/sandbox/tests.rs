//! What each role is denied, and what it is not.

use super::calls::{DEBUG_REQUEST, KVM_REQUESTS, get_options, set_options};
use super::*;
use nix::libc;
use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

/// Runs `body` in a thread that has entered the sandbox.
fn inside<T: Send>(role: Role, body: impl FnOnce() -> T + Send) -> T {
    let sandbox = Sandbox::new(false).expect("compiles");
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

/// A call that must fail with EPERM if it is none of the role's, and with
/// anything else if it is: the descriptors and addresses lead nowhere.
fn denied(call: libc::c_long, args: [i64; 6]) -> bool {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the callers below pass no address that the kernel could write
    // to, and no descriptor that is open.
    let result = unsafe { libc::syscall(call, a, b, c, d, e, f) };
    result == -1 && errno() == libc::EPERM
}

#[test]
fn the_relays_sockets_are_tcp_and_nothing_else() {
    let flags = i64::from(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
    let socket = |family, kind: i32, protocol| {
        let args = [family, kind, protocol].map(i64::from);
        let [family, kind, protocol] = args;
        [0, flags].map(|flags| {
            let fd = || {
                // SAFETY: makes a descriptor, which is closed at once if it is one.
                let fd = unsafe { libc::syscall(libc::SYS_socket, family, kind | flags, protocol) };
                let error = (fd < 0).then(errno);
                // SAFETY: as above; nothing else owns it.
                unsafe { libc::close(fd as i32) };
                error
            };
            inside(Role::Relay, fd)
        })
    };
    for family in [libc::AF_INET, libc::AF_INET6] {
        for protocol in [0, libc::IPPROTO_TCP] {
            let made = socket(family, libc::SOCK_STREAM, protocol);
            assert_eq!(made, [None, None], "{family} {protocol}");
        }
        for (kind, protocol) in [
            (libc::SOCK_STREAM, libc::IPPROTO_MPTCP),
            (libc::SOCK_STREAM, libc::IPPROTO_SCTP),
            (libc::SOCK_STREAM, libc::IPPROTO_UDP),
            (libc::SOCK_DGRAM, 0),
            (libc::SOCK_DGRAM, libc::IPPROTO_UDP),
            (libc::SOCK_DGRAM, libc::IPPROTO_ICMP),
            (libc::SOCK_RAW, libc::IPPROTO_TCP),
            (libc::SOCK_RAW, libc::IPPROTO_RAW),
            (libc::SOCK_SEQPACKET, 0),
            (libc::SOCK_SEQPACKET, libc::IPPROTO_TCP),
        ] {
            let made = socket(family, kind, protocol);
            let no = Some(libc::EPERM);
            assert_eq!(made, [no, no], "{family} {kind} {protocol}");
        }
    }
    for family in [
        libc::AF_UNIX,
        libc::AF_NETLINK,
        libc::AF_PACKET,
        libc::AF_VSOCK,
    ] {
        let made = socket(family, libc::SOCK_STREAM, 0);
        assert_eq!(made, [Some(libc::EPERM); 2], "{family}");
    }
}

#[test]
fn the_relay_has_the_options_it_uses_and_no_other() {
    // Every option that there is or will be soon, of every level.
    let levels = [
        libc::SOL_SOCKET,
        libc::IPPROTO_IP,
        libc::IPPROTO_TCP,
        libc::IPPROTO_UDP,
        libc::IPPROTO_IPV6,
        libc::IPPROTO_RAW,
        282,
        284,
    ];
    for (call, used) in [
        (libc::SYS_setsockopt, set_options()),
        (libc::SYS_getsockopt, get_options()),
    ] {
        for level in levels {
            let open: Vec<i32> = inside(Role::Relay, || {
                let open =
                    |name: &i32| !denied(call, [-1, level.into(), i64::from(*name), 0, 0, 0]);
                (0..100).filter(open).collect()
            });
            let wanted = used.iter().filter(|(of, _)| *of == level);
            let mut wanted: Vec<i32> = wanted.map(|(_, name)| *name).collect();
            wanted.sort_unstable();
            assert_eq!(open, wanted, "{call} {level}");
        }
    }
}

#[test]
fn the_relay_may_stop_pacing() {
    let name = b"reno";
    let result = inside(Role::Relay, || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        // SAFETY: the name is ours to read, and of that length.
        let result = unsafe {
            libc::setsockopt(
                listener.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_CONGESTION,
                name.as_ptr().cast(),
                name.len() as libc::socklen_t,
            )
        };
        (result == -1).then(errno)
    });
    assert_eq!(result, None);
}

/// A name, the roles, the call with its arguments, and whether they may make it.
type Case<'a> = (&'a str, &'a [Role], libc::c_long, [i64; 6], bool);

#[test]
fn arguments_are_those_of_the_threads_work() {
    let page = 4096;
    let private = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let write = i64::from(libc::PROT_READ | libc::PROT_WRITE);
    let futex = |op: i32| [0, i64::from(op), 0, 0, 0, 0];
    let send = |flags: i32, address| [-1, 0, 0, i64::from(flags), address, 0];
    let message = |flags: i32| [-1, 0, i64::from(flags), 0, 0, 0];
    let mine = i64::from(libc::FUTEX_PRIVATE_FLAG);
    let cases: &[Case<'_>] = &[
        (
            "discard",
            &ROLES,
            libc::SYS_madvise,
            [1, page, libc::MADV_DONTNEED.into(), 0, 0, 0],
            true,
        ),
        (
            "fill in",
            &ROLES,
            libc::SYS_madvise,
            [1, page, libc::MADV_POPULATE_WRITE.into(), 0, 0, 0],
            true,
        ),
        (
            "poison",
            &ROLES,
            libc::SYS_madvise,
            [1, page, libc::MADV_HWPOISON.into(), 0, 0, 0],
            false,
        ),
        (
            "offline",
            &ROLES,
            libc::SYS_madvise,
            [1, page, libc::MADV_SOFT_OFFLINE.into(), 0, 0, 0],
            false,
        ),
        (
            "map a file",
            &ROLES,
            libc::SYS_mmap,
            [0, page, write, libc::MAP_SHARED.into(), -1, 0],
            false,
        ),
        (
            "map",
            &ROLES,
            libc::SYS_mmap,
            [0, 0, write, private, -1, 0],
            true,
        ),
        (
            "map code",
            &ROLES,
            libc::SYS_mmap,
            [0, 0, write | i64::from(libc::PROT_EXEC), private, -1, 0],
            false,
        ),
        (
            "make code",
            &ROLES,
            libc::SYS_mprotect,
            [1, 0, libc::PROT_EXEC.into(), 0, 0, 0],
            false,
        ),
        (
            "wake",
            &ROLES,
            libc::SYS_futex,
            futex(libc::FUTEX_WAKE_BITSET | libc::FUTEX_PRIVATE_FLAG),
            true,
        ),
        (
            "requeue",
            &ROLES,
            libc::SYS_futex,
            futex(libc::FUTEX_CMP_REQUEUE_PI),
            false,
        ),
        (
            "inherit",
            &ROLES,
            libc::SYS_futex,
            [0, i64::from(libc::FUTEX_LOCK_PI) | mine, 0, 0, 0, 0],
            false,
        ),
        (
            "send",
            &[Role::Relay],
            libc::SYS_sendto,
            send(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL, 0),
            true,
        ),
        (
            "send to",
            &[Role::Relay],
            libc::SYS_sendto,
            send(libc::MSG_NOSIGNAL, 1),
            false,
        ),
        (
            "connect by sending",
            &[Role::Relay],
            libc::SYS_sendto,
            send(libc::MSG_FASTOPEN, 0),
            false,
        ),
        (
            "connect by a message",
            &[Role::Relay],
            libc::SYS_sendmsg,
            message(libc::MSG_FASTOPEN),
            false,
        ),
        (
            "pin pages",
            &[Role::Relay],
            libc::SYS_sendmsg,
            message(libc::MSG_ZEROCOPY),
            false,
        ),
        (
            "a message",
            &[Role::Relay],
            libc::SYS_sendmsg,
            message(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL),
            true,
        ),
        (
            "peek",
            &[Role::Relay],
            libc::SYS_recvfrom,
            send(libc::MSG_DONTWAIT | libc::MSG_PEEK, 0),
            true,
        ),
        (
            "errors",
            &[Role::Relay],
            libc::SYS_recvmsg,
            message(libc::MSG_ERRQUEUE),
            false,
        ),
        (
            "run",
            &[Role::Vcpu],
            libc::SYS_ioctl,
            [-1, 0xae80, 0, 0, 0, 0],
            true,
        ),
        (
            "make a machine",
            &[Role::Vcpu],
            libc::SYS_ioctl,
            [-1, 0xae01, 0, 0, 0, 0],
            false,
        ),
        (
            "set registers",
            &[Role::Vcpu],
            libc::SYS_ioctl,
            [-1, 0x4090_ae82, 0, 0, 0, 0],
            false,
        ),
    ];
    for &(what, roles, call, args, allowed) in cases {
        for &role in roles {
            let denied = inside(role, || denied(call, args));
            assert_eq!(!denied, allowed, "{what} as {role:?}");
        }
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
    assert_eq!(DEBUG_REQUEST, 0x4090_ae82);
}
