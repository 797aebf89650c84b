//! The system calls of the relay: socket data moves straight from and to a
//! ring's memory, and no call blocks, raises SIGPIPE, or returns EINTR.

use arca_shared::ring::Parts;
use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MmapAdvise, madvise};
use socket2::{SockAddr, SockRef, Socket};
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::time::Duration;

/// Calls `call` until it was not interrupted, and turns -1 into the errno.
fn retry(mut call: impl FnMut() -> isize) -> Result<usize, Errno> {
    loop {
        match usize::try_from(call()) {
            Ok(value) => return Ok(value),
            Err(_) => match Errno::last() {
                Errno::EINTR => {}
                errno => return Err(errno),
            },
        }
    }
}

/// The two pieces of a ring's data as the kernel takes them.
fn iovecs(parts: &Parts) -> [libc::iovec; 2] {
    [parts.first, parts.second].map(|(address, len)| libc::iovec {
        iov_base: address.as_ptr().cast(),
        iov_len: len,
    })
}

/// A message header over the pieces.
fn message(iovecs: &mut [libc::iovec; 2]) -> libc::msghdr {
    // SAFETY: a msghdr of zeros is valid: no name, no pieces, no control data.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = iovecs.as_mut_ptr();
    message.msg_iovlen = iovecs.len();
    message
}

/// Receives into the room of a ring; 0 is the end of the stream.
pub(crate) fn receive(socket: &Socket, room: &Parts) -> Result<usize, Errno> {
    let fd = socket.as_raw_fd();
    if room.second.1 == 0 {
        let (address, len) = (room.first.0.as_ptr().cast(), room.first.1);
        // SAFETY: as below. One piece has a cheaper call.
        return retry(|| unsafe { libc::recv(fd, address, len, libc::MSG_DONTWAIT) });
    }
    let mut iovecs = iovecs(room);
    let mut message = message(&mut iovecs);
    // SAFETY: the pieces are the producer's to write until it commits, inside
    // the mapping that the ring keeps; the header outlives the call.
    retry(|| unsafe { libc::recvmsg(fd, &mut message, libc::MSG_DONTWAIT) })
}

/// Sends the data of a ring.
pub(crate) fn send(socket: &Socket, data: &Parts) -> Result<usize, Errno> {
    let fd = socket.as_raw_fd();
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    if data.second.1 == 0 {
        let (address, len) = (data.first.0.as_ptr().cast(), data.first.1);
        // SAFETY: as below. One piece has a cheaper call.
        return retry(|| unsafe { libc::send(fd, address, len, flags) });
    }
    let mut iovecs = iovecs(data);
    let message = message(&mut iovecs);
    // SAFETY: the pieces are the consumer's to read until it consumes them,
    // inside the mapping that the ring keeps; the header outlives the call. The
    // guest may change the bytes meanwhile: then it sends other bytes.
    retry(|| unsafe { libc::sendmsg(fd, &message, flags) })
}

/// Has the kernel send what it keeps back.
///
/// It sends no short segment while another is unacknowledged (Nagle's algorithm),
/// and a peer may take 40 ms to acknowledge one (tcp(7), delayed acknowledgements).
/// A program that writes a stream makes one short segment, at its end. A relay
/// makes one whenever it has caught up with the program, and the stream's end would
/// wait for the one before. MSG_MORE would not help: the last piece before the relay
/// has caught up has nothing behind it.
pub(crate) fn push(socket: &Socket) {
    let socket = SockRef::from(socket);
    // All fail only if the connection is gone. Where Arca turned Nagle's algorithm
    // off itself, nothing is kept back, and it stays off.
    if matches!(socket.tcp_nodelay(), Ok(false)) {
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_nodelay(false);
    }
}

/// Whether a byte has come that nobody has read.
pub(crate) fn has_unread(socket: &Socket) -> bool {
    let mut byte = 0u8;
    let flags = libc::MSG_DONTWAIT | libc::MSG_PEEK;
    // SAFETY: one byte of our own stack may be written.
    let result =
        retry(|| unsafe { libc::recv(socket.as_raw_fd(), (&raw mut byte).cast(), 1, flags) });
    matches!(result, Ok(1..))
}

/// Makes the closing of the socket a reset.
pub(crate) fn reset_on_close(socket: &Socket) {
    // A socket that the peer has reset may refuse; it has nothing left to reset.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Has the kernel give the peer up, with ETIMEDOUT, once it has taken nothing of what
/// there is for it for `limit`, unless the socket's own limit is shorter.
pub(crate) fn limit_silence(socket: &Socket, limit: Duration) {
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT);
    // 0 would be the kernel's default.
    let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX).max(1);
    // Both fail only if the connection is gone, which is found out anyway.
    let own = get_option(socket, level, name).unwrap_or(0);
    if own <= 0 || own > limit {
        let _ = set_option(socket, level, name, limit);
    }
}

