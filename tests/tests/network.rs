//! What a network does to a connect, in a network of the test's own: there is no
//! way there, and there is no answer.
//!
//! A thread that has left its network namespace for a new one has no way to take
//! it back: each test is a thread, which ends with it.

use arca_tests::guest::Guest;
use arca_tests::skip;
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Socket, Type};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Puts this thread, and what it starts, into a network of its own, where only
/// loopback is; `false` where that cannot be had.
fn leave_the_network() -> bool {
    // Whatever is built is built before.
    let _ = (
        arca_tests::guest::vmm(),
        arca_tests::guest::image("http-get"),
    );
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
        skip(&format!("no network namespace here: {errno}"));
        return false;
    }
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    // SAFETY: all-zero bytes are a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as i16;
    // SAFETY: the request is ours, and the kernel only reads it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    true
}

fn get(address: SocketAddr) -> Guest {
    let url = format!("http://{address}/");
    Guest::start(&["--allow-connect", "any"], "http-get", &[&url])
}

#[test]
fn where_no_way_leads_is_unreachable_at_once() {
    if !leave_the_network() {
        return;
    }
    // Where a packet goes, the kernel tries for two minutes.
    let at_once = Duration::from_secs(60);
    for address in ["192.0.2.1:80", "[2001:db8::1]:80"] {
        let guest = get(address.parse().expect("an address"));
        let ended = guest.finish_within(at_once);
        ended.expect_code(1).expect_stderr("unreachable");
    }
}

#[test]
fn where_nobody_answers_the_kernel_gives_up() {
    if !leave_the_network() {
        return;
    }
    // One try instead of six: three seconds instead of two minutes.
    let retries = "/proc/sys/net/ipv4/tcp_syn_retries";
    if let Err(error) = fs::write(retries, "1") {
        return skip(&format!("{retries}: {error}"));
    }
    // A listener whose backlog is full drops what comes.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    listener.bind(&anywhere.into()).expect("a free port");
    listener.listen(0).expect("bound");
    let place = listener.local_addr().expect("bound");
    let place = place.as_socket().expect("an IP address");
    let mut filling = Vec::new();
    let soon = Duration::from_millis(300);
    while let Ok(stream) = TcpStream::connect_timeout(&place, soon) {
        filling.push(stream);
    }
    let ended = get(place).finish();
    ended.expect_code(1).expect_stderr("timed out");
}
