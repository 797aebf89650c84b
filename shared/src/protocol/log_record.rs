//! Log records on the log pipe.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | level: 1 error, 2 warn, 3 info, 4 debug, 5 trace; 0 is text for standard error as it is |
//! | 1 | 1 | target_len |
//! | 2 | 2 | text_len, little-endian |
//! | 4 | target_len | target, UTF-8 |
//! | 4 + target_len | text_len | text, UTF-8 |

/// Bytes before a record's target.
pub const HEADER_LEN: usize = 4;
/// The level of text that goes to standard error as it is.
pub const RAW: u8 = 0;

/// The fixed part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// How important it is; [`RAW`], or 1 to 5.
    pub level: u8,
    /// Length of the target, in bytes.
    pub target_len: u8,
    /// Length of the text, in bytes.
    pub text_len: u16,
}

impl RecordHeader {
    /// The header as bytes.
    #[must_use]
    pub fn encode(self) -> [u8; HEADER_LEN] {
        let [low, high] = self.text_len.to_le_bytes();
        [self.level, self.target_len, low, high]
    }

    /// The header that these bytes are. Every value means something: a level
    /// past 5 is taken as 5.
    #[must_use]
    pub fn decode([level, target_len, low, high]: [u8; HEADER_LEN]) -> Self {
        Self {
            level: level.min(5),
            target_len,
            text_len: u16::from_le_bytes([low, high]),
        }
    }

    /// Bytes behind the header.
    #[must_use]
    pub fn body_len(self) -> usize {
        usize::from(self.target_len) + usize::from(self.text_len)
    }
}
