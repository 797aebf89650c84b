//! The workloads of `cargo xtask bench`, written once: the same code runs in the
//! guest and in a native process, over whatever implements [`Net`].
//!
//! A program under measurement runs [`session::serve`]: it reads [`Command`]s, a
//! line each, does what they say, and answers with a [`Reply`]. Both ends of every
//! command are here; the host's end is [`service`].
//!
//! | module | holds |
//! |---|---|
//! | [`net`], [`connection`] | what a workload needs of the system it runs on |
//! | [`failure`] | why a workload could not be done |
//! | [`command`], [`reply`] | what is asked of a program, and what it answers |
//! | [`session`] | the program: commands in, replies out |
//! | [`client`] | the workloads' client ends |
//! | [`server`] | their server ends |
//! | [`http`] | an HTTP server, and what loads it |
//! | [`wire`] | what goes over a connection |
//! | [`native`] | [`Net`] over std's sockets and epoll |
//! | [`service`] | the process that both sides talk to |

#![cfg_attr(not(any(test, feature = "std")), no_std)]

extern crate alloc;

pub mod client;
pub mod command;
pub mod connection;
pub mod failure;
pub mod http;
#[cfg(feature = "std")]
pub mod native;
pub mod net;
pub mod reply;
pub mod server;
#[cfg(feature = "std")]
pub mod service;
pub mod session;
pub mod wire;

pub use command::Command;
pub use connection::{Connection, Listener};
pub use failure::Failure;
pub use net::Net;
pub use reply::{Outcome, Reply};

/// Bytes that one call moves where a connection has the machine to itself.
pub const PIECE: usize = 256 << 10;
