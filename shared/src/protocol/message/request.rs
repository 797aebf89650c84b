//! What Arca asks.

use super::wire::{Fields, MessageError, Writer};
use super::{Address, Endpoint, Target, code};
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

#[expect(
    clippy::large_enum_variant,
    reason = "a request lives on the stack, for a moment; there is no heap in the codec"
)]
/// A request, Arca → Linux. The payload's layout is in PROTOCOL.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// 1: listen on an IPv4 address. Answered by ListenOk or ListenErr.
    Listen(Endpoint),
    /// 3: connect to an IPv4 address. Answered by ConnectOk or ConnectErr.
    Connect(Endpoint),
    /// 8: wait for a connection on a listener. Answered by IncomingConnection
    /// or AcceptErr.
    Accept {
        /// The listener.
        listener_id: u32,
    },
    /// 10: what Arca speaks. Answered by HelloOk.
    Hello {
        /// [`super::VERSION`] of the sender.
        version: u32,
        /// [`super::feature`] bits of the sender.
        features: u64,
    },
    /// 15: close a listener; its pending accepts end with EBADF. Answered by
    /// Done or Failed.
    CloseListener {
        /// The listener.
        listener_id: u32,
    },
    /// 16: give up a request. Answered by Done, whether or not the request was
    /// still pending; that one gets its own answer.
    Cancel {
        /// The request_id of the request to give up.
        request_id: u32,
    },
    /// 17: listen on an address of either family. Answered by Listening or
    /// ListenErr.
    ListenAt {
        /// The address; port 0 lets the host choose.
        address: Address,
        /// Connections that may wait to be accepted; 0 means the host's default.
        backlog: u32,
    },
    /// 19: connect to an address of either family. Answered by Connected or
    /// ConnectErr.
    ConnectTo(Address),
    /// 21: connect to a host by name: each of its addresses in turn. Answered by
    /// Connected or ConnectErr.
    ConnectName {
        /// The TCP port.
        port: u16,
        /// The name.
        name: Name,
    },
    /// 22: as Accept, answered by Accepted, which tells the addresses.
    AcceptFrom {
        /// The listener.
        listener_id: u32,
    },
    /// 24: ask for the addresses of a socket. Answered by AddressesOk or Failed.
    Addresses(Target),
    /// 26: set an option. Answered by Done or Failed.
    SetOption {
        /// The socket.
        target: Target,
        /// Number of the option ([`super::SocketOption`]); one that means nothing
        /// here may mean something to a later version.
        option: u8,
        /// Its new value.
        value: u64,
    },
    /// 27: get an option. Answered by OptionValue or Failed.
    GetOption {
        /// The socket.
        target: Target,
        /// Number of the option ([`super::SocketOption`]); one that means nothing
        /// here may mean something to a later version.
        option: u8,
    },
}

impl Request {
    /// The message type.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Listen(_) => code::LISTEN_REQUEST,
            Self::Connect(_) => code::CONNECT_REQUEST,
            Self::Accept { .. } => code::ACCEPT_REQUEST,
            Self::Hello { .. } => code::HELLO,
            Self::CloseListener { .. } => code::CLOSE_LISTENER,
            Self::Cancel { .. } => code::CANCEL,
            Self::ListenAt { .. } => code::LISTEN_AT,
            Self::ConnectTo(_) => code::CONNECT_TO,
            Self::ConnectName { .. } => code::CONNECT_NAME,
            Self::AcceptFrom { .. } => code::ACCEPT_FROM,
            Self::Addresses(_) => code::ADDRESSES,
            Self::SetOption { .. } => code::SET_OPTION,
            Self::GetOption { .. } => code::GET_OPTION,
        }
    }

    /// The request as a frame.
    #[must_use]
    pub fn to_frame(&self, request_id: u32) -> Frame {
        Frame::build(self.code(), request_id, |buffer| {
            let mut writer = Writer::new(buffer);
            self.write(&mut writer);
            writer.len()
        })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        match *self {
            Self::Listen(endpoint) | Self::Connect(endpoint) => endpoint.write(writer),
            Self::Accept { listener_id }
            | Self::AcceptFrom { listener_id }
            | Self::CloseListener { listener_id } => {
                writer.u32(listener_id);
            }
            Self::Hello { version, features } => {
                writer.u32(version).u64(features);
            }
            Self::Cancel { request_id } => {
                writer.u32(request_id);
            }
            Self::ListenAt { address, backlog } => {
                address.write(writer);
                writer.u32(backlog);
            }
            Self::ConnectTo(address) => address.write(writer),
            Self::ConnectName { port, name } => {
                writer.u16(port).put(name.as_str().as_bytes());
            }
            Self::Addresses(target) => target.write(writer),
            Self::SetOption {
                target,
                option,
                value,
            } => {
                target.write(writer);
                writer.u8(option).u64(value);
            }
            Self::GetOption { target, option } => {
                target.write(writer);
                writer.u8(option);
            }
        }
    }

    /// The request that a frame holds.
    ///
    /// # Errors
    ///
    /// [`MessageError`]: an unknown type, or a payload that is not of its type.
    pub fn from_frame(frame: &Frame) -> Result<Self, MessageError> {
        let mut fields = Fields::new(frame.message_type, frame.payload());
        let request = match frame.message_type {
            code::LISTEN_REQUEST => Self::Listen(Endpoint::read(&mut fields)?),
            code::CONNECT_REQUEST => Self::Connect(Endpoint::read(&mut fields)?),
            code::ACCEPT_REQUEST => Self::Accept {
                listener_id: fields.u32()?,
            },
            code::HELLO => Self::Hello {
                version: fields.u32()?,
                features: fields.u64()?,
            },
            code::CLOSE_LISTENER => Self::CloseListener {
                listener_id: fields.u32()?,
            },
            code::CANCEL => Self::Cancel {
                request_id: fields.u32()?,
            },
            code::LISTEN_AT => Self::ListenAt {
                address: Address::read(&mut fields)?,
                backlog: fields.u32()?,
            },
            code::CONNECT_TO => Self::ConnectTo(Address::read(&mut fields)?),
            code::CONNECT_NAME => {
                let port = fields.u16()?;
                let name = core::str::from_utf8(fields.tail()).ok().and_then(Name::new);
                let name = name.ok_or_else(|| fields.wrong())?;
                Self::ConnectName { port, name }
            }
            code::ACCEPT_FROM => Self::AcceptFrom {
                listener_id: fields.u32()?,
            },
            code::ADDRESSES => Self::Addresses(Target::read(&mut fields)?),
            code::SET_OPTION => {
                let target = Target::read(&mut fields)?;
                let option = fields.u8()?;
                let value = fields.u64()?;
                Self::SetOption {
                    target,
                    option,
                    value,
                }
            }
            code::GET_OPTION => {
                let target = Target::read(&mut fields)?;
                let option = fields.u8()?;
                Self::GetOption { target, option }
            }
            other => return Err(MessageError::UnknownType(other)),
        };
        fields.done(request)
    }
}
