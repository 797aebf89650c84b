//! What Arca asks.

use super::table::{Field, MessageInfo, bind, longest, messages};
use super::wire::{Fields, MessageError, Writer};
use super::{Address, Endpoint, Target};
use crate::protocol::frame::Frame;

/// Longest host name, in bytes.
pub const MAX_NAME: usize = 253;

/// A host name: 1 to [`MAX_NAME`] bytes of UTF-8, none of them zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    len: u8,
    bytes: [u8; MAX_NAME],
}

impl Name {
    /// Takes a name; `None` if it is empty, too long, or holds a zero byte.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        if name.is_empty() || name.contains('\0') {
            return None;
        }
        let mut bytes = [0; MAX_NAME];
        bytes
            .get_mut(..name.len())?
            .copy_from_slice(name.as_bytes());
        Some(Self {
            len: name.len() as u8,
            bytes,
        })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only `new` makes a name, from a str.
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or("")
    }
}

impl core::fmt::Debug for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.as_str().fmt(f)
    }
}

impl Field for Name {
    const SIZE: (usize, usize) = (1, MAX_NAME);

    /// Takes all that is left of the payload.
    fn read(fields: &mut Fields<'_>) -> Result<Self, MessageError> {
        let name = core::str::from_utf8(fields.tail()).ok().and_then(Name::new);
        name.ok_or_else(|| fields.wrong_length())
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.put(self.as_str().as_bytes());
    }
}

messages! {
    /// A request, Arca → Linux (PROTOCOL.md, "Messages"). It lives on the stack, for a
    /// moment: there is no heap in the codec.
    pub enum Request {
        /// Listen on an IPv4 address. Answered by ListenOk or ListenErr.
        1 LISTEN_REQUEST Listen(Endpoint),
        /// Connect to an IPv4 address. Answered by ConnectOk or ConnectErr.
        3 CONNECT_REQUEST Connect(Endpoint),
        /// Wait for a connection on a listener. Answered by IncomingConnection or
        /// AcceptErr.
        8 ACCEPT_REQUEST Accept {
            /// The listener.
            listener_id: u32,
        },
        /// What Arca speaks. Answered by HelloOk.
        10 HELLO Hello {
            /// [`super::VERSION`] of the sender.
            version: u32,
            /// [`super::feature`] bits of the sender.
            features: u64,
        },
        /// Close a listener; its pending accepts end with EBADF. Answered by Done or
        /// Failed.
        15 CLOSE_LISTENER CloseListener {
            /// The listener.
            listener_id: u32,
        },
        /// Give up a request. Answered by Done, whether or not the request was still
        /// pending; that one gets its own answer.
        16 CANCEL Cancel {
            /// The request_id of the request to give up.
            request_id: u32,
        },
        /// Listen on an address of either family. Answered by Listening or ListenErr.
        17 LISTEN_AT ListenAt {
            /// The address; port 0 lets the host choose.
            address: Address,
            /// Connections that may wait to be accepted; 0 means the host's default.
            backlog: u32,
        },
        /// Connect to an address of either family. Answered by Connected or ConnectErr.
        19 CONNECT_TO ConnectTo(Address),
        /// Connect to a host by name: each of its addresses in turn. Answered by
        /// Connected or ConnectErr.
        21 CONNECT_NAME ConnectName {
            /// The TCP port.
            port: u16,
            /// The name.
            name: Name,
        },
        /// As Accept, answered by Accepted, which tells the addresses, or AcceptErr.
        22 ACCEPT_FROM AcceptFrom {
            /// The listener.
            listener_id: u32,
        },
        /// Ask for the addresses of a socket. Answered by AddressesOk or Failed.
        24 ADDRESSES Addresses(Target),
        /// Set an option. Answered by Done or Failed.
        26 SET_OPTION SetOption {
            /// The socket.
            target: Target,
            /// Number of the option ([`super::SocketOption`]); one that means nothing
            /// here may mean something to a later version.
            option: u8,
            /// Its new value.
            value: u64,
        },
        /// Get an option. Answered by OptionValue or Failed.
        27 GET_OPTION GetOption {
            /// The socket.
            target: Target,
            /// Number of the option ([`super::SocketOption`]); one that means nothing
            /// here may mean something to a later version.
            option: u8,
        },
        /// Find the addresses of a host by its name. Answered by Resolved or Failed.
        29 RESOLVE Resolve {
            /// The port that the addresses are to have.
            port: u16,
            /// The name.
            name: Name,
        },
        /// Wait for a signal to the host's process, which from now on is the program's
        /// to see to. Answered by SignalCame or Failed.
        31 AWAIT_SIGNAL AwaitSignal {
            /// Bit n stands for signal n: SIGHUP (1), SIGINT (2), SIGTERM (15).
            signals: u32,
        },
    }
}
