//! Bytes to send, and what is said of bytes that came.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::str::FromStr;
use sha2::{Digest, Sha256};

/// Most bytes that are told as they are.
const SHORT: usize = 24;

/// Bytes to send: a word as it is, or `@SEED:LEN` for [`noise`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// The bytes of a word.
    Word(String),
    /// [`noise`].
    Noise {
        /// What the bytes depend on.
        seed: u64,
        /// How many.
        len: usize,
    },
}

impl Data {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Word(word) => word.clone().into_bytes(),
            Self::Noise { seed, len } => noise(*seed, *len),
        }
    }
}

impl FromStr for Data {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let Some(noise) = text.strip_prefix('@') else {
            return Ok(Self::Word(text.into()));
        };
        let (seed, len) = noise.split_once(':').ok_or(())?;
        let seed = seed.parse().map_err(|_| ())?;
        let len = len.parse().map_err(|_| ())?;
        Ok(Self::Noise { seed, len })
    }
}

/// `len` bytes that depend on `seed`: xorshift64*.
#[must_use]
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len.next_multiple_of(8));
    while bytes.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend(state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// What is said of bytes that came: how many, and which.
#[must_use]
pub fn describe(bytes: &[u8]) -> String {
    let len = bytes.len();
    if len <= SHORT && bytes.iter().all(u8::is_ascii_graphic) {
        let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
        return format!("{len} bytes {text}").trim_end().into();
    }
    let digest = Sha256::digest(bytes);
    let mut text = format!("{len} bytes #");
    for byte in &digest[..8] {
        text += &format!("{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_a_word_or_noise() {
        assert_eq!("hello".parse(), Ok(Data::Word("hello".into())));
        assert_eq!("@3:10".parse(), Ok(Data::Noise { seed: 3, len: 10 }));
        assert_eq!("@3".parse::<Data>(), Err(()));
    }

    #[test]
    fn what_is_said_tells_bytes_apart() {
        assert_eq!(describe(b""), "0 bytes");
        assert_eq!(describe(b"hello"), "5 bytes hello");
        assert_ne!(describe(&noise(1, 99)), describe(&noise(2, 99)));
    }
}
