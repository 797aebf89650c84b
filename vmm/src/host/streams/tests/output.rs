//! Standard output and the log.

use super::*;
use crate::platform::uart::Uart;
use crate::platform::uart::tests::Kept;
use std::cell::RefCell;

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
    // By itself: nobody gives up on it.
    until("its thread's end", || stream.worker().is_finished());
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
    until("the failure", || guest.is_peer_read_closed());
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
    until("the failure", || guest.is_peer_read_closed());
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
    until("what there is room for", || {
        stream.worker().signal_and_pause();
        progress.delivered.get() >= 4096
    });
    assert_eq!(guest.outgoing().free(), Ok(4096));
    reader
        .read_exact(&mut vec![0; (60 << 10) + size])
        .expect("written");
    until("the rest", || guest.outgoing().free() == Ok(size));
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
    assert!(stream.worker().interrupt(DEADLINE), "its thread ends");
}

#[test]
fn a_reader_that_takes_a_little_now_and_then_is_waited_for() {
    let (mut reader, writer) = filled(60 << 10);
    let (pipe, mut guest) = pipe();
    let size = PIPE_SIZE as usize;
    assert_eq!(guest.write(&vec![0; size]), Ok(size));
    let (stream, _) = start(pipe, writer);
    stream.guest_ended();
    thread::scope(|scope| {
        scope.spawn(|| {
            // Until the pipe takes the rest, which takes longer than one may stall: all
            // of it is one call of write.
            for _ in 0..8 {
                thread::sleep(STALL_LIMIT / 6);
                reader.read_exact(&mut [0; 8 << 10]).expect("there");
            }
        });
        assert_eq!(stream.drain(&RunState::default()), 0);
    });
    let mut rest = vec![0; (60 << 10) + size - (64 << 10)];
    reader.read_exact(&mut rest).expect("all is there");
}

#[test]
fn one_that_only_ever_takes_a_byte_has_so_long_in_all_once_a_stop_is_asked_for() {
    let (mut reader, writer) = filled(60 << 10);
    let (pipe, mut guest) = pipe();
    guest.write(&[0; 50_000]).expect("room");
    let (stream, _) = start(pipe, writer);
    stream.guest_ended();
    let run_state = RunState::default();
    run_state.ask_stop(Outcome::TimedOut);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Relaxed: it only has to be seen some time.
            while !over.load(Ordering::Relaxed) {
                reader
                    .read_exact(&mut [0])
                    .expect("more than that is there");
                thread::sleep(Duration::from_millis(100));
            }
        });
        assert!(stream.drain(&run_state) > 0);
        over.store(true, Ordering::Relaxed);
    });
}

/// Text for standard error, as a guest puts it into its log.
fn raw(text: &str) -> Vec<u8> {
    let mut record = vec![0, 0];
    record.extend((text.len() as u16).to_le_bytes());
    record.extend(text.bytes());
    record
}

#[test]
fn text_among_the_log_is_delivered() {
    let (pipe, mut guest) = pipe();
    let record = raw("panicked");
    assert_eq!(guest.write(&record), Ok(record.len()));
    let kept = Kept::default();
    let writer: Box<dyn Write + Send> = Box::new(kept.clone());
    let stream = Outgoing::log(pipe, writer.into(), Entrance::default()).expect("thread");
    stream.guest_ended();
    assert_eq!(stream.drain(&RunState::default()), 0);
    assert_eq!(kept.text(), "panicked");
}

#[test]
fn text_that_standard_error_refuses_is_lost_from_there_on() {
    /// Takes three bytes.
    struct Three(usize);
    impl Write for Three {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = bytes.len().min(std::mem::take(&mut self.0));
            Ok(len)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (pipe, mut guest) = pipe();
    let record = raw("panicked");
    assert_eq!(guest.write(&record), Ok(record.len()));
    let writer: Box<dyn Write + Send> = Box::new(Three(3));
    let stream = Outgoing::log(pipe, writer.into(), Entrance::default()).expect("thread");
    stream.guest_ended();
    assert_eq!(stream.drain(&RunState::default()), 5);
}

thread_local! {
    /// What this thread has logged.
    static LOGGED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        LOGGED.with_borrow_mut(|lines| lines.push(record.args().to_string()));
    }
    fn flush(&self) {}
}

#[test]
fn a_loss_is_named_and_nothing_else() {
    // Nobody else in these tests has a logger.
    let _ = log::set_logger(&Logger);
    log::set_max_level(log::LevelFilter::Error);
    let drained = |text: &[u8], writer: Box<dyn Write + Send>| {
        let (pipe, mut guest) = pipe();
        assert_eq!(guest.write(text), Ok(text.len()));
        let (stream, _) = start(pipe, writer);
        stream.guest_ended();
        let lost = stream.drain(&RunState::default());
        (lost, LOGGED.take())
    };
    assert_eq!(drained(b"taken", Box::<Kept>::default()), (0, Vec::new()));
    // Its thread logs the writer's error, this one what was lost.
    let said = "7 bytes of standard output could not be delivered";
    let nowhere: &mut [u8] = &mut [];
    let lost = drained(b"refused", Box::new(nowhere));
    assert_eq!(lost, (7, vec![said.to_owned()]));
}

#[test]
fn streams_are_drained_together_and_their_losses_added() {
    let stream = |text: &[u8], writer: Box<dyn Write + Send>| {
        let (pipe, mut guest) = pipe();
        assert_eq!(guest.write(text), Ok(text.len()));
        let (stream, _) = start(pipe, writer);
        stream.guest_ended();
        stream
    };
    let nowhere = || -> Box<dyn Write + Send> {
        let nowhere: &mut [u8] = &mut [];
        Box::new(nowhere)
    };
    let kept = Kept::default();
    let streams = vec![
        stream(b"one", nowhere()),
        stream(b"taken", Box::new(kept.clone())),
        stream(b"three", nowhere()),
    ];
    let drained = drain_all(streams, &RunState::default(), || "meanwhile");
    assert_eq!(drained, ("meanwhile", 8));
    assert_eq!(kept.text(), "taken");
}

#[test]
fn what_the_uart_says_comes_after_what_was_logged_before_it() {
    let (mut pipe, mut guest) = pipe();
    let record = b"\x00\x00\x06\x00logged";
    guest.write(record).expect("room");
    let console = Kept::default();
    let uart = Uart::new(
        Box::new(console.clone()),
        Some(pipe.handle()),
        1,
        Arc::default(),
    );
    thread::scope(|scope| {
        let (said, hears) = std::sync::mpsc::channel();
        let uart = &uart;
        scope.spawn(move || {
            b"line\n".iter().for_each(|byte| uart.write(0, 0, *byte));
            // What follows need not wait for what is logged later.
            said.send(()).expect("it is heard");
        });
        assert!(hears.recv_timeout(Duration::from_millis(50)).is_err());
        assert_eq!(console.text(), "");
        guest.write(record).expect("room");
        pipe.read(&mut [0; 10]).expect("what was logged");
        hears.recv_timeout(DEADLINE).expect("the line is written");
    });
    assert_eq!(console.text(), "line\n");
}
