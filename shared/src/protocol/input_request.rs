//! Requests for standard input, on ring A of its pipe.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | most bytes wanted, little-endian |

/// Bytes of a request.
pub const REQUEST_LEN: usize = 4;

/// Arca waits for standard input: one read of at most so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRequest(pub u32);

impl ReadRequest {
    /// The request as bytes.
    #[must_use]
    pub fn encode(self) -> [u8; REQUEST_LEN] {
        self.0.to_le_bytes()
    }

    /// The request that these bytes are. Every value means something: 0 asks for
    /// nothing, and more than the pipe holds for as much as it holds.
    #[must_use]
    pub fn decode(bytes: [u8; REQUEST_LEN]) -> Self {
        Self(u32::from_le_bytes(bytes))
    }
}
