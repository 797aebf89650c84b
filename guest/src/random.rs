//! Random bytes: what crates get that ask `getrandom` for some.
//!
//! A generator that is seeded with the random bytes of the boot information. Images are
//! built with `getrandom_backend="custom"`, by which versions 0.3 and 0.4 of `getrandom`
//! call the function here.

use crate::env;
use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use spin::Mutex;

static GENERATOR: Mutex<Option<ChaCha20Rng>> = Mutex::new(None);

/// Tells this generator's stream from that of a program which seeds one of its own
/// with [`random_seed`](crate::random_seed).
const STREAM: u64 = u64::from_le_bytes(*b"arca-rng");

/// Fills `bytes` with random ones, fit for keys.
pub fn fill_random(bytes: &mut [u8]) {
    let mut generator = GENERATOR.lock();
    let generator = generator.get_or_insert_with(|| {
        let mut generator = ChaCha20Rng::from_seed(env::random_seed());
        generator.set_stream(STREAM);
        generator
    });
    generator.fill_bytes(bytes);
}

/// What `getrandom` calls.
///
/// # Safety
///
/// `target` is writable for `len` bytes.
#[cfg(feature = "image")]
#[unsafe(no_mangle)]
unsafe extern "Rust" fn __getrandom_v03_custom(
    target: *mut u8,
    len: usize,
) -> Result<(), getrandom::Error> {
    // SAFETY: the caller vouches for the memory, which need not be initialised: it is
    // zeroed before anything takes it for bytes.
    let bytes = unsafe {
        target.write_bytes(0, len);
        core::slice::from_raw_parts_mut(target, len)
    };
    fill_random(bytes);
    Ok(())
}
