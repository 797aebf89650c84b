//! Bytes to send, and digests of what came.

pub use arca_script::noise;
use sha2::{Digest, Sha256};

/// SHA-256, in hexadecimal.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Fails unless both are equal; says where they differ, not what they are.
///
/// # Panics
///
/// If they differ.
pub fn assert_same(got: &[u8], wanted: &[u8]) {
    let differ = got.iter().zip(wanted).position(|(a, b)| a != b);
    assert!(
        got == wanted,
        "got {} bytes, wanted {}; the first difference is at {differ:?}",
        got.len(),
        wanted.len()
    );
}
