//! Tests of both directions, with the guest's end in the test's hands.

use super::*;
use crate::host::sandbox::Entrance;
use crate::memory::GuestMemory;
use crate::vm::outcome::{Event, Outcome, RunState};
use arca_monitor::{Link, StandardPipe, VcpuWaker};
use arca_shared::memory::{Arena, ShmOffset};
use arca_shared::pipe::{BidirectionalPipe, Side};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

mod input;
mod output;

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(20);

/// Looks until it is so; panics after [`DEADLINE`].
#[track_caller]
fn until(what: &str, mut look: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !look() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        thread::yield_now();
    }
}

struct NoVcpus;

impl VcpuWaker for NoVcpus {
    fn wake(&self, _: usize) {}
}

/// Both ends of a standard pipe; the guest's is this test's.
fn pipe() -> (StandardPipe, BidirectionalPipe) {
    let (pipe, guest, _) = pipe_in_arena();
    (pipe, guest)
}

/// As [`pipe`], with the arena in which it lies.
fn pipe_in_arena() -> (StandardPipe, BidirectionalPipe, Arena) {
    let memory = GuestMemory::new(16 << 20, 4 << 20).expect("memory");
    let arena = memory.arena();
    let mut link = Link::new(arena.clone(), Arc::new(NoVcpus), 1).expect("fits");
    let pipe = link.standard_pipe(PIPE_SIZE).expect("fits");
    let guest = BidirectionalPipe::join(&arena, pipe.place(), Side::A).expect("joins");
    (pipe, guest, arena)
}

#[test]
fn an_error_that_is_none_of_the_systems_has_an_errno_too() {
    for (error, errno) in [
        (io::Error::from_raw_os_error(libc::EISDIR), libc::EISDIR),
        (io::ErrorKind::BrokenPipe.into(), libc::EPIPE),
        (io::ErrorKind::StorageFull.into(), libc::ENOSPC),
        (io::ErrorKind::WriteZero.into(), libc::EIO),
    ] {
        assert_eq!(errno_of(&error), errno as u32, "{error}");
    }
}
