//! What a file of a kernel says of itself: the header that boot loaders read, as
//! the kernel's Documentation/arch/x86/boot.rst has it, or an ELF file.

use super::unpack;
use anyhow::{Context, Result, bail};

/// Where the boot header's fields are.
const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x20e;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR: usize = 512;
/// How a kernel begins to say who it is.
const BANNER: &[u8] = b"Linux version ";

/// A file of a kernel: a bzImage, or the ELF file that is in one.
#[derive(Clone, Copy)]
pub struct KernelFile<'a> {
    bytes: &'a [u8],
    elf: bool,
}

impl<'a> KernelFile<'a> {
    /// Looks what it is.
    ///
    /// # Errors
    ///
    /// If it is no kernel.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let elf = bytes.starts_with(b"\x7fELF");
        if !elf && bytes.get(MAGIC..MAGIC + 4) != Some(b"HdrS") {
            bail!("this is no Linux kernel: neither a bzImage nor an ELF file");
        }
        Ok(Self { bytes, elf })
    }

    /// Its release, as `uname -r` has it.
    ///
    /// # Errors
    ///
    /// If it does not say.
    pub fn release(&self) -> Result<String> {
        let text = if self.elf {
            let mut places = self.bytes.windows(BANNER.len());
            let place = places.position(|text| text == BANNER);
            place.and_then(|place| self.bytes.get(place + BANNER.len()..))
        } else {
            self.field::<2>(VERSION).and_then(|offset| {
                let offset = usize::from(u16::from_le_bytes(offset));
                self.bytes.get(offset + SECTOR..)
            })
        };
        let text = text.context("this kernel does not say its version")?;
        let ends = |byte: &u8| !byte.is_ascii_graphic();
        let len = text.iter().position(ends).unwrap_or(text.len());
        let release = String::from_utf8_lossy(&text[..len.min(128)]).into_owned();
        if release.is_empty() || release.contains('/') {
            bail!("this kernel does not say its version");
        }
        Ok(release)
    }

    /// The ELF file in it, which boots faster: nothing is to be unpacked by an
    /// emulated processor.
    ///
    /// # Errors
    ///
    /// If it is compressed in a way that is not known here.
    pub fn elf(&self) -> Result<Vec<u8>> {
        if self.elf {
            return Ok(self.bytes.to_owned());
        }
        let number = |at| self.field::<4>(at).map(u32::from_le_bytes);
        let payload = (|| {
            // Zero stands for four.
            let sectors = match *self.bytes.get(SETUP_SECTORS)? {
                0 => 4,
                sectors => usize::from(sectors),
            };
            let start = ((sectors + 1) * SECTOR).checked_add(number(PAYLOAD_OFFSET)? as usize)?;
            let end = start.checked_add(number(PAYLOAD_LENGTH)? as usize)?;
            // Its last four bytes are the length of what was compressed.
            self.bytes.get(start..end)?.split_last_chunk::<4>()
        })();
        let (payload, len) = payload.context("the boot header names no payload")?;
        let elf = unpack::elf(payload)?.into_owned();
        if elf.len() != u32::from_le_bytes(*len) as usize {
            bail!("the payload is not as long as it says");
        }
        Ok(elf)
    }

    fn field<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..at + N)?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bzImage with that payload.
    fn image(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 3 * SECTOR];
        bytes[SETUP_SECTORS] = 2;
        bytes[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        bytes[VERSION..VERSION + 2].copy_from_slice(&0x100_u16.to_le_bytes());
        bytes[0x300..0x310].copy_from_slice(b"6.1.0-x (a@b) #1");
        bytes[PAYLOAD_OFFSET] = 16;
        let len = u32::try_from(payload.len()).expect("short").to_le_bytes();
        bytes[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&len);
        bytes.extend([0; 16]);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn a_kernel_says_its_release_and_holds_an_elf_file() {
        let bytes = image(b"\x7fELF\x0f\0\0\0");
        let kernel = KernelFile::parse(&bytes).expect("a kernel");
        assert_eq!(kernel.release().expect("a release"), "6.1.0-x");
        // Four bytes, and it says that there are fifteen.
        assert!(kernel.elf().is_err());
        let bytes = image(b"\x7fELF\x04\0\0\0");
        let kernel = KernelFile::parse(&bytes).expect("a kernel");
        assert_eq!(kernel.elf().expect("an ELF file"), b"\x7fELF");
        let elf = b"\x7fELF..Linux version 6.12.1+ (gcc)";
        let kernel = KernelFile::parse(elf).expect("a kernel");
        assert_eq!(kernel.release().expect("a release"), "6.12.1+");
    }

    proptest::proptest! {
        #[test]
        fn any_file_is_a_kernel_or_an_error(
            mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2048),
            magic in proptest::bool::ANY,
        ) {
            if magic && let Some(place) = bytes.get_mut(MAGIC..MAGIC + 4) {
                place.copy_from_slice(b"HdrS");
            }
            if let Ok(kernel) = KernelFile::parse(&bytes) {
                let _ = (kernel.release(), kernel.elf());
            }
        }
    }
}
