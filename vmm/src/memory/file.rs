//! Files in memory, for what another process has mapped too, code among it.

use nix::fcntl::{F_ADD_SEALS, FallocateFlags, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// A file of that size, in bytes, all zero, which may be executed. It cannot be
/// resized: whoever has it mapped can touch all of it.
pub fn memory_file(name: &str, size: u64) -> io::Result<OwnedFd> {
    // memfd_create(2), since Linux 6.3.
    const MFD_EXEC: MFdFlags = MFdFlags::from_bits_retain(0x10);
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // A kernel that does not know of files that may not be executed makes none.
    let file = match memfd_create(name, flags | MFD_EXEC) {
        Err(nix::Error::EINVAL) => memfd_create(name, flags)?,
        made => made?,
    };
    ftruncate(&file, i64::try_from(size).map_err(io::Error::other)?)?;
    let fixed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    fcntl(&file, F_ADD_SEALS(fixed))?;
    Ok(file)
}

/// Whether this kernel promises no more memory than it has. It takes that of a file in
/// memory page by page even then, and kills whoever touches a page that it has not.
pub fn promises_are_kept() -> bool {
    let mode = fs::read_to_string("/proc/sys/vm/overcommit_memory");
    is_strict(&mode.unwrap_or_default())
}

fn is_strict(mode: &str) -> bool {
    mode.trim() == "2"
}

/// Has the kernel take all memory of a file of that size, in bytes, now.
pub fn reserve(file: impl AsFd, size: u64) -> io::Result<()> {
    let size = i64::try_from(size).map_err(io::Error::other)?;
    loop {
        match fallocate(&file, FallocateFlags::empty(), 0, size) {
            Err(nix::Error::EINTR) => {}
            result => return result.map_err(Into::into),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn memory_is_taken_when_it_is_touched_or_reserved() {
        const SIZE: u64 = 8 << 20;
        let file = File::from(memory_file("test", SIZE).expect("a file"));
        let taken = || 512 * file.metadata().expect("it is open").blocks();
        assert_eq!(taken(), 0);
        reserve(&file, SIZE).expect("there is so much");
        assert_eq!(taken(), SIZE);
    }

    #[test]
    fn one_mode_of_three_is_strict() {
        assert!(is_strict("2\n"));
        assert!(!is_strict("0\n") && !is_strict("1\n") && !is_strict(""));
    }
}
