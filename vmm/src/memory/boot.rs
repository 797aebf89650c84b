//! Boot information and arguments, as the guest finds them.

use crate::error::StartError;
use crate::memory::GuestMemory;
use arca_shared::protocol::boot::{BOOT_MAGIC, BootInfo, INTERFACE_VERSION};
use arca_shared::protocol::layout::{BOOT_INFO_BASE, BOOT_INFO_END};
use vm_memory::ByteValued;

/// Where the arguments begin.
const ARGS_BASE: u64 = BOOT_INFO_BASE + size_of::<BootInfo>() as u64;

/// The program's name and arguments, as they lie in guest memory: each ended by
/// a zero byte.
pub struct Arguments {
    bytes: Vec<u8>,
    count: u32,
}

impl Arguments {
    /// Checks that they fit and that none has a zero byte in it.
    pub fn new(program: &str, args: &[String]) -> Result<Self, StartError> {
        let max = BOOT_INFO_END - ARGS_BASE;
        let all = || std::iter::once(program).chain(args.iter().map(String::as_str));
        let len = all().map(|arg| arg.len() as u64 + 1).sum();
        if len > max {
            return Err(StartError::ArgumentsTooLong { len, max });
        }
        if let Some(index) = all().position(|arg| arg.contains('\0')) {
            return Err(StartError::ArgumentWithZero { index });
        }
        let mut bytes = Vec::with_capacity(len as usize);
        for arg in all() {
            bytes.extend(arg.bytes());
            bytes.push(0);
        }
        Ok(Self {
            bytes,
            // As many as there are zero bytes: fewer than `max`.
            count: all().count() as u32,
        })
    }
}

/// A [`BootInfo`] as bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Raw(BootInfo);

// SAFETY: `BootInfo` is `repr(C)`, made of integers only, and its fields leave
// no padding (the assertion below), so each of its bytes has a value.
unsafe impl ByteValued for Raw {}

/// What `BootInfo`'s fields take: four addresses or sizes of the arena, heap
/// and arguments each in a u64, four pipes of two, the clock and the seed.
const _: () = assert!(size_of::<BootInfo>() == 8 + 8 + 16 + 16 + 8 + 48 + 16 + 16 + 8 + 24 + 32);

/// Writes the boot information, with everything that this module knows filled
/// in, and the arguments behind it.
pub fn write(
    memory: &GuestMemory,
    arguments: &Arguments,
    info: BootInfo,
) -> Result<(), StartError> {
    let info = BootInfo {
        magic: BOOT_MAGIC,
        version: INTERFACE_VERSION,
        args_base: ARGS_BASE,
        args_len: arguments.bytes.len() as u64,
        args_count: arguments.count,
        ..info
    };
    memory.write(BOOT_INFO_BASE, Raw(info).as_slice())?;
    memory.write(ARGS_BASE, &arguments.bytes)
}

/// Random bytes from the host's kernel.
pub fn seed() -> Result<[u8; 32], StartError> {
    let mut seed = [0; 32];
    // SAFETY: the kernel writes at most the length given, which is the array's.
    // Up to 256 bytes are never cut short.
    let got = unsafe { nix::libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) };
    if got != seed.len() as isize {
        return Err(StartError::Host {
            action: "get random bytes",
            source: std::io::Error::last_os_error(),
        });
    }
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_checked() {
        let fits = Arguments::new("p", &["a b".into(), String::new()]).expect("fits");
        assert_eq!(fits.bytes, b"p\0a b\0\0");
        assert_eq!(fits.count, 3);
        let room = (BOOT_INFO_END - ARGS_BASE) as usize;
        assert!(Arguments::new(&"x".repeat(room - 1), &[]).is_ok());
        assert!(matches!(
            Arguments::new(&"x".repeat(room), &[]),
            Err(StartError::ArgumentsTooLong { .. })
        ));
        assert!(matches!(
            Arguments::new("p", &["a\0b".into()]),
            Err(StartError::ArgumentWithZero { index: 1 })
        ));
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(seed().expect("random"), seed().expect("random"));
    }
}
