//! The contract between Arca and the monitor: everything that both sides must
//! agree on, and the Arca side that is written against it.
//!
//! The layers, each using only those above it:
//!
//! | module | holds |
//! |---|---|
//! | [`errno`], [`error`], [`sync`] | error numbers; what calls fail with; atomics, `core`'s or loom's |
//! | [`memory`] | the arena, offsets into it, and the allocator that carves it up |
//! | [`ring`] | one direction of a pipe: a single-producer single-consumer ring |
//! | [`pipe`] | a pipe: two rings in one region of the arena |
//! | [`protocol`] | frames and messages, boot information, memory map and registers, log records |
//! | [`notify`] | ready sets and sleep flags |
//! | [`client`] | the Arca side: sessions, listeners, streams, and the event loop under them |
//!
//! The crate is `no_std` with `alloc`: it runs in the guest, in the monitor, in
//! a host thread that plays Arca, under loom and under a fuzzer.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

#[cfg(not(loom))]
pub mod client;
pub mod errno;
pub mod error;
pub mod memory;
pub mod notify;
pub mod pipe;
pub mod protocol;
pub mod ring;
pub mod sync;
#[cfg(all(test, not(loom)))]
mod testing;
