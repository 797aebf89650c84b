//! The one definition of each message: its code, its name and the fields of its
//! payload. The enum, the codec, the list of codes and the sizes all follow from it.

use super::wire::{Fields, MessageError, Writer};
use crate::errno::Errno;

/// What a message's payload is made of. Fields follow each other without gaps.
pub(super) trait Field: Sized {
    /// The fewest and the most bytes that it takes.
    const SIZE: (usize, usize);

    fn read(fields: &mut Fields<'_>) -> Result<Self, MessageError>;

    fn write(&self, writer: &mut Writer<'_>);
}

macro_rules! integers {
    ($($integer:ident),*) => {$(
        impl Field for $integer {
            const SIZE: (usize, usize) = (size_of::<$integer>(), size_of::<$integer>());

            fn read(fields: &mut Fields<'_>) -> Result<Self, MessageError> {
                fields.bytes().map($integer::from_le_bytes)
            }

            fn write(&self, writer: &mut Writer<'_>) {
                writer.put(&self.to_le_bytes());
            }
        }
    )*};
}

integers!(u8, u16, u32, u64);

impl Field for Errno {
    const SIZE: (usize, usize) = (4, 4);

    fn read(fields: &mut Fields<'_>) -> Result<Self, MessageError> {
        u32::read(fields).map(Errno)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        self.0.write(writer);
    }
}

/// What one message is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageInfo {
    /// The message type: the first byte of its frame.
    pub code: u8,
    /// The name of its enum's variant.
    pub name: &'static str,
    /// The fewest bytes of payload.
    pub min_len: usize,
    /// The most bytes of payload.
    pub max_len: usize,
}

/// The most bytes of payload that one of these messages has.
pub(super) const fn longest(table: &[MessageInfo]) -> usize {
    let (mut most, mut index) = (0, 0);
    while index < table.len() {
        if table[index].max_len > most {
            most = table[index].max_len;
        }
        index += 1;
    }
    most
}

/// Names the value of a variant that is a tuple of one field.
macro_rules! bind {
    ($type:ty, $value:ident) => {
        $value
    };
}

/// Defines the messages of one direction. A line is
///
/// ```text
/// CODE CONSTANT Variant                    no payload
/// CODE CONSTANT Variant(Field)             one field
/// CODE CONSTANT Variant { name: Field }    several, in this order
/// ```
macro_rules! messages {
    (
        $(#[$enum_meta:meta])*
        pub enum $enum:ident {
            $(
                $(#[$meta:meta])*
                $code:literal $constant:ident $variant:ident
                $( ( $single:ty ) )?
                $( { $( $(#[$field_meta:meta])* $field:ident : $type:ty ),+ $(,)? } )?
            ),+ $(,)?
        }
    ) => {
        /// The message types of this direction, as the first byte of a frame says them.
        pub(super) mod codes {
            $(
                #[doc = concat!("[`", stringify!($variant), "`](super::", stringify!($enum), "::", stringify!($variant), ").")]
                pub const $constant: u8 = $code;
            )+
        }

        $(#[$enum_meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $enum {
            $(
                $(#[$meta])*
                #[doc = concat!(" Message type ", stringify!($code), ".")]
                $variant $( ( $single ) )? $( { $( $(#[$field_meta])* $field: $type ),+ } )?
            ),+
        }

        impl $enum {
            /// What each message of this direction is on the wire, by code.
            pub const TABLE: &'static [MessageInfo] = &[
                $(
                    MessageInfo {
                        code: $code,
                        name: stringify!($variant),
                        min_len: 0 $( + <$single as Field>::SIZE.0 )? $( $( + <$type as Field>::SIZE.0 )+ )?,
                        max_len: 0 $( + <$single as Field>::SIZE.1 )? $( $( + <$type as Field>::SIZE.1 )+ )?,
                    }
                ),+
            ];

            /// The most bytes of payload that a message of this direction has.
            pub const MAX_PAYLOAD: usize = longest(Self::TABLE);

            /// Whether a message type is one of this direction.
            #[must_use]
            pub const fn has_code(message_type: u8) -> bool {
                matches!(message_type, $( $code )|+)
            }

            /// The message type.
            #[must_use]
            pub const fn code(&self) -> u8 {
                match self {
                    $( Self::$variant { .. } => $code ),+
                }
            }

            /// The message as a frame. `request_id`: the request's, which its reply
            /// carries back.
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
                    $(
                        Self::$variant $( ( bind!($single, value) ) )? $( { $( $field ),+ } )? => {
                            $( <$single as Field>::write(value, writer); )?
                            $( $( <$type as Field>::write($field, writer); )+ )?
                        }
                    )+
                }
            }

            /// The message that a frame holds.
            ///
            /// # Errors
            ///
            /// [`MessageError`]: an unknown type, or a payload that is not of its type.
            pub fn from_frame(frame: &Frame) -> Result<Self, MessageError> {
                let mut fields = Fields::new(frame.message_type, frame.payload());
                let message = match frame.message_type {
                    $(
                        $code => Self::$variant
                            $( ( <$single as Field>::read(&mut fields)? ) )?
                            $( { $( $field: <$type as Field>::read(&mut fields)? ),+ } )?,
                    )+
                    other => return Err(MessageError::UnknownType(other)),
                };
                fields.done(message)
            }
        }
    };
}

pub(super) use {bind, messages};