/// Closes a socket whose two directions are shut down, so that all that was sent is
/// still delivered: the kernel alone would reset the connection for bytes that are
/// unread, and drop what the peer has not acknowledged.
pub(crate) fn close_in_order(socket: Socket) {
    // All fail only if the connection is gone. The bytes are thrown away, and their
    // room is not offered to the peer: for what it sent into that, the kernel would
    // reset the connection as well. So it shrinks first.
    let _ = socket.set_recv_buffer_size(0);
    // From here on nothing more is queued: what comes to a socket that is shut down
    // in both directions is answered with a reset.
    let _ = socket.shutdown(Shutdown::Both);
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    let discard = || {
        // SAFETY: with MSG_TRUNC, tcp(7) discards the bytes and writes none.
        retry(|| unsafe {
            let nowhere = std::ptr::null_mut();
            libc::recv(socket.as_raw_fd(), nowhere, 1 << 30, flags)
        })
    };
    while matches!(discard(), Ok(1..)) {}
}

/// The pending error of a socket, which is thereby cleared.
pub(crate) fn take_error(socket: &Socket) -> Option<Errno> {
    let error = socket.take_error().ok().flatten()?;
    error.raw_os_error().map(Errno::from_raw)
}

/// Starts or continues a connect without blocking: `Ok` when it is there,
/// EINPROGRESS or EALREADY while it is not.
pub(crate) fn connect(socket: &Socket, address: &SockAddr) -> Result<(), Errno> {
    // An interrupted non-blocking connect goes on by itself.
    match socket.connect(address) {
        Ok(()) => Ok(()),
        Err(error) => match errno_of(&error) {
            Errno::EISCONN => Ok(()),
            Errno::EINTR => Err(Errno::EINPROGRESS),
            errno => Err(errno),
        },
    }
}

/// Takes a connection off a listener's backlog, with its peer's address.
pub(crate) fn accept(listener: &Socket) -> Result<(Socket, Option<SocketAddr>), Errno> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    loop {
        // SAFETY: the closure gives accept4 the storage and its length, and the
        // kernel fills in no more than that length.
        let result = unsafe {
            SockAddr::try_init(|storage, len| {
                match libc::accept4(listener.as_raw_fd(), storage.cast(), len, flags) {
                    -1 => Err(io::Error::last_os_error()),
                    fd => Ok(fd),
                }
            })
        };
        match result {
            Ok((fd, peer)) => {
                // SAFETY: a fresh descriptor that nothing else owns.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                return Ok((Socket::from(fd), peer.as_socket()));
            }
            Err(error) => match errno_of(&error) {
                // That one is gone; the next may not be.
                Errno::EINTR | Errno::ECONNABORTED => {}
                errno => return Err(errno),
            },
        }
    }
}

/// Has the kernel back these pages of a mapping of ours, as if each had been written to.
/// Pages that have been are left alone. Linux has known how since 5.14.
pub(crate) fn populate(address: NonNull<u8>, len: usize) -> Result<(), Errno> {
    // SAFETY: this fills pages in that would be at their first access, and changes
    // nothing that they hold; where nothing is mapped it fails.
    unsafe { madvise(address.cast(), len, MmapAdvise::MADV_POPULATE_WRITE) }
}

/// The errno of an error of the operating system; EIO for any other.
pub(crate) fn errno_of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// An errno as the wire carries it.
pub(crate) fn wire_errno(errno: Errno) -> arca_shared::errno::Errno {
    match errno as i32 {
        number @ 1.. => arca_shared::errno::Errno(number as u32),
        _ => arca_shared::errno::Errno::UNKNOWN,
    }
}

/// Reads an option of type int.
pub(crate) fn get_option(socket: &Socket, level: i32, name: i32) -> Result<i32, Errno> {
    let mut value = 0i32;
    let mut len = size_of::<i32>() as libc::socklen_t;
    let fd = socket.as_raw_fd();
    // SAFETY: value and length are ours, and the length is that of the value.
    retry(|| unsafe {
        libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut len) as isize
    })?;
    Ok(value)
}

/// Sets an option of type int.
pub(crate) fn set_option(socket: &Socket, level: i32, name: i32, value: i32) -> Result<(), Errno> {
    let len = size_of::<i32>() as libc::socklen_t;
    let fd = socket.as_raw_fd();
    // SAFETY: the value is ours to read and of that length.
    retry(|| unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), len) as isize })
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    /// Bytes that the kernel keeps back: written, and not sent even once.
    fn kept_back(socket: &Socket) -> i32 {
        /// SIOCOUTQNSD of linux/sockios.h.
        const OUTQ_NOT_SENT: libc::c_ulong = 0x894b;
        let mut count: libc::c_int = 0;
        // SAFETY: the request stores an int, which is ours.
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), OUTQ_NOT_SENT, &raw mut count) };
        assert_eq!(result, 0);
        count
    }

    #[test]
    fn a_push_leaves_nothing_behind_and_the_option_as_it_was() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let socket = Socket::from(TcpStream::connect(address).expect("it listens"));
        for nodelay in [false, true] {
            socket.set_tcp_nodelay(nodelay).expect("an option");
            if !nodelay {
                // MSG_MORE keeps back what Nagle's algorithm would.
                let sent = socket.send_with_flags(b"short", libc::MSG_MORE);
                assert_eq!(sent.expect("sends"), 5);
                assert_eq!(kept_back(&socket), 5);
                push(&socket);
                assert_eq!(kept_back(&socket), 0);
            }
            push(&socket);
            assert_eq!(socket.tcp_nodelay().expect("an option"), nodelay);
        }
    }
}
