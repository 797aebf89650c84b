//! The Arca runtime: what stands in for an operating system and `std` under a
//! guest program.
//!
//! A program is `no_std`, `no_main`, names its `main` with [`entry!`], and has
//! then what a program on Linux has: a heap, standard streams, arguments, an exit
//! code, `log`, clocks, tasks, and TCP, which the host's sockets carry.
//!
//! | module | holds |
//! |---|---|
//! | [`entry`](mod@entry) | from the first instruction to `main` |
//! | [`boot`] | the boot information |
//! | `env` | arguments, random seed |
//! | [`process`] | exit codes, exit |
//! | [`stdio`] | standard streams, `print!` |
//! | `logger` | the `log` records' way to the host |
//! | [`time`] | clocks |
//! | `timer` | `sleep`, `timeout`, `interval` |
//! | `embassy_time` | the driver of that crate |
//! | `random` | random bytes, for `getrandom` too |
//! | [`signal`] | signals to the process on the host |
//! | `executor`, `run_queue` | tasks, and the queue of those that can go on |
//! | `tasks` | what tasks wait for, for whoever looks at a guest that hangs |
//! | [`runtime`] | the reactor, the session, `block_on`, idle vCPUs |
//! | [`sync`], `channel`, `notify` | channels, mutexes, notifications |
//! | [`net`] | TCP |
//! | [`http`] | a small HTTP client |
//! | `hal`, [`registers`], [`vcpu`], `heap`, `mem_intrinsics`, `uart`, `panic`, `out_of_heap` | what lies on the bare machine |
//!
//! Without the feature `image` the crate has no panic handler, allocator or memory
//! functions, and compiles beside `std`.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod boot;
mod channel;
mod embassy_time;
pub mod entry;
mod env;
mod executor;
mod hal;
mod heap;
pub mod http;
mod logger;
#[cfg(any(feature = "image", test))]
mod mem_intrinsics;
pub mod net;
mod notify;
#[cfg(any(feature = "image", test))]
mod out_of_heap;
#[cfg(feature = "image")]
mod panic;
pub mod process;
mod random;
pub mod registers;
mod run_queue;
pub mod runtime;
pub mod signal;
pub mod stdio;
pub mod sync;
mod tasks;
pub mod time;
mod timer;
#[cfg(feature = "image")]
mod uart;
pub mod vcpu;

pub use arca_shared::protocol::boot::BootInfo;
pub use edge_nal;
pub use embassy_futures::{join, select, yield_now};
pub use embedded_io;
pub use embedded_io_async;
pub use embedded_nal_async;
pub use env::{args, random_seed};
pub use executor::{JoinHandle, LocalJoinHandle, spawn, spawn_local};
pub use futures_util as futures;
pub use log;
pub use process::{ExitCode, exit};
pub use random::fill_random;
pub use runtime::block_on;
pub use timer::{Elapsed, Interval, interval, interval_at, sleep, sleep_until, timeout};
