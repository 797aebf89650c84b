//! Reading and writing the fixed layouts of payloads.

use crate::protocol::frame::MAX_PAYLOAD;

/// Why a frame is not one of the messages that its receiver expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The type is none that this side receives.
    #[error("message type {0} is not known")]
    UnknownType(u8),
    /// The payload is not as long as its type requires.
    #[error(
        "a message of type {message_type} has {found} bytes of payload; that is not a length it can have"
    )]
    WrongLength {
        /// The message's type.
        message_type: u8,
        /// The length found, in bytes.
        found: usize,
    },
    /// A field of the payload has a value that means nothing.
    #[error("a message of type {message_type} has a field with the meaningless value {found}")]
    BadField {
        /// The message's type.
        message_type: u8,
        /// The value found.
        found: u64,
    },
}

/// Takes fields off the front of a payload; `done` checks that all was taken.
pub(super) struct Fields<'a> {
    message_type: u8,
    payload: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(message_type: u8, payload: &'a [u8]) -> Self {
        Self {
            message_type,
            payload,
            rest: payload,
        }
    }

    pub(super) fn wrong_length(&self) -> MessageError {
        MessageError::WrongLength {
            message_type: self.message_type,
            found: self.payload.len(),
        }
    }

    pub(super) fn bad(&self, found: impl Into<u64>) -> MessageError {
        MessageError::BadField {
            message_type: self.message_type,
            found: found.into(),
        }
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let Some((field, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.wrong_length());
        };
        self.rest = rest;
        Ok(*field)
    }

    /// All that is left.
    pub(super) fn tail(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    pub(super) fn done<T>(self, value: T) -> Result<T, MessageError> {
        match self.rest {
            [] => Ok(value),
            _ => Err(self.wrong_length()),
        }
    }
}

/// Puts fields one after the other into a payload buffer. Every layout is
/// shorter than the buffer; what would not fit is dropped.
pub(super) struct Writer<'a> {
    buffer: &'a mut [u8; MAX_PAYLOAD],
    len: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn new(buffer: &'a mut [u8; MAX_PAYLOAD]) -> Self {
        Self { buffer, len: 0 }
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        if let Some(target) = self.buffer.get_mut(self.len..self.len + bytes.len()) {
            target.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}
