//! Pages of rings, faulted in before the guest comes to them.
//!
//! The cursors of a ring go through all of it before they come to any page again, so a
//! connection meets a page that nobody has touched every 4 KiB until then. The guest
//! leaves for the kernel at each of them: for 37 µs on a KVM without hardware
//! virtualisation, and 1,500 times a second where connections exchange 64 bytes at a time
//! (docs/performance.md, "Fresh memory"). Such a KVM maps the whole aligned group of eight
//! pages at one exit, but only those that the host has already: so once a ring is in use,
//! the monitor has the kernel fill in the groups before its cursor, for 1 µs a page.
//!
//! What a connection takes is bounded by what it moves: nothing for one that has moved
//! little, and half as much again, a group at least, for one that has moved much.

use crate::sys;
use arca_shared::memory::{Arena, ShmOffset};
use std::ops::Range;

/// The bytes that KVM maps at one exit where the host has them: eight pages
/// (PTE_PREFETCH_NUM of its shadow page tables).
const GROUP: u64 = 32 << 10;
/// Bytes that go through a ring before anything is filled in: a request and an answer
/// are mostly less. It is half a page, so that the guest's exit at the second page finds
/// all of the group there, and is the last one in it.
const START: u64 = 2 << 10;
/// How far before the cursor, in bytes.
const AHEAD: Range<u64> = 16 << 10..256 << 10;

/// Which groups of the arena the kernel was asked to fill in.
pub(crate) struct Prefault {
    arena: Arena,
    /// A bit for each group.
    asked: Vec<u64>,
    /// Whether the kernel knows how, as far as is known.
    supported: bool,
}

impl Prefault {
    pub(crate) fn new(arena: Arena) -> Self {
        let groups = arena.len() / GROUP as usize;
        Self {
            asked: vec![0; groups.div_ceil(64)],
            arena,
            supported: true,
        }
    }

    /// Has what lies before a ring's cursor filled in; how many bytes that were. `ring`:
    /// its header and data, as offsets in the arena; `cursor`: bytes that were ever put
    /// into it.
    pub(crate) fn ahead(&mut self, ring: Range<u64>, cursor: u64) -> u64 {
        let Some(range) = self.next(ring, cursor) else {
            return 0;
        };
        let len = range.end - range.start;
        let Ok(address) = self.arena.from_offset(ShmOffset(range.start), len, 1) else {
            return 0;
        };
        self.supported = sys::populate(address, len as usize).is_ok();
        if self.supported { len } else { 0 }
    }

    /// What is to be filled in, as offsets in the arena, if anything is.
    fn next(&mut self, ring: Range<u64>, cursor: u64) -> Option<Range<u64>> {
        let len = ring.end - ring.start;
        // Once a ring's cursor has been all around, every page of it was touched.
        if cursor < START || cursor >= len || !self.supported {
            return None;
        }
        // Of a group that a ring does not fill, the rest is another's.
        if len < GROUP || !ring.start.is_multiple_of(GROUP) {
            return None;
        }
        let ahead = (cursor / 2).clamp(AHEAD.start, AHEAD.end);
        let end = (cursor + ahead).min(len);
        let mut groups = (ring.start + cursor) / GROUP..(ring.start + end).div_ceil(GROUP);
        let first = groups.find(|&group| !self.is_asked(group))?;
        for group in first..groups.end {
            if let Some(word) = self.asked.get_mut(group as usize / 64) {
                *word |= 1 << (group % 64);
            }
        }
        Some(first * GROUP..(groups.end * GROUP).min(ring.end))
    }

