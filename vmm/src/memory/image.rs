//! The guest's image: an ELF file, checked before anything of it is loaded.
//!
//! The headers are read through a cache that reads ranges, not the whole file:
//! an image is mostly debug information, which a boot does not need.

use crate::error::{ImageError, StartError};
use crate::memory::GuestMemory;
use crate::memory::elf::{Layout, check};
use crate::vm::config::Image;
use linux_loader::loader::{Elf, KernelLoader};
use nix::libc;
use object::read::ReadCache;
use std::fs::{File, OpenOptions};
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use vm_memory::GuestAddress;

/// An image that was found to be in order.
pub struct CheckedImage {
    name: String,
    source: Source,
    layout: Layout,
}

enum Source {
    File(File),
    Bytes(Arc<[u8]>),
}

impl CheckedImage {
    /// Opens an image and checks it, for a guest with low memory of that size.
    pub fn open(image: &Image, low_memory: u64) -> Result<Self, StartError> {
        let (name, source) = match image {
            Image::Bytes(bytes) => ("the image".into(), Source::Bytes(Arc::clone(bytes))),
            Image::Path(path) => {
                let unreadable = |reason: String| StartError::ImageUnreadable {
                    path: path.clone(),
                    reason,
                };
                // Without waiting: a fifo would wait for its writer.
                let file = OpenOptions::new()
                    .read(true)
                    .custom_flags(libc::O_NONBLOCK)
                    .open(path)
                    .map_err(|error| unreadable(plain(&error)))?;
                let metadata = file.metadata().map_err(|error| unreadable(plain(&error)))?;
                if !metadata.is_file() {
                    return Err(unreadable("it is not a regular file".into()));
                }
                (path.display().to_string(), Source::File(file))
            }
        };
        let layout = match &source {
            Source::File(file) => check(&ReadCache::new(file), low_memory),
            Source::Bytes(bytes) => check(&bytes[..], low_memory),
        }
        .map_err(|reason| StartError::Image {
            name: name.clone(),
            reason,
        })?;
        Ok(Self {
            name,
            source,
            layout,
        })
    }

    /// Its path, or what stands for it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What was found in it.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Loads its segments. The memory must be fresh: what the file does not
    /// fill is left as it is.
    pub fn load(&self, memory: &GuestMemory) -> Result<(), StartError> {
        // With an offset given, even of 0, the loader leaves the notes alone:
        // they are about booting a kernel.
        let offset = Some(GuestAddress(0));
        let loaded = match &self.source {
            Source::File(file) => {
                let mut file: &File = file;
                Elf::load(memory.regions(), offset, &mut file, None)
            }
            Source::Bytes(bytes) => {
                Elf::load(memory.regions(), offset, &mut Cursor::new(&bytes[..]), None)
            }
        };
        loaded.map(drop).map_err(|error| StartError::Image {
            name: self.name.clone(),
            reason: ImageError::Load(error.to_string()),
        })
    }

    /// The whole file, for its debug information.
    pub fn bytes(&self) -> Option<Arc<[u8]>> {
        match &self.source {
            Source::Bytes(bytes) => Some(Arc::clone(bytes)),
            Source::File(file) => {
                let mut file: &File = file;
                let mut bytes = Vec::new();
                file.seek(SeekFrom::Start(0)).ok()?;
                file.read_to_end(&mut bytes).ok()?;
                Some(bytes.into())
            }
        }
    }
}

/// What went wrong, without the number that `std` adds.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".into(),
        std::io::ErrorKind::PermissionDenied => "you may not read it".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
