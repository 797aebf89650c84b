//! Messages: what the frames of the control pipe carry.
//!
//! Arca sends [`Request`]s, the monitor answers each with exactly one [`Reply`].
//! Codes 1 to 9 are the draft's and fixed; those from 10 up are ours
//! (PROTOCOL.md, "Messages").

mod address;
mod option;
mod reply;
mod request;
mod wire;

pub use address::{ADDRESS_LEN, Address, Endpoint};
pub use option::{SocketOption, Target};
pub use reply::{ConnectionReady, Reply};
pub use request::{MAX_NAME, Name, Request};
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
    /// All of the above.
    pub const ALL: u64 = NOTIFY | CANCEL | ADDRESSES | OPTIONS | ERRNO;
}

/// The message types, as the first byte of a frame says them.
#[allow(
    missing_docs,
    reason = "PROTOCOL.md and the variants of the enums say it"
)]
pub mod code {
    pub const LISTEN_REQUEST: u8 = 1;
    pub const LISTEN_OK: u8 = 2;
    pub const CONNECT_REQUEST: u8 = 3;
    pub const CONNECT_OK: u8 = 4;
    pub const INCOMING_CONNECTION: u8 = 5;
    pub const LISTEN_ERR: u8 = 6;
    pub const CONNECT_ERR: u8 = 7;
    pub const ACCEPT_REQUEST: u8 = 8;
    pub const ACCEPT_ERR: u8 = 9;

    pub const HELLO: u8 = 10;
    pub const HELLO_OK: u8 = 11;
    pub const UNSUPPORTED: u8 = 12;
    pub const DONE: u8 = 13;
    pub const FAILED: u8 = 14;
    pub const CLOSE_LISTENER: u8 = 15;
    pub const CANCEL: u8 = 16;
    pub const LISTEN_AT: u8 = 17;
    pub const LISTENING: u8 = 18;
    pub const CONNECT_TO: u8 = 19;
    pub const CONNECTED: u8 = 20;
    pub const CONNECT_NAME: u8 = 21;
    pub const ACCEPT_FROM: u8 = 22;
    pub const ACCEPTED: u8 = 23;
    pub const ADDRESSES: u8 = 24;
    pub const ADDRESSES_OK: u8 = 25;
    pub const SET_OPTION: u8 = 26;
    pub const GET_OPTION: u8 = 27;
    pub const OPTION_VALUE: u8 = 28;
}

#[cfg(all(test, not(loom)))]
mod tests;
