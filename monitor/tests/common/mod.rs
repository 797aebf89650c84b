//! A peer for the tests: Arca's side of a session, played by a host thread over
//! memory that it shares with the monitor. By itself it knows no more than the
//! draft: it rings no doorbell, marks no slot and looks until something is there.

#![allow(dead_code, reason = "each test binary uses its own part")]

mod peer;
mod session;
mod stream;

pub use peer::Peer;
pub use session::Session;
pub use stream::Stream;

use arca_monitor::{Link, VcpuWaker};
use arca_shared::memory::Arena;
use arca_shared::protocol::message::{Endpoint, code};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use sha2::{Digest, Sha256};
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// No test waits longer for anything.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Looks until something is there; panics after [`DEADLINE`].
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::yield_now();
    }
}

/// Counts the wakes that it is asked for.
#[derive(Default)]
pub struct CountingWaker(pub AtomicU64);

impl VcpuWaker for CountingWaker {
    fn wake(&self, _vcpu: usize) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Fresh memory for a session.
pub fn arena(size: usize) -> Arena {
    let size = NonZeroUsize::new(size).expect("not empty");
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
    // SAFETY: a new mapping, which is never unmapped.
    let base = unsafe { mmap_anonymous(None, size, protection, flags) }.expect("memory");
    // SAFETY: mapped for good, and reached only through the arena.
    unsafe { Arena::new(base.cast(), size.get()) }
}

/// A small session's memory.
pub const ARENA: usize = 64 << 20;

pub fn link(size: usize) -> (Link, Arena, Arc<CountingWaker>) {
    let arena = arena(size);
    let waker = Arc::new(CountingWaker::default());
    let link = Link::new(arena.clone(), waker.clone(), 1).expect("a link");
    (link, arena, waker)
}

pub fn endpoint(address: SocketAddr) -> Endpoint {
    match address {
        SocketAddr::V4(v4) => Endpoint {
            ip: *v4.ip(),
            port: v4.port(),
        },
        SocketAddr::V6(_) => panic!("the draft knows IPv4 only"),
    }
}

/// A message type that nobody knows.
pub const UNKNOWN_CODE: u8 = code::OPTION_VALUE + 100;

/// Bytes that look random and are the same each time.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A listener on any port, and where it is.
pub fn service() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}
