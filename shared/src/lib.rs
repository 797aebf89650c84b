//! The contract between Arca and the monitor: everything that both sides must
//! agree on, and the Arca side that is written against it.
//!
//! Where to find what:
//!
//! | module | holds |
//! |---|---|
//! | [`layout`] | the memory map and the MMIO registers |
//! | [`boot`] | what the VMM tells the guest before its first instruction |
//! | [`arena`] | the shared region, and offsets into it |
//! | [`buddy`] | the allocator that carves it up |
//! | [`region`] | the owned memory of one pipe |
//! | [`ring`] | one direction of a pipe |
//! | [`pipe`] | a pipe: two rings; streams over nothing but a pipe |
//! | [`frame`] | what a message on the control pipe is wrapped in |
//! | [`message`] | the messages |
//! | [`errno`], [`error`] | error numbers; what calls fail with |
//! | [`notify`] | ready sets and sleep flags |
//! | [`patience`] | how long to look for work before sleeping for it |
//! | [`platform`] | what the Arca side needs from the machine it runs on |
//! | [`reactor`], [`waiters`] | the Arca side's event loop |
//! | [`net`] | sessions, listeners and streams |
//! | [`logwire`] | log records |
//! | [`inputwire`] | requests for standard input |
//! | [`wish`] | what other threads want of one that sleeps |
//! | [`sync`] | atomics, `core`'s or loom's |
//!
//! The crate is `no_std` with `alloc`: it runs in the guest, in the monitor, in
//! a host thread that plays Arca, under loom and under a fuzzer.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod arena;
pub mod boot;
pub mod buddy;
pub mod errno;
pub mod error;
pub mod frame;
pub mod inputwire;
pub mod layout;
pub mod logwire;
pub mod message;
#[cfg(not(loom))]
pub mod net;
pub mod notify;
pub mod patience;
pub mod pipe;
pub mod platform;
#[cfg(not(loom))]
pub mod reactor;
pub mod region;
pub mod ring;
pub mod sync;
#[cfg(all(test, not(loom)))]
mod testing;
#[cfg(not(loom))]
pub mod waiters;
pub mod wish;
