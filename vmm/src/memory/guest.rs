//! Guest memory: two mappings, low memory and the arena.
//!
//! A page costs memory once it is touched. Under KVM nobody outside this process
//! needs guest memory: it is private and anonymous, and the first touch of a page
//! costs a fraction of that of a file's (docs/performance.md has the figures). A
//! guest in a process of its own has it mapped too: then it is a file in memory.
//!
//! Guest memory is written by the guest while the VMM runs, so no Rust reference
//! is formed into it; what is copied in or out goes through vm-memory's volatile
//! accesses.

use crate::error::StartError;
use crate::memory::file::{memory_file, promises_are_kept, reserve};
use arca_shared::memory::Arena;
use arca_shared::protocol::layout::{
    ARENA_GPA, ARENA_SIZE_MAX, ARENA_SIZE_MIN, LOW_MEMORY_MAX, LOW_MEMORY_MIN, PAGE_SIZE,
};
use nix::sys::mman::{MmapAdvise, madvise};
use std::any::Any;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
};

/// Bytes of a huge page.
const HUGE_PAGE: u64 = 2 << 20;

/// The memory of one guest.
pub struct GuestMemory {
    regions: GuestMemoryMmap<()>,
    low: u64,
    arena: u64,
    file: Option<Arc<File>>,
}

/// One range of guest-physical memory and where this process has it mapped.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Guest-physical address.
    pub guest: u64,
    /// Address in this process.
    pub host: u64,
    /// Size, in bytes.
    pub len: u64,
}

impl GuestMemory {
    /// Checks the sizes that a guest is to have.
    pub fn check_sizes(low: u64, arena: u64) -> Result<(), StartError> {
        if !(LOW_MEMORY_MIN..=LOW_MEMORY_MAX).contains(&low) || !low.is_multiple_of(PAGE_SIZE) {
            return Err(StartError::LowMemorySize { size: low });
        }
        if !(ARENA_SIZE_MIN..=ARENA_SIZE_MAX).contains(&arena) || !arena.is_multiple_of(PAGE_SIZE) {
            return Err(StartError::ArenaSize { size: arena });
        }
        Ok(())
    }

    /// Makes memory of these sizes, all zero, which this process alone has.
    pub fn new(low: u64, arena: u64) -> Result<Arc<Self>, StartError> {
        Self::check_sizes(low, arena)?;
        Self::map(low, arena, None)
    }

    /// Makes memory of these sizes, all zero, which another process can map by its
    /// file ([`GuestMemory::file`]): `before` bytes that are no guest memory, low
    /// memory, then the arena.
    pub fn shared(before: u64, low: u64, arena: u64) -> Result<Arc<Self>, StartError> {
        Self::check_sizes(low, arena)?;
        let size = before + low + arena;
        let file = memory_file("arca-memory", size).map_err(|error| {
            let reason = match error.kind() {
                io::ErrorKind::FileTooLarge => {
                    "it is a file in memory, and files may not be so large here (ulimit -f)".into()
                }
                _ => error.to_string(),
            };
            StartError::Memory { size, reason }
        })?;
        if promises_are_kept() {
            reserve(&file, size).map_err(|error| StartError::Memory {
                size,
                reason: format!(
                    "the kernel promises no more than it has (vm.overcommit_memory=2), and in a \
                     process a guest has all of its memory from the start: {error}; give it less \
                     by --memory and --arena, or allow promises: `sudo sysctl -w \
                     vm.overcommit_memory=0`"
                ),
            })?;
        }
        Self::map(low, arena, Some((Arc::new(file.into()), before)))
    }

    /// `file`: where its memory is, behind so many other bytes.
    fn map(low: u64, arena: u64, file: Option<(Arc<File>, u64)>) -> Result<Arc<Self>, StartError> {
        let failed = |reason: String| StartError::Memory {
            size: low + arena,
            reason,
        };
        let offset = |start| {
            let (file, before) = file.as_ref()?;
            Some(FileOffset::from_arc(Arc::clone(file), before + start))
        };
        let ranges = [
            (GuestAddress(0), low as usize, offset(0)),
            (GuestAddress(ARENA_GPA), arena as usize, offset(low)),
        ];
        let regions = GuestMemoryMmap::from_ranges_with_files(&ranges)
            .map_err(|error| failed(error.to_string()))?;
        let memory = Self {
            regions,
            low,
            arena,
            file: file.map(|(file, _)| file),
        };
        // An idle connection touches two pages; with huge pages it would have
        // megabytes to itself. SAFETY: the range is one mapping of ours, and the
        // advice does not change what it holds.
        let _ = unsafe {
            madvise(
                memory.host_base(ARENA_GPA).cast(),
                arena as usize,
                MmapAdvise::MADV_NOHUGEPAGE,
            )
        };
        Ok(Arc::new(memory))
    }

    /// What vm-memory makes of it, for crates that load into it.
    pub fn regions(&self) -> &GuestMemoryMmap<()> {
        &self.regions
    }

