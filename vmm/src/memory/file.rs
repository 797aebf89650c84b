//! Files in memory, for what another process has mapped too.

use nix::fcntl::{F_ADD_SEALS, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;
use std::io;
use std::os::fd::OwnedFd;

/// What may be done with the bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// They are read and written.
    Data,
    /// They may be executed too.
    Code,
}

/// A file of that size, in bytes, all zero. It cannot be resized: whoever has it
/// mapped can touch all of it.
pub fn memory_file(name: &str, size: u64, content: Content) -> io::Result<OwnedFd> {
    // memfd_create(2), since Linux 6.3; both.
    const MFD_NOEXEC_SEAL: u32 = 0x8;
    const MFD_EXEC: u32 = 0x10;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let wanted = MFdFlags::from_bits_retain(match content {
        Content::Data => MFD_NOEXEC_SEAL,
        Content::Code => MFD_EXEC,
    });
    // A kernel that does not know the difference makes none.
    let file = match memfd_create(name, flags | wanted) {
        Err(nix::Error::EINVAL) => memfd_create(name, flags)?,
        made => made?,
    };
    ftruncate(&file, i64::try_from(size).map_err(io::Error::other)?)?;
    let fixed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    fcntl(&file, F_ADD_SEALS(fixed))?;
    Ok(file)
}
