//! Socket options.

use crate::sys;
use arca_shared::protocol::message::SocketOption;
use nix::errno::Errno;
use nix::libc;
use socket2::Socket;

/// Level and name of an option of type int; `None` for those that are not the
/// kernel's to keep.
fn kernel_name(socket: &Socket, option: SocketOption) -> Option<(i32, i32)> {
    Some(match option {
        SocketOption::NoDelay => (libc::IPPROTO_TCP, libc::TCP_NODELAY),
        SocketOption::KeepAlive => (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
        SocketOption::KeepIdle => (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
        SocketOption::KeepInterval => (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
        SocketOption::KeepCount => (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
        SocketOption::Ttl => match socket.domain() {
            Ok(socket2::Domain::IPV6) => (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
            _ => (libc::IPPROTO_IP, libc::IP_TTL),
        },
        SocketOption::Error => (libc::SOL_SOCKET, libc::SO_ERROR),
        SocketOption::SendBuffer => (libc::SOL_SOCKET, libc::SO_SNDBUF),
        SocketOption::ReceiveBuffer => (libc::SOL_SOCKET, libc::SO_RCVBUF),
        SocketOption::UserTimeout => (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
        SocketOption::Linger => return None,
    })
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
