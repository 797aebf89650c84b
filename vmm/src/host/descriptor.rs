//! This process's standard streams, as they were inherited.
//!
//! The open file behind such a descriptor may be shared with other processes,
//! and one of them may have made it non-blocking: what would block is then waited
//! for with poll(2). A wait ends when the thread is interrupted, as a blocking
//! call does.

use nix::libc;
use nix::poll::{PollFd, PollFlags, ppoll};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether standard input and standard output were closed when the process
/// started. Relaxed: they are stored before there is a second thread.
static CLOSED: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];

/// Looks before `main`: the runtime of `std` opens /dev/null in place of what is
/// closed, and what the guest writes would vanish there without an error.
extern "C" fn look() {
    for (fd, closed) in (0..).zip(&CLOSED) {
        // SAFETY: asks for the flags of a descriptor, which need not be one.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        closed.store(flags < 0, Ordering::Relaxed);
    }
}

// SAFETY: the section holds functions that are called once each before `main`,
// by the C library and with its calls ready to be used; `look` takes no
// arguments, needs nothing of `std`, and does not panic.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// A standard stream of this process. Every call reaches the kernel at once.
pub struct Descriptor(Arc<File>);

impl Descriptor {
    /// Standard input.
    ///
    /// # Errors
    ///
    /// Those of duplicating a descriptor.
    pub fn stdin() -> io::Result<Self> {
        Self::inherited(io::stdin().as_fd(), OpenOptions::new().write(true))
    }

    /// Standard output.
    ///
    /// # Errors
    ///
    /// Those of duplicating a descriptor.
    pub fn stdout() -> io::Result<Self> {
        Self::inherited(io::stdout().as_fd(), OpenOptions::new().read(true))
    }

    /// Standard error.
    ///
    /// # Errors
    ///
    /// Those of duplicating a descriptor.
    pub fn stderr() -> io::Result<Self> {
        Self::inherited(io::stderr().as_fd(), OpenOptions::new().write(true))
    }

    /// A duplicate; of one that was closed, what answers every call with EBADF:
    /// a file opened `otherwise`, for the other direction.
    fn inherited(fd: BorrowedFd<'_>, otherwise: &OpenOptions) -> io::Result<Self> {
        let index = usize::try_from(fd.as_raw_fd()).unwrap_or(usize::MAX);
        let closed = CLOSED.get(index);
        let file = match closed.is_some_and(|closed| closed.load(Ordering::Relaxed)) {
            true => otherwise.open("/dev/null")?,
            false => fd.try_clone_to_owned()?.into(),
        };
        Ok(Self(Arc::new(file)))
    }

    /// Where it goes, to be written to and to be looked at.
    pub fn into_sink(self) -> Sink {
        Sink {
            queue: Some(Queue(Arc::clone(&self.0))),
            writer: Box::new(self),
        }
    }
}

impl Read for Descriptor {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        when_ready(&self.0, PollFlags::POLLIN, || (&*self.0).read(bytes))
    }
}

impl Write for Descriptor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        when_ready(&self.0, PollFlags::POLLOUT, || (&*self.0).write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard error by its number, for what is written before there is a guest and
/// after: by the logger, by the console, and by this command itself.
pub struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        when_ready(&stderr, PollFlags::POLLOUT, || stderr.lock().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Repeats a call for as long as it would block, when poll says that it need not.
fn when_ready<T>(
    fd: &impl AsFd,
    events: PollFlags,
    mut call: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ppoll(&mut [PollFd::new(fd.as_fd(), events)], None, None)?;
            }
            result => return result,
        }
    }
}

/// A place that a stream of the guest's goes to.
pub struct Sink {
    /// Writes there.
    pub writer: Box<dyn Write + Send>,
    /// What the kernel holds of it, where it can be told.
    pub queue: Option<Queue>,
}

impl From<Box<dyn Write + Send>> for Sink {
    fn from(writer: Box<dyn Write + Send>) -> Self {
        Self {
            writer,
            queue: None,
        }
    }
}

/// What the kernel has taken for a reader and not yet handed over.
pub struct Queue(Arc<File>);

impl Queue {
    /// Its bytes; `None` or a number that stays for what holds nothing back.
    pub fn held(&self) -> Option<u64> {
        // A terminal or a socket knows the first, a pipe the second.
        [libc::TIOCOUTQ, libc::FIONREAD]
            .into_iter()
            .find_map(|request| {
                let mut len: libc::c_int = 0;
                // SAFETY: both requests store one int, for which there is room.
                let result = unsafe { libc::ioctl(self.0.as_raw_fd(), request, &raw mut len) };
                (result == 0).then_some(len.unsigned_abs().into())
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use std::os::fd::OwnedFd;
    use std::thread;

    fn pipe() -> (File, Descriptor) {
        let (reader, writer) = io::pipe().expect("a pipe");
        let file = File::from(OwnedFd::from(writer));
        (OwnedFd::from(reader).into(), Descriptor(Arc::new(file)))
    }

    #[test]
    fn what_does_not_block_is_waited_for() {
        let (reader, mut writer) = pipe();
        for file in [&reader, &*writer.0] {
            fcntl(file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("open");
        }
        let sent = vec![7; 1 << 20];
        let mut got = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                writer.write_all(&sent).expect("a reader");
                drop(writer);
            });
            let mut reader = Descriptor(Arc::new(reader));
            reader.read_to_end(&mut got).expect("a pipe");
        });
        assert!(got == sent, "{} bytes", got.len());
    }

    #[test]
    fn every_byte_that_a_reader_takes_shows() {
        let (mut reader, writer) = pipe();
        let mut sink = writer.into_sink();
        sink.writer.write_all(&[1; 5000]).expect("room");
        let queue = sink.queue.expect("a pipe has one");
        assert_eq!(queue.held(), Some(5000));
        reader.read_exact(&mut [0; 3]).expect("there");
        assert_eq!(queue.held(), Some(4997));
    }
}
