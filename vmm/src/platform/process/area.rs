//! The memory shared with the stub, besides the guest's.

use crate::platform::park::futex_wake_shared;
use arca_stub::area::{AREA_SIZE, Area, Stage, Turn};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

/// An area, mapped.
pub struct SharedArea {
    area: NonNull<Area>,
}

// SAFETY: it consists of atomics, and the mapping belongs to no thread.
unsafe impl Send for SharedArea {}
// SAFETY: as above.
unsafe impl Sync for SharedArea {}

impl SharedArea {
    /// The area at the beginning of that file, which cannot be cut shorter.
    pub fn new(file: BorrowedFd<'_>) -> io::Result<Self> {
        let len = NonZeroUsize::new(AREA_SIZE).unwrap_or(NonZeroUsize::MIN);
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice.
        let area = unsafe { mmap(None, len, protection, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { area: area.cast() })
    }

    /// How far the stub is.
    pub fn stage(&self) -> Option<Stage> {
        // Acquire pairs with the stub's Release.
        let stage = self.stage.load(Ordering::Acquire);
        [Stage::Starting, Stage::Ready, Stage::Running, Stage::Failed]
            .into_iter()
            .find(|&known| known as u32 == stage)
    }

    /// Lets the guest run.
    pub fn start(&self) {
        // Release pairs with the stub's Acquire: what was written before is there.
        self.stage.store(Stage::Running as u32, Ordering::Release);
        futex_wake_shared(&self.stage);
    }

    /// Tells all who wait for the stub that there is none any more.
    pub fn abandon(&self) {
        for slot in &self.slots {
            // Release: see `Slot::turn`.
            slot.turn.store(Turn::Nobody as u32, Ordering::Release);
            futex_wake_shared(&slot.turn);
        }
        futex_wake_shared(&self.stage);
    }
}

impl Deref for SharedArea {
    type Target = Area;

    fn deref(&self) -> &Area {
        // SAFETY: the mapping is an area's size and lives as long as `self`. Whatever
        // the guest writes there is a value of atomics.
        unsafe { self.area.as_ref() }
    }
}

impl Drop for SharedArea {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new`, and nothing borrows from it any more.
        let _ = unsafe { munmap(self.area.cast(), AREA_SIZE) };
    }
}
