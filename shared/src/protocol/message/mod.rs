//! Messages: what the frames of the control pipe carry.
//!
//! Arca sends [`Request`]s, the monitor answers each with exactly one [`Reply`].
//! Codes 1 to 9 are the draft's and fixed; those from 10 up are ours
//! (PROTOCOL.md, "Messages").
//!
//! `request.rs` and `reply.rs` define each message once, code and fields; all else
//! about it follows from there (`table.rs`).

mod address;
mod option;
mod reply;
mod request;
mod table;
mod wire;

pub use address::{ADDRESS_LEN, Address, Endpoint};
pub use option::{SocketOption, Target};
pub use reply::{ConnectionReady, Reply};
pub use request::{MAX_NAME, Name, Request};
pub use table::MessageInfo;
pub use wire::MessageError;

/// The version of the protocol that [`Request::Hello`] announces.
pub const VERSION: u32 = 1;

/// Feature bits of a hello: what a side understands beyond the draft.
pub mod feature {
    /// Doorbell, ready sets and sleep flags: the session leaves polling mode.
    pub const NOTIFY: u64 = 1 << 0;
    /// Closing listeners and cancelling requests.
    pub const CANCEL: u64 = 1 << 1;
    /// Addresses of either family, host names, and addresses in replies.
    pub const ADDRESSES: u64 = 1 << 2;
    /// Socket options.
    pub const OPTIONS: u64 = 1 << 3;
    /// Errno in ring headers, and abortive close.
    pub const ERRNO: u64 = 1 << 4;
    /// Resolving names.
    pub const RESOLVE: u64 = 1 << 5;
    /// Waiting for signals.
    pub const SIGNALS: u64 = 1 << 6;
    /// All of the above.
    pub const ALL: u64 = NOTIFY | CANCEL | ADDRESSES | OPTIONS | ERRNO | RESOLVE | SIGNALS;
}

/// The message types, as the first byte of a frame says them.
pub mod code {
    pub use super::reply::codes::*;
    pub use super::request::codes::*;

    /// The first type that is not the draft's.
    pub const FIRST_EXTENSION: u8 = HELLO;
}

#[cfg(all(test, not(loom)))]
mod tests;
