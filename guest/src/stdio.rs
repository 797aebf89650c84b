//! Standard output, standard error and standard input: pipes to the host like
//! any other.
//!
//! Standard output is buffered by lines, as in `std`. A write waits while its
//! pipe is full, so a program runs no faster than its output is taken. Once the
//! host cannot write it any more, each write fails with the errno that this had
//! there, and `print!` drops what it has. A write that succeeds has reached the
//! pipe; a flush waits until the host has written everything.
//!
//! Standard input is read by the host when a read here has to wait, and no more of
//! it than that read has room for. Lines are read in pieces of 4,096 bytes.

use crate::sync::{Lock, Mutex};
use crate::{boot, logger, runtime};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use arca_shared::client::{StandardReader, StandardWriter};
use arca_shared::errno::Errno;
pub use arca_shared::error::Error;
use core::fmt;
use core::future::poll_fn;
use core::task::{Context, Poll, ready};
use embedded_io::ErrorType;

/// What a standard stream that is not there fails with.
const MISSING: Error = Error::Os(Errno::EBADF);

/// Most bytes of an unfinished line that are kept back.
const LINE_CAPACITY: usize = 4096;

/// Standard output's pipe and the line begun.
struct LineWriter {
    pipe: StandardWriter,
    line: Vec<u8>,
    /// Why nothing more can be written.
    failed: Option<Error>,
}

