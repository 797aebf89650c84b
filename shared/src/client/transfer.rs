//! Reading and writing for tasks: what streams and their halves have in common.

use super::pipe_end::{Lent, PipeEnd, Room};
use crate::error::Error;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::future::poll_fn;

pub(super) async fn read(end: &PipeEnd, buffer: &mut [u8]) -> Result<usize, Error> {
    poll_fn(|context| end.poll_read(context, buffer)).await
}

pub(super) async fn read_vectored(
    end: &PipeEnd,
    buffers: &mut [&mut [u8]],
) -> Result<usize, Error> {
    poll_fn(|context| end.poll_data(context, || end.try_read_vectored(buffers))).await
}

pub(super) async fn read_exact(end: &PipeEnd, buffer: &mut [u8]) -> Result<(), Error> {
    let mut len = 0;
    while len < buffer.len() {
        match read(end, &mut buffer[len..]).await? {
            0 => return Err(Error::UnexpectedEof),
            read => len += read,
        }
    }
    Ok(())
}

/// The bytes that are there, lent where they are.
pub(super) async fn lend(end: &PipeEnd) -> Result<Lent<'_>, Error> {
    poll_fn(|context| end.poll_lend(context)).await
}

/// The room that is there, lent where it is.
async fn room(end: &PipeEnd) -> Result<Room<'_>, Error> {
    poll_fn(|context| end.poll_lend_room(context)).await
}

pub(super) async fn read_with(
    end: &PipeEnd,
    parse: impl FnOnce(&[u8]) -> usize,
) -> Result<usize, Error> {
    let lent = lend(end).await?;
    let len = parse(&lent).min(lent.len());
    lent.consume(len);
    Ok(len)
}

pub(super) async fn read_to_end(end: &PipeEnd, bytes: &mut Vec<u8>) -> Result<usize, Error> {
    let before = bytes.len();
    while read_with(end, |piece| append(bytes, piece)).await? > 0 {}
    Ok(bytes.len() - before)
}

pub(super) async fn read_until(
    end: &PipeEnd,
    last: u8,
    bytes: &mut Vec<u8>,
) -> Result<usize, Error> {
    let before = bytes.len();
    let mut found = false;
    while !found && read_with(end, |piece| append_until(last, bytes, piece, &mut found)).await? > 0
    {
    }
    Ok(bytes.len() - before)
}

/// Appends all of a piece, which is then read.
pub(super) fn append(bytes: &mut Vec<u8>, piece: &[u8]) -> usize {
    bytes.extend_from_slice(piece);
    piece.len()
}

/// Appends a piece up to the first `last`, which `found` tells of.
pub(super) fn append_until(last: u8, bytes: &mut Vec<u8>, piece: &[u8], found: &mut bool) -> usize {
    let at = piece.iter().position(|&byte| byte == last);
    *found = at.is_some();
    append(bytes, &piece[..at.map_or(piece.len(), |at| at + 1)])
}

/// The text of a line that was read, without its line end.
pub(super) fn line(mut bytes: Vec<u8>) -> Result<Option<String>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    text(bytes).map(Some)
}

/// Bytes as text.
pub(super) fn text(bytes: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|_| Error::InvalidUtf8)
}

pub(super) async fn write(end: &PipeEnd, buffer: &[u8]) -> Result<usize, Error> {
    poll_fn(|context| end.poll_write(context, buffer)).await
}

pub(super) async fn write_vectored(end: &PipeEnd, buffers: &[&[u8]]) -> Result<usize, Error> {
    poll_fn(|context| end.poll_room(context, || end.try_write_vectored(buffers))).await
}

pub(super) async fn write_all(end: &PipeEnd, mut buffer: &[u8]) -> Result<(), Error> {
    while !buffer.is_empty() {
        let written = write(end, buffer).await?;
        buffer = &buffer[written..];
    }
    Ok(())
}

pub(super) async fn write_with(
    end: &PipeEnd,
    generate: impl FnOnce(&mut [u8]) -> usize,
) -> Result<usize, Error> {
    let mut room = room(end).await?;
    let len = generate(&mut room).min(room.len());
    room.commit(len);
    Ok(len)
}

/// Formats at once, so that what is formatted need not outlive the call; writes then.
pub(super) fn write_fmt<'a>(
    end: &'a PipeEnd,
    arguments: fmt::Arguments<'_>,
) -> impl Future<Output = Result<(), Error>> + Send + use<'a> {
    let text = arguments.to_string();
    async move { write_all(end, text.as_bytes()).await }
}