    /// Whether it was asked for, or is none of the arena's.
    fn is_asked(&self, group: u64) -> bool {
        self.asked
            .get(group as usize / 64)
            .is_none_or(|word| word >> (group % 64) & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test_arena;
    use nix::errno::Errno;
    use nix::libc;
    use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous};
    use std::num::NonZeroUsize;

    const KIB: u64 = 1 << 10;

    fn prefault(arena: usize) -> Prefault {
        Prefault::new(test_arena(arena))
    }

    /// What is filled in for a ring of 256 KiB in the middle of the arena, in KiB from
    /// its start, as its cursor grows by `step` KiB.
    fn filled(step: u64) -> Vec<Range<u64>> {
        let (mut prefault, ring) = (prefault(1 << 20), 512 * KIB..768 * KIB);
        let cursors = (0..300).step_by(step as usize);
        let ranges = cursors.filter_map(|cursor| prefault.next(ring.clone(), cursor * KIB));
        let from_start = |at| at / KIB - 512;
        ranges
            .map(|range| from_start(range.start)..from_start(range.end))
            .collect()
    }

    #[test]
    fn groups_are_filled_in_before_the_cursor_comes_to_them_and_each_once() {
        let each: Vec<_> = (0..8).map(|group| group * 32..group * 32 + 32).collect();
        assert_eq!(filled(1), each);
        // One that comes in strides has the group filled in that it is in.
        assert_eq!(filled(100), [96..160, 192..256]);
    }

    #[test]
    fn a_ring_that_little_went_through_takes_nothing() {
        let mut prefault = prefault(1 << 20);
        for cursor in [0, 1, START - 1] {
            assert_eq!(prefault.next(0..256 * KIB, cursor), None);
        }
        assert_eq!(prefault.next(0..256 * KIB, START), Some(0..32 * KIB));
        // The next group's turn comes half a group before it.
        assert_eq!(prefault.next(0..256 * KIB, 16 * KIB), None);
        let next = prefault.next(0..256 * KIB, 16 * KIB + 1);
        assert_eq!(next, Some(32 * KIB..64 * KIB));
    }

    #[test]
    fn the_second_page_is_there_before_the_cursor_comes_to_it() {
        let mut prefault = prefault(1 << 20);
        assert!((0..4 * KIB).any(|cursor| prefault.next(0..256 * KIB, cursor).is_some()));
    }

    #[test]
    fn after_its_first_round_nothing_is_asked_for() {
        let mut prefault = prefault(1 << 20);
        for cursor in [64 * KIB, 64 * KIB + 1, u64::MAX] {
            assert_eq!(prefault.next(64 * KIB..128 * KIB, cursor), None);
        }
        let last = prefault.next(64 * KIB..128 * KIB, 64 * KIB - 1);
        assert_eq!(last, Some(96 * KIB..128 * KIB));
    }

    #[test]
    fn a_group_that_is_not_all_of_one_ring_is_left_alone() {
        let mut prefault = prefault(1 << 20);
        for ring in [0..16 * KIB, 16 * KIB..64 * KIB, 8..32 * KIB + 8] {
            assert_eq!(prefault.next(ring, START), None);
        }
        assert_eq!(
            prefault.next(32 * KIB..64 * KIB, START),
            Some(32 * KIB..64 * KIB)
        );
    }

    /// An arena of which no page was touched, without huge pages as a guest's: with them
    /// one page brings others along.
    fn untouched_arena(size: usize) -> Arena {
        let len = NonZeroUsize::new(size).expect("an arena has bytes");
        let (access, flags) = (
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE,
        );
        // SAFETY: a mapping of its own, wherever the kernel likes.
        let base = unsafe { mmap_anonymous(None, len, access, flags) }.expect("memory");
        // SAFETY: the mapping is ours, and the advice changes nothing that it holds.
        let advised = unsafe { madvise(base, size, MmapAdvise::MADV_NOHUGEPAGE) };
        // A kernel without huge pages does not know the advice, and needs none.
        assert!(
            matches!(advised, Ok(()) | Err(Errno::EINVAL)),
            "{advised:?}"
        );
        // SAFETY: mapped for good, and reached only through the arena.
        unsafe { Arena::new(base.cast(), size) }
    }

    /// Whether each page of the arena is in memory.
    fn resident(arena: &Arena) -> Vec<bool> {
        let mut pages = vec![0; arena.len() / 4096];
        let address = arena.base().as_ptr().cast();
        // SAFETY: the range is the arena's, and there is a byte for each of its pages.
        let result = unsafe { libc::mincore(address, arena.len(), pages.as_mut_ptr()) };
        assert_eq!(result, 0);
        pages.iter().map(|page| page & 1 != 0).collect()
    }

    #[test]
    fn what_is_asked_for_is_in_memory_then_and_nothing_else() {
        let arena = untouched_arena(8 << 20);
        let mut prefault = Prefault::new(arena.clone());
        assert!(!resident(&arena).contains(&true));
        let filled = prefault.ahead(4096 * KIB..5120 * KIB, 100 * KIB);
        assert_eq!(filled, 64 * KIB, "Linux knows how since 5.14");
        let asked = (4096 + 96) / 4..(4096 + 160) / 4;
        for (page, resident) in resident(&arena).into_iter().enumerate() {
            assert_eq!(resident, asked.contains(&page), "page {page}");
        }
    }
}
