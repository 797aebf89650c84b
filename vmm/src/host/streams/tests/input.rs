//! Standard input.

use super::*;
use arca_shared::protocol::input_request::ReadRequest;
use arca_shared::ring::RingHeader;

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
    until("the input", || {
        guest.incoming().available().expect("true") >= 9
    });
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
    until("the end of the input", || guest.is_peer_write_closed());
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
    until("the end of the input", || guest.is_peer_write_closed());
    assert_eq!(guest.incoming().errno(), libc::EISDIR as u32);
    stream.stop();
}

#[test]
fn a_read_that_has_to_wait_is_repeated() {
    struct Slow(Vec<io::ErrorKind>);
    impl Read for Slow {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            if let Some(kind) = self.0.pop() {
                return Err(kind.into());
            }
            bytes[..4].copy_from_slice(b"late");
            Ok(4)
        }
    }
    use io::ErrorKind::{Interrupted, WouldBlock};
    let (pipe, mut guest) = pipe();
    ask(&mut guest, 4);
    let slow = Slow(vec![WouldBlock, Interrupted, Interrupted, WouldBlock]);
    let stream = Incoming::start(pipe, Box::new(slow), Entrance::default()).expect("thread");
    until("the input", || guest.incoming().available() == Ok(4));
    let mut bytes = [0; 4];
    assert_eq!(guest.read(&mut bytes), Ok(4));
    assert_eq!(&bytes, b"late");
    assert!(!guest.is_peer_write_closed());
    stream.stop();
}

/// A reader that says when its thread has let go of it.
struct Held<R>(R, Arc<AtomicBool>);

impl<R: Read> Read for Held<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl<R> Drop for Held<R> {
    fn drop(&mut self) {
        // Relaxed: the thread is joined before it is looked at, or it is read
        // again.
        self.1.store(true, Ordering::Relaxed);
    }
}

#[test]
fn input_that_is_stopped_is_not_read_any_more() {
    // One that waits for a reader, and one that waits for its guest.
    for asked in [true, false] {
        let (reader, _writer) = io::pipe().expect("pipe");
        let dropped = Arc::new(AtomicBool::new(false));
        let (pipe, mut guest) = pipe();
        if asked {
            ask(&mut guest, 10);
        }
        let held = Box::new(Held(reader, Arc::clone(&dropped)));
        let stream = Incoming::start(pipe, held, Entrance::default()).expect("thread");
        if asked {
            // It has taken the request, and is about to read.
            until("the request to be taken", || {
                guest.outgoing().free() == Ok(PIPE_SIZE as usize)
            });
        }
        stream.stop();
        until("its thread's end", || dropped.load(Ordering::Relaxed));
    }
}

/// What becomes of a guest of which `spoil` is done before its input comes.
fn outcome_of(spoil: impl FnOnce(&mut BidirectionalPipe, &Arena)) -> Option<Outcome> {
    let (pipe, mut guest, arena) = pipe_in_arena();
    // More than there is room for, so that the guest's cursor is read.
    ask(&mut guest, PIPE_SIZE as u32);
    ask(&mut guest, 10);
    spoil(&mut guest, &arena);
    let dropped = Arc::new(AtomicBool::new(false));
    let reader = Box::new(Held(io::repeat(b'x'), Arc::clone(&dropped)));
    let entrance = Entrance::default();
    let run_state = Arc::clone(&entrance.run_state);
    let stream = Incoming::start(pipe, reader, entrance).expect("thread");
    until("its thread's end", || dropped.load(Ordering::Relaxed));
    stream.stop();
    match run_state.next(Some(Instant::now())) {
        Event::Ended(outcome) => Some(outcome),
        Event::DumpAsked | Event::Deadline => None,
    }
}

#[test]
fn a_guest_that_takes_no_more_input_breaks_no_rule() {
    let outcome = outcome_of(|guest, _| guest.close_read());
    assert!(outcome.is_none(), "{outcome:?}");
}

#[test]
fn a_guest_whose_cursor_of_the_input_cannot_be_true_breaks_a_rule() {
    let outcome = outcome_of(|guest, arena| {
        let header = guest.shm_offset().0 + RingHeader::SIZE as u64 + PIPE_SIZE;
        let header = arena.from_offset(ShmOffset(header), 24, 8).expect("inside");
        // SAFETY: ring B's header: inside the arena, aligned, all of it atomic.
        let header = unsafe { header.cast::<RingHeader>().as_ref() };
        // More taken than is ever written.
        header.read_cursor.store(1 << 40, Ordering::Release);
    });
    let Some(Outcome::Violation(rule)) = &outcome else {
        panic!("{outcome:?}");
    };
    assert!(rule.starts_with("the pipe of standard input: "), "{rule}");
}