/// The methods of what receives, with a receiver of that kind.
macro_rules! read_methods {
    ([$($by:tt)+] $self:ident) => {
        /// As [`ArcaTcpStream::read`](crate::client::ArcaTcpStream::read).
        ///
        /// # Errors
        ///
        /// The connection's errno, once.
        pub async fn read($($by)+ $self, buffer: &mut [u8]) -> Result<usize, Error> {
            crate::client::transfer::read(&$self.core.end, buffer).await
        }

        /// As [`ArcaTcpStream::read_vectored`](crate::client::ArcaTcpStream::read_vectored).
        ///
        /// # Errors
        ///
        /// As [`Self::read`].
        pub async fn read_vectored(
            $($by)+ $self,
            buffers: &mut [&mut [u8]],
        ) -> Result<usize, Error> {
            crate::client::transfer::read_vectored(&$self.core.end, buffers).await
        }

        /// As [`ArcaTcpStream::read_exact`](crate::client::ArcaTcpStream::read_exact).
        ///
        /// # Errors
        ///
        /// [`Error::UnexpectedEof`] if the stream ends before that; else as
        /// [`Self::read`].
        pub async fn read_exact($($by)+ $self, buffer: &mut [u8]) -> Result<(), Error> {
            crate::client::transfer::read_exact(&$self.core.end, buffer).await
        }

        /// As [`ArcaTcpStream::read_to_end`](crate::client::ArcaTcpStream::read_to_end).
        ///
        /// # Errors
        ///
        /// As [`Self::read`].
        pub async fn read_to_end(
            $($by)+ $self,
            bytes: &mut alloc::vec::Vec<u8>,
        ) -> Result<usize, Error> {
            crate::client::transfer::read_to_end(&$self.core.end, bytes).await
        }

        /// As [`ArcaTcpStream::read_until`](crate::client::ArcaTcpStream::read_until).
        ///
        /// # Errors
        ///
        /// As [`Self::read`].
        pub async fn read_until(
            $($by)+ $self,
            last: u8,
            bytes: &mut alloc::vec::Vec<u8>,
        ) -> Result<usize, Error> {
            crate::client::transfer::read_until(&$self.core.end, last, bytes).await
        }

        /// The next line, without its line end; none at the end of the stream.
        ///
        /// # Errors
        ///
        /// [`Error::InvalidUtf8`] if it is not UTF-8; else as [`Self::read`].
        pub async fn next_line($($by)+ $self) -> Result<Option<alloc::string::String>, Error> {
            let mut line = alloc::vec::Vec::new();
            crate::client::transfer::read_until(&$self.core.end, b'\n', &mut line).await?;
            crate::client::transfer::line(line)
        }

        /// As [`ArcaTcpStream::read_with`](crate::client::ArcaTcpStream::read_with).
        ///
        /// # Errors
        ///
        /// As [`Self::read`].
        pub async fn read_with(
            $($by)+ $self,
            parse: impl FnOnce(&[u8]) -> usize,
        ) -> Result<usize, Error> {
            crate::client::transfer::read_with(&$self.core.end, parse).await
        }

        /// As [`ArcaTcpStream::fill_buf`](crate::client::ArcaTcpStream::fill_buf).
        ///
        /// # Errors
        ///
        /// As [`Self::read`].
        pub async fn fill_buf(&mut $self) -> Result<&[u8], Error> {
            let lent = crate::client::transfer::lend(&$self.core.end).await?;
            let piece = lent.into_piece();
            Ok($self.core.lend(piece))
        }

        /// As [`ArcaTcpStream::consume`](crate::client::ArcaTcpStream::consume).
        pub fn consume(&mut $self, len: usize) {
            $self.core.consume(len);
        }

        /// Waits until a read would not have to wait, be it that it would fail.
        pub async fn readable($($by)+ $self) {
            core::future::poll_fn(|context| $self.core.end.poll_readable(context)).await;
        }
    };
}

/// The methods of what sends, with a receiver of that kind.
macro_rules! write_methods {
    ([$($by:tt)+] $self:ident) => {
        /// As [`ArcaTcpStream::write`](crate::client::ArcaTcpStream::write).
        ///
        /// # Errors
        ///
        /// The connection's errno, once, and then EPIPE.
        pub async fn write($($by)+ $self, buffer: &[u8]) -> Result<usize, Error> {
            crate::client::transfer::write(&$self.core.end, buffer).await
        }

        /// As [`ArcaTcpStream::write_vectored`](crate::client::ArcaTcpStream::write_vectored).
        ///
        /// # Errors
        ///
        /// As [`Self::write`].
        pub async fn write_vectored($($by)+ $self, buffers: &[&[u8]]) -> Result<usize, Error> {
            crate::client::transfer::write_vectored(&$self.core.end, buffers).await
        }

        /// As [`ArcaTcpStream::write_all`](crate::client::ArcaTcpStream::write_all).
        ///
        /// # Errors
        ///
        /// As [`Self::write`].
        pub async fn write_all($($by)+ $self, buffer: &[u8]) -> Result<(), Error> {
            crate::client::transfer::write_all(&$self.core.end, buffer).await
        }

        /// As [`ArcaTcpStream::write_with`](crate::client::ArcaTcpStream::write_with).
        ///
        /// # Errors
        ///
        /// As [`Self::write`].
        pub async fn write_with(
            $($by)+ $self,
            generate: impl FnOnce(&mut [u8]) -> usize,
        ) -> Result<usize, Error> {
            crate::client::transfer::write_with(&$self.core.end, generate).await
        }

        /// What `write!` calls, with an `.await` behind it: writes formatted text, as a
        /// whole.
        ///
        /// # Errors
        ///
        /// As [`Self::write_all`].
        pub fn write_fmt<'a>(
            &'a $self,
            text: core::fmt::Arguments<'_>,
        ) -> impl Future<Output = Result<(), Error>> + Send + use<'a> {
            crate::client::transfer::write_fmt(&$self.core.end, text)
        }

        /// Waits until a write would not have to wait, be it that it would fail.
        pub async fn writable($($by)+ $self) {
            core::future::poll_fn(|context| $self.core.end.poll_writable(context)).await;
        }
    };
}

pub(super) use {read_methods, write_methods};