impl LineWriter {
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let (lines, rest) = match bytes.iter().rposition(|&byte| byte == b'\n') {
            Some(newline) => bytes.split_at(newline + 1),
            None => (&[][..], bytes),
        };
        if !lines.is_empty() {
            if self.line.len() + lines.len() <= LINE_CAPACITY {
                // One write, and one wake of the host, instead of two.
                self.line.extend_from_slice(lines);
                self.push()?;
            } else {
                self.push()?;
                self.call(|pipe| pipe.write_all(lines))?;
            }
        }
        if self.line.len() + rest.len() > LINE_CAPACITY {
            self.push()?;
            if rest.len() >= LINE_CAPACITY {
                return self.call(|pipe| pipe.write_all(rest));
            }
        }
        self.line.extend_from_slice(rest);
        Ok(())
    }

    /// Puts an unfinished line into the pipe.
    fn push(&mut self) -> Result<(), Error> {
        if self.line.is_empty() {
            return Ok(());
        }
        let line = core::mem::take(&mut self.line);
        let written = self.call(|pipe| pipe.write_all(&line));
        // Its memory is used again.
        self.line = line;
        self.line.clear();
        written
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.push()?;
        self.call(StandardWriter::flush)
    }

    /// Puts what there is room for into the pipe, an unfinished line first.
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, Error>> {
        ready!(self.poll_push(context))?;
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let written = ready!(self.pipe.poll_write(context, bytes));
        self.failed = self.failed.or(written.err());
        Poll::Ready(written)
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_push(context))?;
        let flushed = ready!(self.pipe.poll_flush(context));
        self.failed = self.failed.or(flushed.err());
        Poll::Ready(flushed)
    }

    /// Puts an unfinished line into the pipe.
    fn poll_push(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(error) = self.failed {
            return Poll::Ready(Err(error));
        }
        while !self.line.is_empty() {
            match ready!(self.pipe.poll_write(context, &self.line)) {
                Ok(written) => drop(self.line.drain(..written)),
                Err(error) => {
                    self.failed = Some(error);
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Calls the pipe, unless it has failed: as with a file, each call then fails
    /// alike.
    fn call(&mut self, f: impl FnOnce(&StandardWriter) -> Result<(), Error>) -> Result<(), Error> {
        let result = self.failed.map_or_else(|| f(&self.pipe), Err);
        self.failed = result.err();
        result
    }
}

static STDOUT: Lock<Option<LineWriter>> = Lock::new(None);

/// Not a [`Lock`]: waiting for input may take for ever, and other tasks run
/// meanwhile.
static STDIN: Mutex<Option<LineReader>> = Mutex::new(None);

/// Joins the pipes of standard output and standard input.
pub(crate) fn init() {
    let info = boot::info();
    let reactor = runtime::reactor();
    match StandardWriter::join(reactor, info.stdout) {
        Ok(pipe) => STDOUT.with(|stdout| {
            *stdout = Some(LineWriter {
                pipe,
                line: Vec::with_capacity(LINE_CAPACITY),
                failed: None,
            });
        }),
        Err(error) => panic!("the pipe of standard output: {error}"),
    }
    match StandardReader::join(reactor, info.stdin) {
        Ok(pipe) => {
            *runtime::block_on(STDIN.lock()) = Some(LineReader {
                pipe,
                ahead: Vec::new(),
                taken: 0,
            });
        }
        Err(error) => panic!("the pipe of standard input: {error}"),
    }
}

/// A handle to standard output; see [`stdout`].
#[derive(Clone, Copy, Debug)]
pub struct Stdout(());

/// Standard output. What one call writes is not mixed with what others write.
#[must_use]
pub fn stdout() -> Stdout {
    Stdout(())
}

impl Stdout {
    /// Writes all of `bytes`; what follows the last newline may be kept back
    /// until the line is finished.
    ///
    /// # Errors
    ///
    /// The errno that writing had on the host, as EPIPE or ENOSPC: of bytes that
    /// an earlier call gave to the pipe, or of these.
    pub fn write_all(self, bytes: &[u8]) -> Result<(), Error> {
        STDOUT.with(|stdout| stdout.as_mut().ok_or(MISSING)?.write_all(bytes))
    }

    /// Writes an unfinished line, and waits until the host has written everything.
    ///
    /// # Errors
    ///
    /// As [`Stdout::write_all`].
    pub fn flush(self) -> Result<(), Error> {
        STDOUT.with(|stdout| stdout.as_mut().ok_or(MISSING)?.flush())
    }
}

impl Stdout {
    /// Writes what there is room for, for a task: it waits where
    /// [`Stdout::write_all`] would block, and others run. It does not hold back what
    /// follows the last newline. When it has to wait, others may write in between.
    ///
    /// # Errors
    ///
    /// As [`Stdout::write_all`].
    pub async fn write_async(self, bytes: &[u8]) -> Result<usize, Error> {
        poll_fn(|context| {
            STDOUT.with(|stdout| match stdout {
                Some(stdout) => stdout.poll_write(context, bytes),
                None => Poll::Ready(Err(MISSING)),
            })
        })
        .await
    }

    /// As [`Stdout::write_async`], all of `bytes`.
    ///
    /// # Errors
    ///
    /// As [`Stdout::write_all`].
    pub async fn write_all_async(self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let written = self.write_async(bytes).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// As [`Stdout::flush`], for a task.
    ///
    /// # Errors
    ///
    /// As [`Stdout::write_all`].
    pub async fn flush_async(self) -> Result<(), Error> {
        poll_fn(|context| {
            STDOUT.with(|stdout| match stdout {
                Some(stdout) => stdout.poll_flush(context),
                None => Poll::Ready(Err(MISSING)),
            })
        })
        .await
    }
}

impl fmt::Write for Stdout {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write_all(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

/// Puts an unfinished line into the pipe on the way out; the host writes it when
/// the program is gone, and its exit code tells if that fails. If this vCPU was
/// stopped in the middle of a write, the rest of it is lost, as in `std`.
pub(crate) fn flush_at_exit() {
    if !STDOUT.is_held_here() {
        // A pipe that has failed is no reason not to exit.
        let _ = STDOUT.with(|stdout| stdout.as_mut().map(LineWriter::push));
    }
}

/// Pushes an unfinished line into the pipe as far as there is room, for a panic.
#[cfg(feature = "image")]
pub(crate) fn flush_without_waiting() {
    if let Some(mut stdout) = STDOUT.try_lock()
        && let Some(LineWriter { pipe, line, .. }) = stdout.as_mut()
    {
        // A full or closed pipe takes less; nothing more can be done for it.
        let _ = pipe.try_write(line);
    }
}

/// Standard input's pipe and what was read of it but not yet asked for.
struct LineReader {
    pipe: StandardReader,
    ahead: Vec<u8>,
    /// Bytes at the start of `ahead` that were handed out.
    taken: usize,
}

impl LineReader {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let ahead = &self.ahead[self.taken..];
        if ahead.is_empty() {
            return self.pipe.read_async(buffer).await;
        }
        let count = ahead.len().min(buffer.len());
        buffer[..count].copy_from_slice(&ahead[..count]);
        self.taken += count;
        Ok(count)
    }

    /// The next line is taken from `ahead` when all of it is there, so that a future
    /// which is dropped before has taken none of it.
    async fn read_line(&mut self, line: &mut Vec<u8>) -> Result<usize, Error> {
        // Bytes in front of which there is no newline.
        let mut searched = self.taken;
        loop {
            let unsearched = &self.ahead[searched..];
            let newline = unsearched.iter().position(|&byte| byte == b'\n');
            if let Some(at) = newline {
                return Ok(self.take_line(searched + at + 1, line));
            }
            self.ahead.drain(..self.taken);
            self.taken = 0;
            searched = self.ahead.len();
            let mut piece = [0; LINE_CAPACITY];
            match self.pipe.read_async(&mut piece).await? {
                0 => return Ok(self.take_line(searched, line)),
                count => self.ahead.extend_from_slice(&piece[..count]),
            }
        }
    }

    /// Moves what is ahead, up to `end`, to a line.
    fn take_line(&mut self, end: usize, line: &mut Vec<u8>) -> usize {
        let bytes = &self.ahead[self.taken..end];
        line.extend_from_slice(bytes);
        let count = bytes.len();
        self.taken = end;
        count
    }
}

/// A handle to standard input; see [`stdin`].
#[derive(Clone, Copy, Debug)]
pub struct Stdin(());

/// Standard input.
#[must_use]
pub fn stdin() -> Stdin {
    Stdin(())
}

impl Stdin {
    /// Reads what is there, up to the size of `buffer`; waits until there is
    /// something. 0 is the end.
    ///
    /// # Errors
    ///
    /// The errno that reading had on the host, as EISDIR or EIO; what is read after
    /// it finds the end.
    pub fn read(self, buffer: &mut [u8]) -> Result<usize, Error> {
        runtime::block_on(self.read_async(buffer))
    }

    /// As [`Stdin::read`], for a task. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// As [`Stdin::read`].
    pub async fn read_async(self, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut stdin = STDIN.lock().await;
        stdin.as_mut().ok_or(MISSING)?.read(buffer).await
    }

    /// Appends the next line, with its newline, and says how many bytes that
    /// were; the last line may lack the newline, and 0 is the end. Bytes that are
    /// not UTF-8 are replaced.
    ///
    /// # Errors
    ///
    /// As [`Stdin::read`].
    pub fn read_line(self, line: &mut String) -> Result<usize, Error> {
        runtime::block_on(self.read_line_async(line))
    }

    /// As [`Stdin::read_line`], for a task. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// As [`Stdin::read_line`].
    pub async fn read_line_async(self, line: &mut String) -> Result<usize, Error> {
        let mut bytes = Vec::new();
        let mut stdin = STDIN.lock().await;
        let count = stdin.as_mut().ok_or(MISSING)?.read_line(&mut bytes).await?;
        line.push_str(&String::from_utf8_lossy(&bytes));
        Ok(count)
    }

    /// The next line, without its newline; `None` is the end.
    ///
    /// # Errors
    ///
    /// As [`Stdin::read`].
    pub async fn next_line(self) -> Result<Option<String>, Error> {
        let mut line = String::new();
        if self.read_line_async(&mut line).await? == 0 {
            return Ok(None);
        }
        if line.ends_with('\n') {
            line.pop();
        }
        Ok(Some(line))
    }

    /// The lines to come, without their newlines.
    pub fn lines(self) -> impl Iterator<Item = Result<String, Error>> {
        core::iter::from_fn(move || runtime::block_on(self.next_line()).transpose())
    }
}

impl ErrorType for Stdin {
    type Error = Error;
}

impl ErrorType for Stdout {
    type Error = Error;
}

impl embedded_io::Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        Stdin::read(*self, buffer)
    }
}

impl embedded_io_async::Read for Stdin {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.read_async(buffer).await
    }
}

impl embedded_io::Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        Stdout::write_all(*self, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Error> {
        Stdout::flush(*self)
    }
}

impl embedded_io_async::Write for Stdout {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.write_async(bytes).await
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.flush_async().await
    }
}

/// The text of `arguments`, formatted before a stream's lock is taken: what is
/// formatted may print itself.
fn text_of(arguments: fmt::Arguments<'_>, end: &str) -> String {
    match arguments.as_str() {
        Some(text) => [text, end].concat(),
        None => format!("{arguments}{end}"),
    }
}

/// What `print!` and `println!` expand to.
#[doc(hidden)]
pub fn print(arguments: fmt::Arguments<'_>, end: &str) {
    // Output that nobody takes is dropped.
    let _ = stdout().write_all(text_of(arguments, end).as_bytes());
}

/// What `eprint!` and `eprintln!` expand to.
#[doc(hidden)]
pub fn eprint(arguments: fmt::Arguments<'_>, end: &str) {
    logger::write_raw(&text_of(arguments, end));
}

/// Prints to standard output. Output that nobody takes any more is dropped.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => {
        $crate::stdio::print(::core::format_args!($($argument)*), "")
    };
}

/// Prints to standard output, with a newline.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => {
        $crate::stdio::print(::core::format_args!($($argument)*), "\n")
    };
}

/// Prints to the host's standard error, as it is: not as a log record.
#[macro_export]
macro_rules! eprint {
    ($($argument:tt)*) => {
        $crate::stdio::eprint(::core::format_args!($($argument)*), "")
    };
}

/// Prints to the host's standard error, with a newline.
#[macro_export]
macro_rules! eprintln {
    ($($argument:tt)*) => {
        $crate::stdio::eprint(::core::format_args!($($argument)*), "\n")
    };
}
