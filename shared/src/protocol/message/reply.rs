//! What the monitor answers.

use super::Address;
use super::table::{Field, MessageInfo, bind, longest, messages};
use super::wire::{Fields, MessageError, Writer};
use crate::errno::Errno;
use crate::pipe::PipePlace;
use crate::protocol::frame::Frame;

/// A connection that is ready for use. 24 bytes: listener_id u32, connection_id
/// u32, and the pipe's shm_offset u64 and ring_size u64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionReady {
    /// The listener it came in on; 0 for an outbound one.
    pub listener_id: u32,
    /// The connection's id, never 0.
    pub connection_id: u32,
    /// Where its pipe is.
    pub pipe: PipePlace,
}

impl Field for ConnectionReady {
    const SIZE: (usize, usize) = (24, 24);

    fn read(fields: &mut Fields<'_>) -> Result<Self, MessageError> {
        Ok(Self {
            listener_id: u32::read(fields)?,
            connection_id: u32::read(fields)?,
            pipe: PipePlace {
                shm_offset: u64::read(fields)?,
                ring_size: u64::read(fields)?,
            },
        })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        self.listener_id.write(writer);
        self.connection_id.write(writer);
        self.pipe.shm_offset.write(writer);
        self.pipe.ring_size.write(writer);
    }
}

messages! {
    /// A reply, Linux → Arca (PROTOCOL.md, "Messages").
    pub enum Reply {
        /// The listener is there.
        2 LISTEN_OK ListenOk {
            /// Its id.
            listener_id: u32,
        },
        /// The connection is there; its listener_id is 0.
        4 CONNECT_OK ConnectOk(ConnectionReady),
        /// A connection came in; answers an AcceptRequest.
        5 INCOMING_CONNECTION IncomingConnection(ConnectionReady),
        /// No listener.
        6 LISTEN_ERR ListenErr(Errno),
        /// No connection.
        7 CONNECT_ERR ConnectErr(Errno),
        /// No connection, and none will come for this request.
        9 ACCEPT_ERR AcceptErr(Errno),
        /// What the monitor speaks.
        11 HELLO_OK HelloOk {
            /// [`super::VERSION`] of the monitor.
            version: u32,
            /// [`super::feature`] bits that both sides have.
            features: u64,
        },
        /// The request's type is not known to this monitor.
        12 UNSUPPORTED Unsupported {
            /// That type.
            message_type: u8,
        },
        /// Done.
        13 DONE Done,
        /// Not done.
        14 FAILED Failed(Errno),
        /// The listener is there.
        18 LISTENING Listening {
            /// Its id.
            listener_id: u32,
            /// The address it is bound to, with the port that the host chose.
            local: Address,
        },
        /// The connection is there.
        20 CONNECTED Connected {
            /// The connection.
            ready: ConnectionReady,
            /// Its local address on the host.
            local: Address,
            /// Its peer's address.
            peer: Address,
        },
        /// A connection came in.
        23 ACCEPTED Accepted {
            /// The connection.
            ready: ConnectionReady,
            /// Its local address on the host.
            local: Address,
            /// Its peer's address.
            peer: Address,
        },
        /// Addresses of a listener or connection.
        25 ADDRESSES_OK AddressesOk {
            /// The local address.
            local: Address,
            /// The peer's address; a listener has none.
            peer: Option<Address>,
        },
        /// The value of an option.
        28 OPTION_VALUE OptionValue(u64),
        /// The addresses of a name.
        30 RESOLVED Resolved {
            /// The first that the host would try.
            first: Address,
            /// The first of the other family, if there is one.
            other: Option<Address>,
        },
        /// A signal came that was waited for.
        32 SIGNAL_CAME SignalCame {
            /// Its number.
            signal: u8,
        },
    }
}
