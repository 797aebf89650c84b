//! What std does not do with a socket, and its errors.

use crate::system::Failure;
use arca_shared::errno::Errno;
use arca_shared::protocol::message::SocketOption;
use nix::libc;
use socket2::SockRef;
use std::io::{self, ErrorKind};
use std::mem::size_of;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// The failure that an error of std is. What std says without an errno, it says
/// in kinds of its own.
fn failure(error: &io::Error) -> Failure {
    match (error.raw_os_error(), error.kind()) {
        (Some(number), _) => Failure::Errno(Errno(number.unsigned_abs())),
        (None, ErrorKind::UnexpectedEof) => Failure::UnexpectedEof,
        (None, ErrorKind::InvalidInput) => Failure::Errno(Errno::EINVAL),
        (None, ErrorKind::TimedOut) => Failure::Errno(Errno::ETIMEDOUT),
        _ => Failure::Other("without a number"),
    }
}

/// The same result with the failure that its error is.
pub(super) fn checked<T>(result: io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| failure(&error))
}

/// The errno of a pending error.
pub(super) fn pending(error: io::Result<Option<io::Error>>) -> Result<Option<Errno>, Failure> {
    let number = checked(error)?.and_then(|error| error.raw_os_error());
    Ok(number.map(|number| Errno(number.unsigned_abs())))
}

fn zero_or_errno(result: i32) -> Result<(), Failure> {
    match result {
        0 => Ok(()),
        _ => Err(failure(&io::Error::last_os_error())),
    }
}

/// Level and name of an option of type int.
fn kernel_name(option: SocketOption) -> (i32, i32) {
    match option {
        SocketOption::NoDelay => (libc::IPPROTO_TCP, libc::TCP_NODELAY),
        SocketOption::KeepAlive => (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
        SocketOption::KeepIdle => (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
        SocketOption::KeepInterval => (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
        SocketOption::KeepCount => (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
        SocketOption::Ttl => (libc::IPPROTO_IP, libc::IP_TTL),
        SocketOption::Error => (libc::SOL_SOCKET, libc::SO_ERROR),
        SocketOption::SendBuffer => (libc::SOL_SOCKET, libc::SO_SNDBUF),
        SocketOption::ReceiveBuffer => (libc::SOL_SOCKET, libc::SO_RCVBUF),
        SocketOption::Linger => (libc::SOL_SOCKET, libc::SO_LINGER),
        SocketOption::UserTimeout => (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    }
}

/// Reads an option.
pub(super) fn get_option(socket: &SockRef<'_>, option: SocketOption) -> Result<u64, Failure> {
    if option == SocketOption::Linger {
        let linger = checked(socket.linger())?;
        return Ok(linger.map_or(0, |time| time.as_secs() + 1));
    }
    let (level, name) = kernel_name(option);
    let mut value = 0i32;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: value and length are ours, the length is the value's.
    let result = unsafe {
        let value = (&raw mut value).cast();
        libc::getsockopt(socket.as_raw_fd(), level, name, value, &raw mut len)
    };
    zero_or_errno(result)?;
    Ok(u64::from(value.unsigned_abs()))
}

/// Sets an option.
pub(super) fn set_option(
    socket: &SockRef<'_>,
    option: SocketOption,
    value: u64,
) -> Result<(), Failure> {
    if option == SocketOption::Linger {
        let time = value.checked_sub(1).map(Duration::from_secs);
        return checked(socket.set_linger(time));
    }
    let (level, name) = kernel_name(option);
    let value = i32::try_from(value).map_err(|_| Failure::Errno(Errno::EINVAL))?;
    // SAFETY: the value is ours to read, and of that length.
    let result = unsafe {
        let len = size_of::<i32>() as libc::socklen_t;
        let value = (&raw const value).cast();
        libc::setsockopt(socket.as_raw_fd(), level, name, value, len)
    };
    zero_or_errno(result)
}

/// Waits until the buffer is full; less at the end, and before an error.
pub(super) fn receive_all(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let (address, len) = (buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: the kernel writes at most so many bytes into the buffer, which is ours.
    let result = unsafe { libc::recv(stream.as_raw_fd(), address, len, libc::MSG_WAITALL) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// What an ioctl of a socket counts.
pub(super) fn count(stream: &TcpStream, request: libc::Ioctl) -> usize {
    let mut count: i32 = 0;
    // SAFETY: both requests that are used here store one int.
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), request, &raw mut count) };
    match result {
        0 => usize::try_from(count).unwrap_or(0),
        _ => 0,
    }
}

/// Whether poll reports that of the stream.
pub(super) fn polled(stream: &TcpStream, wanted: libc::c_short) -> bool {
    let mut fd = libc::pollfd {
        fd: stream.as_raw_fd(),
        events: wanted,
        revents: 0,
    };
    // SAFETY: one entry, which is ours.
    let reported = unsafe { libc::poll(&raw mut fd, 1, 0) };
    reported == 1 && fd.revents & wanted != 0
}
