//! The arena: the one region of memory that both sides map.
//!
//! Each side maps it at an address of its own, so an address means nothing to
//! the other side: what crosses the boundary is a [`ShmOffset`], and each side
//! adds its own base.

use alloc::sync::Arc;
use core::any::Any;
use core::fmt;
use core::ptr::NonNull;

/// Distance from the arena's first byte, in bytes. One that came from the other
/// side is worth nothing until [`Arena::from_offset`] has checked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShmOffset(pub u64);

impl fmt::Display for ShmOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Why an offset or an address is not of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArenaError {
    /// The range does not lie inside the arena.
    #[error("{len} bytes at offset {offset} are not inside the arena of {arena_len} bytes")]
    OutOfBounds {
        /// The offset asked for.
        offset: ShmOffset,
        /// The length asked for, in bytes.
        len: u64,
        /// The arena's size, in bytes.
        arena_len: u64,
    },
    /// The offset is not a multiple of the alignment wanted.
    #[error("offset {offset} is not aligned to {align} bytes")]
    Misaligned {
        /// The offset asked for.
        offset: ShmOffset,
        /// The alignment wanted, in bytes.
        align: u64,
    },
    /// The address is not one of the arena's.
    #[error("address {address:#x} is not inside the arena")]
    ForeignAddress {
        /// The address asked about.
        address: usize,
    },
}

/// This side's mapping of the arena.
///
/// A clone is another handle to the same mapping. Where the mapping is owned by
/// something that could go away (the host's guest memory), the arena keeps that
/// owner alive.
#[derive(Clone)]
pub struct Arena {
    base: NonNull<u8>,
    len: usize,
    owner: Option<Arc<dyn Any + Send + Sync>>,
}

// SAFETY: an `Arena` is an address range and a reference count; it hands out
// raw pointers only, and whoever dereferences one argues for that access.
unsafe impl Send for Arena {}
// SAFETY: as above; no method changes anything.
unsafe impl Sync for Arena {}

impl Arena {
    /// Takes a mapping of `len` bytes at `base` as the arena.
    ///
    /// # Safety
    ///
    /// The range is mapped readable and writable for as long as this arena, a
    /// clone of it or a pointer made from it is used, and nothing in this
    /// program holds a Rust reference into it, except to atomics.
    #[must_use]
    pub unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
        Self {
            base,
            len,
            owner: None,
        }
    }

    /// Keeps `owner` alive as long as this arena or a clone of it.
    #[must_use]
    pub fn with_owner(mut self, owner: Arc<dyn Any + Send + Sync>) -> Self {
        self.owner = Some(owner);
        self
    }

    /// Address of the first byte on this side.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Size, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the arena has no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The offset of an address of this side.
    ///
    /// # Errors
    ///
    /// [`ArenaError::ForeignAddress`] if it is not in the arena.
    pub fn to_offset(&self, address: NonNull<u8>) -> Result<ShmOffset, ArenaError> {
        let foreign = ArenaError::ForeignAddress {
            address: address.as_ptr() as usize,
        };
        let distance = (address.as_ptr() as usize)
            .checked_sub(self.base.as_ptr() as usize)
            .ok_or(foreign)?;
        if distance >= self.len {
            return Err(foreign);
        }
        Ok(ShmOffset(distance as u64))
    }

    /// The address on this side of `len` bytes at `offset`, aligned to `align`.
    ///
    /// # Errors
    ///
    /// [`ArenaError::OutOfBounds`] or [`ArenaError::Misaligned`].
    pub fn from_offset(
        &self,
        offset: ShmOffset,
        len: u64,
        align: u64,
    ) -> Result<NonNull<u8>, ArenaError> {
        let arena_len = self.len as u64;
        let end = offset.0.checked_add(len);
        if len == 0 || end.is_none_or(|end| end > arena_len) {
            return Err(ArenaError::OutOfBounds {
                offset,
                len,
                arena_len,
            });
        }
        if !offset.0.is_multiple_of(align) {
            return Err(ArenaError::Misaligned { offset, align });
        }
        // SAFETY: `offset` is below `len`, so the sum stays inside the mapping
        // that `new`'s caller vouched for.
        Ok(unsafe { self.base.add(offset.0 as usize) })
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arena({:p}, {} bytes)", self.base, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena(memory: &mut [u64]) -> Arena {
        let base = NonNull::new(memory.as_mut_ptr().cast()).expect("a slice has an address");
        // SAFETY: the tests use the arena only while `memory` lives, and never
        // through the slice.
        unsafe { Arena::new(base, memory.len() * 8) }
    }

    #[test]
    fn offsets_and_addresses_are_inverse() {
        let mut memory = [0u64; 8];
        let arena = arena(&mut memory);
        for offset in [0, 8, 56] {
            let address = arena.from_offset(ShmOffset(offset), 8, 8).expect("inside");
            assert_eq!(arena.to_offset(address), Ok(ShmOffset(offset)));
        }
    }

    #[test]
    fn what_is_outside_is_refused() {
        let mut memory = [0u64; 8];
        let arena = arena(&mut memory);
        for (offset, len) in [
            (64, 1),
            (63, 2),
            (0, 65),
            (u64::MAX, 1),
            (1, u64::MAX),
            (8, 0),
        ] {
            assert!(
                matches!(
                    arena.from_offset(ShmOffset(offset), len, 1),
                    Err(ArenaError::OutOfBounds { .. })
                ),
                "{offset} {len}"
            );
        }
        assert!(matches!(
            arena.from_offset(ShmOffset(4), 8, 8),
            Err(ArenaError::Misaligned { .. })
        ));
        let end = NonNull::new((arena.base().as_ptr() as usize + 64) as *mut u8);
        assert!(arena.to_offset(end.expect("not null")).is_err());
    }

    #[test]
    fn an_arena_and_its_offsets_are_printed_as_people_read_them() {
        let mut memory = [0u64; 8];
        let arena = arena(&mut memory);
        let text = alloc::format!("{arena:?}");
        assert_eq!(text, alloc::format!("Arena({:p}, 64 bytes)", arena.base()));
        assert_eq!(alloc::format!("{}", ShmOffset(4096)), "0x1000");
        assert!(!arena.is_empty());
        // SAFETY: nothing is in an arena without bytes.
        assert!(unsafe { Arena::new(arena.base(), 0) }.is_empty());
    }
}
