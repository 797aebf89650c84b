//! Bytes to send, and digests of what came.

pub use arca_script::noise;
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};

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

/// Bytes of a block of a long stream.
pub const BLOCK: usize = 1 << 20;

/// Writes a stream of so many blocks, which are never in memory at once.
///
/// # Errors
///
/// If it cannot be written.
pub fn send_blocks(to: &mut impl Write, seed: u64, blocks: u64) -> io::Result<()> {
    (0..blocks).try_for_each(|block| to.write_all(&noise(seed + block, BLOCK)))
}

/// The digest of such a stream.
#[must_use]
pub fn blocks_digest(seed: u64, blocks: u64) -> String {
    let mut hasher = Hashing::default();
    send_blocks(&mut hasher, seed, blocks).expect("a digest takes all");
    hasher.digest()
}

/// The digest of all that comes, to its end.
///
/// # Errors
///
/// If it cannot be read.
pub fn digest_of(from: &mut impl Read) -> io::Result<String> {
    let mut hasher = Hashing::default();
    io::copy(from, &mut hasher)?;
    Ok(hasher.digest())
}

/// What is written, as its length and digest.
#[derive(Default)]
struct Hashing {
    len: u64,
    hasher: Sha256,
}

impl Hashing {
    fn digest(self) -> String {
        let digest = self.hasher.finalize();
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{} bytes, {hex}", self.len)
    }
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.len += bytes.len() as u64;
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