    /// The file, if it is shared.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(|file| file.as_fd())
    }

    /// Where the memory at a guest-physical address is in the file.
    pub fn offset_in_file(&self, address: u64) -> Option<u64> {
        let region = self.regions.find_region(GuestAddress(address))?;
        let start = region.file_offset()?.start();
        Some(start + (address - region.start_addr().0))
    }

    /// The ranges that KVM has to know.
    pub fn slots(&self) -> Vec<Slot> {
        self.regions
            .iter()
            .map(|region| Slot {
                guest: region.start_addr().0,
                host: region.get_mmap().as_ptr() as u64,
                len: region.len(),
            })
            .collect()
    }

    /// Where this process has low memory mapped.
    pub fn low_base(&self) -> NonNull<u8> {
        self.host_base(0)
    }

    fn host_base(&self, guest: u64) -> NonNull<u8> {
        let region = self
            .regions
            .find_region(GuestAddress(guest))
            .expect("both regions were made in `new`");
        NonNull::new(region.get_mmap().as_ptr()).expect("a mapping is not at address 0")
    }

    /// The arena, which keeps this memory mapped for as long as it lives.
    pub fn arena(self: &Arc<Self>) -> Arena {
        let owner: Arc<dyn Any + Send + Sync> = Arc::clone(self) as _;
        // SAFETY: the region is mapped readable and writable, is as long as
        // stated, and lives as long as `owner`, which goes along. No reference
        // into it is formed anywhere in this crate.
        unsafe { Arena::new(self.host_base(ARENA_GPA), self.arena as usize) }.with_owner(owner)
    }

    /// Copies bytes into low memory.
    ///
    /// For addresses that the VMM chose: whether they fit was checked when they
    /// were.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), StartError> {
        self.regions
            .write_slice(bytes, GuestAddress(address))
            .map_err(|error| StartError::Memory {
                size: self.low + self.arena,
                reason: error.to_string(),
            })
    }

    /// Copies bytes out of guest memory; `false` if they are not all there.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        self.regions
            .read_slice(bytes, GuestAddress(address))
            .is_ok()
    }

    /// Has the kernel back this range of low memory, which nobody has touched, by huge
    /// pages where it can: the guest leaves for the kernel at the first access to each
    /// page. Only a hint: failing costs time.
    pub fn prefer_huge_pages(&self, range: Range<u64>) {
        self.advise(huge_pages(range), MmapAdvise::MADV_HUGEPAGE);
    }

    /// Has the kernel back a range of low memory now, in one call, instead of
    /// page by page when the guest touches it. Only a hint: failing costs time.
    pub fn populate(&self, address: u64, len: u64) {
        self.advise(
            address..address.saturating_add(len),
            MmapAdvise::MADV_POPULATE_WRITE,
        );
    }

    /// Advises the kernel on a range of low memory, if it is one; which changes nothing of
    /// what the range holds.
    fn advise(&self, range: Range<u64>, advice: MmapAdvise) {
        if range.is_empty() || range.end > self.low {
            return;
        }
        let len = (range.end - range.start) as usize;
        // SAFETY: the range is inside low memory, see above.
        let start = unsafe { self.low_base().add(range.start as usize) };
        // SAFETY: the range is inside one mapping of ours, and no advice that is given
        // here changes what it holds.
        let _ = unsafe { madvise(start.cast(), len, advice) };
    }
}

/// The huge pages that are all in this range; its end is not after its start if there
/// are none.
fn huge_pages(range: Range<u64>) -> Range<u64> {
    range.start.next_multiple_of(HUGE_PAGE)..range.end / HUGE_PAGE * HUGE_PAGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_whole_and_inside_of_the_range() {
        const HUGE: u64 = 2 << 20;
        assert_eq!(huge_pages(0..2 * HUGE), 0..2 * HUGE);
        assert_eq!(huge_pages(1..2 * HUGE + 1), HUGE..2 * HUGE);
        assert_eq!(huge_pages(1..3 * HUGE - 1), HUGE..2 * HUGE);
        assert!(huge_pages(HUGE + 1..2 * HUGE + 1).is_empty());
        let memory = GuestMemory::new(16 << 20, 1 << 20).expect("memory");
        for range in [0..0, HUGE + 1..HUGE + 2, 0..u64::MAX] {
            memory.prefer_huge_pages(range);
        }
    }

    #[test]
    fn memory_outlives_its_handle_through_the_arena() {
        let memory = GuestMemory::new(16 << 20, 1 << 20).expect("memory");
        memory.write(0x1000, b"hello").expect("inside");
        let mut bytes = [0; 5];
        assert!(memory.read(0x1000, &mut bytes));
        assert_eq!(&bytes, b"hello");
        assert!(!memory.read((16 << 20) - 2, &mut bytes));
        memory.populate(0x2000, 0x2000);
        memory.populate(u64::MAX, 0x2000);
        let arena = memory.arena();
        drop(memory);
        // SAFETY: the arena keeps its memory mapped, and nobody else uses it.
        unsafe {
            arena.base().write_volatile(7);
            assert_eq!(arena.base().read_volatile(), 7);
        }
    }

    #[test]
    fn bad_sizes_are_refused() {
        for (low, arena) in [
            (0, 1 << 20),
            (16 << 20, 0),
            (LOW_MEMORY_MAX + PAGE_SIZE, 1 << 20),
            ((16 << 20) + 1, 1 << 20),
            (16 << 20, (1 << 20) + 8),
            (16 << 20, u64::MAX),
        ] {
            assert!(GuestMemory::new(low, arena).is_err(), "{low} {arena}");
        }
    }
}
