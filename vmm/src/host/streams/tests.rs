//! Tests of both directions, with the guest's end in the test's hands.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Instant;

use arca_monitor::{Link, StandardPipe, VcpuWaker};
use arca_shared::pipe::{BidirectionalPipe, Side};
use arca_shared::protocol::input_request::ReadRequest;

use super::*;
use crate::host::sandbox::Entrance;
use crate::memory::GuestMemory;
use crate::platform::uart::tests::Kept;
use crate::vm::outcome::RunState;

struct NoVcpus;

impl VcpuWaker for NoVcpus {
    fn wake(&self, _: usize) {}
}

/// Both ends of a standard pipe; the guest's is this test's.
fn pipe() -> (StandardPipe, BidirectionalPipe) {
    let memory = GuestMemory::new(16 << 20, 4 << 20).expect("memory");
    let arena = memory.arena();
    let mut link = Link::new(arena.clone(), Arc::new(NoVcpus), 1).expect("fits");
    let pipe = link.standard_pipe(PIPE_SIZE).expect("fits");
    let guest = BidirectionalPipe::join(&arena, pipe.place(), Side::A).expect("joins");
    (pipe, guest)
}

fn start(
    pipe: StandardPipe,
    writer: impl Write + Send + 'static,
) -> (Outgoing, Arc<StreamProgress>) {
    let progress = Arc::new(StreamProgress::default());
    let writer: Box<dyn Write + Send> = Box::new(writer);
    let entrance = Entrance::default();
    let stream = Outgoing::stdout(pipe, writer.into(), Arc::clone(&progress), entrance);
    (stream.expect("thread"), progress)
}

#[test]
fn what_an_ended_guest_wrote_is_delivered() {
    let (pipe, mut guest) = pipe();
    assert_eq!(guest.write(&[b'x'; 50_000]).expect("room"), 50_000);
    let kept = Kept::default();
    let (stream, progress) = start(pipe, kept.clone());
    stream.guest_ended();
    assert_eq!(stream.drain(&RunState::default()), 0);
    assert_eq!(progress.delivered.get(), 50_000);
    assert_eq!(kept.text(), "x".repeat(50_000));
}

#[test]
fn a_writer_that_fails_fails_the_pipe_with_its_errno() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(libc::ENOSPC))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (pipe, mut guest) = pipe();
    guest.write(b"lost").expect("room");
    let (stream, progress) = start(pipe, Full);
    while !guest.is_peer_read_closed() {
        std::thread::yield_now();
    }
    assert_eq!(guest.incoming().errno(), libc::ENOSPC as u32);
    assert_eq!(stream.drain(&RunState::default()), 4);
    assert_eq!(progress.delivered.get(), 0);
}

