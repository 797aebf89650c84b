//! Socket options.

use crate::sys;
use arca_shared::protocol::message::SocketOption;
use nix::errno::Errno;
use nix::libc;
use socket2::{Domain, Socket};

/// Level and name of what the kernel keeps of an option, an int; one that differs
/// between the families has a line for each. SO_LINGER is not the kernel's to keep.
const KERNEL_NAMES: [(SocketOption, i32, i32); 11] = [
    (SocketOption::NoDelay, libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (
        SocketOption::KeepAlive,
        libc::SOL_SOCKET,
        libc::SO_KEEPALIVE,
    ),
    (
        SocketOption::KeepIdle,
        libc::IPPROTO_TCP,
        libc::TCP_KEEPIDLE,
    ),
    (
        SocketOption::KeepInterval,
        libc::IPPROTO_TCP,
        libc::TCP_KEEPINTVL,
    ),
    (
        SocketOption::KeepCount,
        libc::IPPROTO_TCP,
        libc::TCP_KEEPCNT,
    ),
    (SocketOption::Ttl, libc::IPPROTO_IP, libc::IP_TTL),
    (
        SocketOption::Ttl,
        libc::IPPROTO_IPV6,
        libc::IPV6_UNICAST_HOPS,
    ),
    (SocketOption::Error, libc::SOL_SOCKET, libc::SO_ERROR),
    (SocketOption::SendBuffer, libc::SOL_SOCKET, libc::SO_SNDBUF),
    (
        SocketOption::ReceiveBuffer,
        libc::SOL_SOCKET,
        libc::SO_RCVBUF,
    ),
    (
        SocketOption::UserTimeout,
        libc::IPPROTO_TCP,
        libc::TCP_USER_TIMEOUT,
    ),
];

/// Level and name of every option of the kernel's that Arca may get, and, all but
/// SO_ERROR, set: what a sandbox around the monitor's thread has to let through.
pub fn kernel_options() -> impl Iterator<Item = (i32, i32)> {
    KERNEL_NAMES.iter().map(|&(_, level, name)| (level, name))
}

/// Level and name of an option for a socket of this family; `None` for those that
/// are not the kernel's to keep.
fn kernel_name(socket: &Socket, option: SocketOption) -> Option<(i32, i32)> {
    let mut names = KERNEL_NAMES.iter().filter(|(of, ..)| *of == option);
    let &(_, level, name) = names.next()?;
    // The other family's line, where there is one.
    if let Some(&(_, level, name)) = names.next()
        && socket.domain().is_ok_and(|domain| domain == Domain::IPV6)
    {
        return Some((level, name));
    }
    Some((level, name))
}

/// Sets an option. SO_LINGER goes to `linger` and not to the kernel, whose close
/// would block for as long.
pub(crate) fn set(
    socket: &Socket,
    linger: &mut u64,
    option: SocketOption,
    value: u64,
) -> Result<(), Errno> {
    if option == SocketOption::Error {
        return Err(Errno::ENOPROTOOPT);
    }
    let number = i32::try_from(value).map_err(|_| Errno::EINVAL)?;
    match kernel_name(socket, option) {
        Some((level, name)) => sys::set_option(socket, level, name, number),
        None => {
            *linger = value;
            Ok(())
        }
    }
}

/// Gets an option.
pub(crate) fn get(socket: &Socket, linger: u64, option: SocketOption) -> Result<u64, Errno> {
    let Some((level, name)) = kernel_name(socket, option) else {
        return Ok(linger);
    };
    let value = sys::get_option(socket, level, name)?;
    Ok(u64::try_from(value).unwrap_or(0))
}
