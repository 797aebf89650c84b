//! The Arca side: sockets as `std::net` has them on Linux, and the event loop
//! under them.
//!
//! They belong to a session, which wakes and is woken. The draft's streams, over a
//! bare pipe that whoever waits polls, are
//! [`pipe::SyncStream`](crate::pipe::SyncStream) and
//! [`pipe::AsyncStream`](crate::pipe::AsyncStream).
//!
//! | module | holds |
//! |---|---|
//! | `session` | [`ArcaSession`]: connect and bind, over the control pipe |
//! | `listener` | [`ArcaTcpListener`] |
//! | `stream` | [`ArcaTcpStream`], blocking |
//! | `stream_core` | what its handles and halves share |
//! | `async_stream` | [`AsyncTcpStream`] |
//! | `halves` | halves of it |
//! | `handle` | one handle to a stream, and what it has lent |
//! | `transfer` | reading and writing for tasks |
//! | `options` | options of a connection |
//! | `copy` | from one stream to another |
//! | `embedded` | the interfaces of embedded-io |
//! | `nal` | the interfaces of embedded-nal-async and edge-nal, with the feature `nal` |
//! | `host` | whom to connect to, and a program's one session |
//! | `control_client` | requests in flight on the control pipe, and their replies |
//! | `pipe_end` | the Arca end of a pipe, which streams and standard streams share |
//! | `standard` | standard input, output and log |
//! | [`reactor`] | [`Reactor`](reactor::Reactor): from ready slots to wakers, timers, and sleep |
//! | [`hal`] | what the Arca side needs from the machine it runs on |
//! | `waiters` | wakers that wait for the same thing |
//! | [`adaptive_poll`] | how long a sleeper polls before it sleeps |
//! | [`poll_yield`] | when a poll lets others run on its core |
//! | [`run_length`] | how long a task runs before it waits again, and what wait is worth a wake |

pub mod adaptive_poll;
mod async_stream;
mod control_client;
mod copy;
mod embedded;
pub mod hal;
mod halves;
mod handle;
mod host;
mod listener;
#[cfg(feature = "nal")]
mod nal;
mod options;
mod pipe_end;
pub mod poll_yield;
pub mod reactor;
pub mod run_length;
mod session;
mod standard;
mod stream;
mod stream_core;
#[cfg(test)]
mod tests;
mod transfer;
mod waiters;

pub use async_stream::AsyncTcpStream;
pub use copy::{copy, copy_async, copy_bidirectional, copy_bidirectional_async};
pub use halves::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
pub use host::{Host, ToHost};
pub use listener::ArcaTcpListener;
pub use pipe_end::PipeEnd;
pub use session::ArcaSession;
pub use standard::{StandardReader, StandardWriter};
pub use stream::ArcaTcpStream;
pub use stream_core::Shutdown;