#[test]
fn a_writer_whose_flush_fails_has_delivered_nothing_for_sure() {
    struct Forgetful;
    impl Write for Forgetful {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
    let (pipe, mut guest) = pipe();
    guest.write(b"lost").expect("room");
    let (stream, _) = start(pipe, Forgetful);
    while !guest.is_peer_read_closed() {
        std::thread::yield_now();
    }
    assert_eq!(stream.drain(&RunState::default()), 4);
}

/// A pipe of the kernel's, which holds 64 KiB, with `len` bytes in it already.
fn filled(len: usize) -> (io::PipeReader, io::PipeWriter) {
    let (reader, mut writer) = io::pipe().expect("pipe");
    writer.write_all(&vec![0; len]).expect("room");
    (reader, writer)
}

#[test]
fn a_ring_is_empty_only_when_its_bytes_are_delivered() {
    let (mut reader, writer) = filled(60 << 10);
    let (pipe, mut guest) = pipe();
    let size = PIPE_SIZE as usize;
    assert_eq!(guest.write(&vec![0; size]), Ok(size));
    let (stream, progress) = start(pipe, writer);
    // There is no monitor here that would wake the thread: the ring is full when
    // it starts. What the kernel has no room for stays there.
    while progress.delivered.get() < 4096 {
        stream.worker().signal();
        std::thread::yield_now();
    }
    assert_eq!(guest.outgoing().free(), Ok(4096));
    reader
        .read_exact(&mut vec![0; (60 << 10) + size])
        .expect("written");
    while guest.outgoing().free() != Ok(size) {
        std::thread::yield_now();
    }
    stream.guest_ended();
    assert_eq!(stream.drain(&RunState::default()), 0);
}

#[test]
fn a_reader_that_stalls_is_given_up_on() {
    let (_reader, writer) = filled(60 << 10);
    let (pipe, mut guest) = pipe();
    let size = PIPE_SIZE;
    assert_eq!(guest.write(&vec![0; size as usize]), Ok(size as usize));
    let (stream, progress) = start(pipe, writer);
    stream.guest_ended();
    let started = Instant::now();
    assert_eq!(stream.drain(&RunState::default()), size - 4096);
    assert!(started.elapsed() >= STALL_LIMIT);
    assert_eq!(progress.delivered.get(), 4096);
}

#[test]
fn one_that_only_ever_takes_a_byte_has_so_long_in_all_once_a_stop_is_asked_for() {
    let (mut reader, writer) = filled(60 << 10);
    let (pipe, mut guest) = pipe();
    guest.write(&[0; 50_000]).expect("room");
    let (stream, _) = start(pipe, writer);
    stream.guest_ended();
    let run_state = RunState::default();
    run_state.ask_stop(crate::vm::outcome::Outcome::TimedOut);
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Relaxed: it only has to be seen some time.
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                reader
                    .read_exact(&mut [0])
                    .expect("more than that is there");
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        assert!(stream.drain(&run_state) > 0);
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// Asks for `len` bytes of standard input, as a guest does.
fn ask(guest: &mut BidirectionalPipe, len: u32) {
    let request = ReadRequest(len).encode();
    assert_eq!(guest.write(&request), Ok(request.len()));
}

#[test]
fn input_is_read_when_it_is_asked_for_and_no_more_of_it() {
    let (reader, mut writer) = io::pipe().expect("pipe");
    let mut rest = reader.try_clone().expect("descriptor");
    let (pipe, mut guest) = pipe();
    // There is no monitor here that would wake the thread: all is asked at once.
    for len in [3, 0, 6] {
        ask(&mut guest, len);
    }
    writer.write_all(b"hello, guest").expect("room");
    drop(writer);
    let stream = Incoming::start(pipe, Box::new(reader), Entrance::default()).expect("thread");
    while guest.incoming().available().expect("true") < 9 {
        std::thread::yield_now();
    }
    let mut bytes = [0; 20];
    assert_eq!(guest.read(&mut bytes), Ok(9));
    assert_eq!(&bytes[..9], b"hello, gu");
    stream.stop();
    assert_eq!(rest.read(&mut bytes).expect("a pipe"), 3);
    assert_eq!(&bytes[..3], b"est");
}

#[test]
fn input_ends_where_its_reader_ends() {
    let (pipe, mut guest) = pipe();
    ask(&mut guest, 1000);
    ask(&mut guest, 1000);
    let reader = Box::new(&b"hello"[..]);
    let stream = Incoming::start(pipe, reader, Entrance::default()).expect("thread");
    while !guest.is_peer_write_closed() {
        std::thread::yield_now();
    }
    let mut bytes = [0; 8];
    assert_eq!(guest.read(&mut bytes).expect("there"), 5);
    assert_eq!(&bytes[..5], b"hello");
    assert_eq!(guest.incoming().errno(), 0);
    stream.stop();
}

#[test]
fn input_that_cannot_be_read_is_an_error() {
    struct Directory;
    impl Read for Directory {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(libc::EISDIR))
        }
    }
    let (pipe, mut guest) = pipe();
    ask(&mut guest, 100);
    let stream = Incoming::start(pipe, Box::new(Directory), Entrance::default()).expect("thread");
    while !guest.is_peer_write_closed() {
        std::thread::yield_now();
    }
    assert_eq!(guest.incoming().errno(), libc::EISDIR as u32);
    stream.stop();
}
