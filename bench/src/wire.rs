//! What goes over a connection.
//!
//! An *echo* connection carries bytes back as they came.
//!
//! A *transfer* connection carries any number of transfers, one after the other.
//! Each begins with a [`Header`] from the client, after which `up` bytes go to the
//! server and `down` bytes come from it, at the same time; when the server has
//! all of `up`, and has sent `down`, it sends the number of bytes that it received
//! in 8 bytes. A client that has these knows that nothing is on its way any more.

use crate::failure::Failure;
use alloc::vec;
use alloc::vec::Vec;

/// What a transfer is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes from client to server.
    pub up: u64,
    /// Bytes from server to client.
    pub down: u64,
}

impl Header {
    /// Size on the wire, in bytes.
    pub const SIZE: usize = 16;

    /// The header on the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        (u128::from(self.down) << 64 | u128::from(self.up)).to_le_bytes()
    }

    /// The header that these bytes are.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        let both = u128::from_le_bytes(bytes);
        Self {
            up: both as u64,
            down: (both >> 64) as u64,
        }
    }
}

/// Size of the count that ends a transfer.
pub const COUNT_SIZE: usize = 8;

/// Checks the count that the server sent.
pub(crate) fn check_count(bytes: [u8; COUNT_SIZE], sent: u64) -> Result<(), Failure> {
    match u64::from_le_bytes(bytes) {
        count if count == sent => Ok(()),
        count => Err(Failure::new(alloc::format!(
            "the server got {count} of {sent} bytes"
        ))),
    }
}

/// Bytes to send. Not zeros: an untouched page of zeros is one page of the
/// host's, however many there seem to be.
pub(crate) fn payload(len: usize) -> Vec<u8> {
    vec![0x5a; len]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back() {
        let header = Header {
            up: 1 << 40,
            down: u64::MAX - 3,
        };
        assert_eq!(Header::from_bytes(header.to_bytes()), header);
    }

    #[test]
    fn a_wrong_count_is_told() {
        assert_eq!(check_count(7u64.to_le_bytes(), 7), Ok(()));
        assert!(check_count(6u64.to_le_bytes(), 7).is_err());
    }
}
