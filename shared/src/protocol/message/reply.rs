//! What the monitor answers.

use super::wire::{Fields, MessageError, Writer};
use super::{Address, code};
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

impl ConnectionReady {
    fn read(fields: &mut Fields<'_>) -> Result<Self, MessageError> {
        Ok(Self {
            listener_id: fields.u32()?,
            connection_id: fields.u32()?,
            pipe: PipePlace {
                shm_offset: fields.u64()?,
                ring_size: fields.u64()?,
            },
        })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.u32(self.listener_id).u32(self.connection_id);
        writer.u64(self.pipe.shm_offset).u64(self.pipe.ring_size);
    }
}

/// A reply, Linux → Arca. The payload's layout is in PROTOCOL.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// 2: the listener is there.
    ListenOk {
        /// Its id.
        listener_id: u32,
    },
    /// 4: the connection is there; its listener_id is 0.
    ConnectOk(ConnectionReady),
    /// 5: a connection came in; answers an AcceptRequest.
    IncomingConnection(ConnectionReady),
    /// 6: no listener.
    ListenErr(Errno),
    /// 7: no connection.
    ConnectErr(Errno),
    /// 9: no connection, and none will come for this request.
    AcceptErr(Errno),
    /// 11: what the monitor speaks.
    HelloOk {
        /// [`super::VERSION`] of the monitor.
        version: u32,
        /// [`super::feature`] bits that both sides have.
        features: u64,
    },
    /// 12: the request's type is not known to this monitor.
    Unsupported {
        /// That type.
        message_type: u8,
    },
    /// 13: done.
    Done,
    /// 14: not done.
    Failed(Errno),
    /// 18: the listener is there.
    Listening {
        /// Its id.
        listener_id: u32,
        /// The address it is bound to, with the port that the host chose.
        local: Address,
    },
    /// 20: the connection is there.
    Connected {
        /// The connection.
        ready: ConnectionReady,
        /// Its local address on the host.
        local: Address,
        /// Its peer's address.
        peer: Address,
    },
    /// 23: a connection came in.
    Accepted {
        /// The connection.
        ready: ConnectionReady,
        /// Its local address on the host.
        local: Address,
        /// Its peer's address.
        peer: Address,
    },
    /// 25: addresses of a listener or connection.
    AddressesOk {
        /// The local address.
        local: Address,
        /// The peer's address; a listener has none.
        peer: Option<Address>,
    },
    /// 28: the value of an option.
    OptionValue(u64),
}

impl Reply {
    /// The message type.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::ListenOk { .. } => code::LISTEN_OK,
            Self::ConnectOk(_) => code::CONNECT_OK,
            Self::IncomingConnection(_) => code::INCOMING_CONNECTION,
            Self::ListenErr(_) => code::LISTEN_ERR,
            Self::ConnectErr(_) => code::CONNECT_ERR,
            Self::AcceptErr(_) => code::ACCEPT_ERR,
            Self::HelloOk { .. } => code::HELLO_OK,
            Self::Unsupported { .. } => code::UNSUPPORTED,
            Self::Done => code::DONE,
            Self::Failed(_) => code::FAILED,
            Self::Listening { .. } => code::LISTENING,
            Self::Connected { .. } => code::CONNECTED,
            Self::Accepted { .. } => code::ACCEPTED,
            Self::AddressesOk { .. } => code::ADDRESSES_OK,
            Self::OptionValue(_) => code::OPTION_VALUE,
        }
    }

    /// The reply as a frame; `request_id` is the request's.
    #[must_use]
    pub fn to_frame(&self, request_id: u32) -> Frame {
        Frame::build(self.code(), request_id, |buffer| {
            let mut writer = Writer::new(buffer);
            self.write(&mut writer);
            writer.len()
        })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Self::ListenOk { listener_id } => {
                writer.u32(*listener_id);
            }
            Self::ConnectOk(ready) | Self::IncomingConnection(ready) => ready.write(writer),
            Self::ListenErr(errno)
            | Self::ConnectErr(errno)
            | Self::AcceptErr(errno)
            | Self::Failed(errno) => {
                writer.u32(errno.0);
            }
            Self::HelloOk { version, features } => {
                writer.u32(*version).u64(*features);
            }
            Self::Unsupported { message_type } => {
                writer.u8(*message_type);
            }
            Self::Done => {}
            Self::Listening { listener_id, local } => {
                writer.u32(*listener_id);
                local.write(writer);
            }
            Self::Connected { ready, local, peer } | Self::Accepted { ready, local, peer } => {
                ready.write(writer);
                local.write(writer);
                peer.write(writer);
            }
            Self::AddressesOk { local, peer } => {
                local.write(writer);
                Address::write_optional(*peer, writer);
            }
            Self::OptionValue(value) => {
                writer.u64(*value);
            }
        }
    }

    /// The reply that a frame holds.
    ///
    /// # Errors
    ///
    /// [`MessageError`]: an unknown type, or a payload that is not of its type.
    pub fn from_frame(frame: &Frame) -> Result<Self, MessageError> {
        let mut fields = Fields::new(frame.message_type, frame.payload());
        let f = &mut fields;
        let reply = match frame.message_type {
            code::LISTEN_OK => Self::ListenOk {
                listener_id: f.u32()?,
            },
            code::CONNECT_OK => Self::ConnectOk(ConnectionReady::read(f)?),
            code::INCOMING_CONNECTION => Self::IncomingConnection(ConnectionReady::read(f)?),
            code::LISTEN_ERR => Self::ListenErr(Errno(f.u32()?)),
            code::CONNECT_ERR => Self::ConnectErr(Errno(f.u32()?)),
            code::ACCEPT_ERR => Self::AcceptErr(Errno(f.u32()?)),
            code::HELLO_OK => Self::HelloOk {
                version: f.u32()?,
                features: f.u64()?,
            },
            code::UNSUPPORTED => Self::Unsupported {
                message_type: f.u8()?,
            },
            code::DONE => Self::Done,
            code::FAILED => Self::Failed(Errno(f.u32()?)),
            code::LISTENING => Self::Listening {
                listener_id: f.u32()?,
                local: Address::read(f)?,
            },
            code::CONNECTED => Self::Connected {
                ready: ConnectionReady::read(f)?,
                local: Address::read(f)?,
                peer: Address::read(f)?,
            },
            code::ACCEPTED => Self::Accepted {
                ready: ConnectionReady::read(f)?,
                local: Address::read(f)?,
                peer: Address::read(f)?,
            },
            code::ADDRESSES_OK => Self::AddressesOk {
                local: Address::read(f)?,
                peer: Address::read_optional(f)?,
            },
            code::OPTION_VALUE => Self::OptionValue(f.u64()?),
            other => return Err(MessageError::UnknownType(other)),
        };
        fields.done(reply)
    }
}
