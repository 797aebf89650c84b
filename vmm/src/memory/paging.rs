//! Page tables, made from the address space.
//!
//! Pages are of 4 KiB, and of 2 MiB where a range is aligned to it (1 GiB pages
//! fault on one of the two kinds of KVM). A leaf says what its range may be
//! used for; the levels above allow everything, with the user bit set, because
//! a page is reachable from ring 3 only if every level says so.

use crate::error::StartError;
use crate::memory::GuestMemory;
use crate::memory::map::{AddressMap, Protection, Region};
use arca_shared::protocol::layout::{BOOT_INFO_BASE, PAGE_SIZE, PAGE_TABLES_BASE};
use x86_64::structures::paging::mapper::MapToError;
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags, PhysFrame,
    Size2MiB, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

/// Guest-physical address of the root: what CR3 is loaded with.
pub const ROOT: u64 = PAGE_TABLES_BASE;

/// Hands out the frames reserved for page tables, in order.
struct TableFrames {
    next: u64,
}

// SAFETY: each frame is handed out once, and nothing else is in their range.
unsafe impl FrameAllocator<Size4KiB> for TableFrames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let frame = self.next;
        if frame >= BOOT_INFO_BASE {
            return None;
        }
        self.next += PAGE_SIZE;
        Some(PhysFrame::containing_address(PhysAddr::new(frame)))
    }
}

/// Writes the page tables of an address space into fresh guest memory.
pub fn write(memory: &GuestMemory, map: &AddressMap) -> Result<(), StartError> {
    let mut frames = TableFrames {
        next: ROOT + PAGE_SIZE,
    };
    memory.write(ROOT, &[0; PAGE_SIZE as usize])?;
    let host = memory.low_base();
    // SAFETY: the root's frame is a page of low memory, page-aligned, zeroed
    // above. No vCPU exists yet, so nobody else uses it while this lives.
    let root = unsafe { host.add(ROOT as usize).cast::<PageTable>().as_mut() };
    let offset = VirtAddr::from_ptr(host.as_ptr());
    // SAFETY: all of low memory is mapped at `host`, in guest-physical order
    // from 0, and every table is in it: `TableFrames` gives no other.
    let mut tables = unsafe { OffsetPageTable::new(root, offset) };
    for region in map.regions() {
        if let Some(protection) = region.kind.protection() {
            map_region(&mut tables, &mut frames, region, leaf_flags(protection))?;
        }
    }
    Ok(())
}

/// Nobody asks which pages were touched, so all say that they were. A KVM with shadow page
/// tables then maps eight pages at one exit, and a writable one for writing at once, where
/// else each takes an exit of its own, and another for its first write. A page that is
/// dirty and not writable would be one of a shadow stack.
fn leaf_flags(protection: Protection) -> PageTableFlags {
    let mut flags = PageTableFlags::PRESENT | PageTableFlags::ACCESSED;
    flags.set(PageTableFlags::USER_ACCESSIBLE, protection.user);
    flags.set(PageTableFlags::WRITABLE, protection.write);
    flags.set(PageTableFlags::DIRTY, protection.write);
    flags.set(PageTableFlags::NO_EXECUTE, !protection.execute);
    flags
}

fn map_region(
    tables: &mut OffsetPageTable<'_>,
    frames: &mut TableFrames,
    region: &Region,
    flags: PageTableFlags,
) -> Result<(), StartError> {
    let mut address = region.range.start;
    while address < region.range.end {
        let physical = region.physical + (address - region.range.start);
        let large = address.is_multiple_of(Size2MiB::SIZE)
            && physical.is_multiple_of(Size2MiB::SIZE)
            && region.range.end - address >= Size2MiB::SIZE;
        if large {
            map_page::<Size2MiB>(tables, frames, address, physical, flags)?;
            address += Size2MiB::SIZE;
        } else {
            map_page::<Size4KiB>(tables, frames, address, physical, flags)?;
            address += Size4KiB::SIZE;
        }
    }
    Ok(())
}

fn map_page<'a, S: PageSize>(
    tables: &mut OffsetPageTable<'a>,
    frames: &mut TableFrames,
    address: u64,
    physical: u64,
    flags: PageTableFlags,
) -> Result<(), StartError>
where
    OffsetPageTable<'a>: Mapper<S>,
{
    let parents = PageTableFlags::PRESENT
        | PageTableFlags::WRITABLE
        | PageTableFlags::USER_ACCESSIBLE
        | PageTableFlags::ACCESSED;
    let page = Page::<S>::containing_address(VirtAddr::new(address));
    let frame = PhysFrame::<S>::containing_address(PhysAddr::new(physical));
    // SAFETY: these are another machine's page tables: no address of this
    // program changes its meaning.
    let mapped = unsafe { tables.map_to_with_table_flags(page, frame, flags, parents, frames) };
    match mapped {
        Ok(flush) => {
            flush.ignore();
            Ok(())
        }
        Err(
            MapToError::FrameAllocationFailed
            | MapToError::ParentEntryHugePage
            | MapToError::PageAlreadyMapped(_),
        ) => Err(StartError::PageTables),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::map::Kind;
    use crate::memory::map::tests::sample;

    /// Walks the tables as the processor would: the leaf's physical address and
    /// whether a user can reach, write and execute it.
    fn walk(memory: &GuestMemory, address: u64) -> Option<(u64, Protection)> {
        let mut table = ROOT;
        let mut protection = Protection {
            user: true,
            write: true,
            execute: true,
        };
        for shift in [39, 30, 21, 12] {
            let mut bytes = [0; 8];
            assert!(memory.read(table + (address >> shift & 511) * 8, &mut bytes));
            let entry = u64::from_le_bytes(bytes);
            if entry & 1 == 0 {
                return None;
            }
            protection.write &= entry & 2 != 0;
            protection.user &= entry & 4 != 0;
            protection.execute &= entry >> 63 == 0;
            assert!(
                entry & 0x20 != 0,
                "{address:#x}: an entry that is not accessed"
            );
            let target = entry & 0x000f_ffff_ffff_f000;
            let large = entry & 0x80 != 0;
            assert!(!(large && shift == 30), "no 1 GiB pages");
            if large || shift == 12 {
                // A page that is dirty and not writable is one of a shadow stack.
                assert_eq!(entry & 0x40 != 0, entry & 2 != 0, "{address:#x}: dirty");
                let mask = (1 << shift) - 1;
                return Some((target & !mask | address & mask, protection));
            }
            table = target;
        }
        None
    }

    #[test]
    fn every_page_is_mapped_as_its_region_says() {
        let map = sample(2);
        let memory = GuestMemory::new(16 << 20, 4 << 20).expect("memory");
        write(&memory, &map).expect("fits");
        for region in map.regions() {
            for address in [region.range.start, region.range.end - 1] {
                let expected = region.kind.protection().map(|protection| {
                    (region.physical + (address - region.range.start), protection)
                });
                assert_eq!(walk(&memory, address), expected, "{region:?} {address:#x}");
            }
        }
        assert_eq!(walk(&memory, 16 << 20), None);
        assert!(
            map.regions()
                .iter()
                .any(|region| region.kind == Kind::Stack(1))
        );
    }

    #[test]
    fn the_largest_address_space_fits() {
        use arca_shared::protocol::layout::{ARENA_SIZE_MAX, LOW_MEMORY_MAX, MAX_VCPUS};
        let segments = [crate::memory::elf::Segment {
            range: 0x20_0000..0x100_1000,
            access: crate::memory::elf::Access::Execute,
        }];
        let map =
            AddressMap::new(&segments, MAX_VCPUS, LOW_MEMORY_MAX, ARENA_SIZE_MAX).expect("fits");
        let memory = GuestMemory::new(LOW_MEMORY_MAX, 1 << 20).expect("memory");
        write(&memory, &map).expect("fits");
    }

    #[test]
    fn scattered_segments_are_refused() {
        let segments: Vec<_> = (1..200)
            .map(|n| crate::memory::elf::Segment {
                range: n << 21..(n << 21) + 0x1000,
                access: crate::memory::elf::Access::ReadOnly,
            })
            .collect();
        let map = AddressMap::new(&segments, 1, 1 << 30, 1 << 20).expect("fits");
        let memory = GuestMemory::new(1 << 30, 1 << 20).expect("memory");
        assert!(matches!(write(&memory, &map), Err(StartError::PageTables)));
    }

    /// What [`map_region`] makes of `pages` pages at `address`, which are at
    /// `physical`: the size of each mapping, in order.
    fn mappings(address: u64, physical: u64, pages: u64) -> Vec<u64> {
        let memory = GuestMemory::new(16 << 20, 1 << 20).expect("memory");
        let mut frames = TableFrames {
            next: ROOT + PAGE_SIZE,
        };
        let host = memory.low_base();
        // SAFETY: as in `write`.
        let root = unsafe { host.add(ROOT as usize).cast::<PageTable>().as_mut() };
        let offset = VirtAddr::from_ptr(host.as_ptr());
        // SAFETY: as in `write`.
        let mut tables = unsafe { OffsetPageTable::new(root, offset) };
        let region = Region {
            range: address..address + pages * PAGE_SIZE,
            physical,
            kind: Kind::Heap,
        };
        let protection = region.kind.protection().expect("a heap is mapped");
        let flags = leaf_flags(protection);
        map_region(&mut tables, &mut frames, &region, flags).expect("maps");
        let mut sizes = Vec::new();
        let mut at = address;
        while at < region.range.end {
            let (found, _) = walk(&memory, at).expect("mapped");
            assert_eq!(found, physical + (at - address));
            let large = is_large(&memory, at);
            sizes.push(if large { Size2MiB::SIZE } else { PAGE_SIZE });
            at += sizes.last().expect("just pushed");
        }
        assert_eq!(at, region.range.end);
        assert_eq!(walk(&memory, at), None);
        sizes
    }

    /// Whether a page of 2 MiB covers a mapped address.
    fn is_large(memory: &GuestMemory, address: u64) -> bool {
        let mut entry = ROOT;
        for shift in [39, 30, 21] {
            let mut bytes = [0; 8];
            let table = entry & 0x000f_ffff_ffff_f000;
            assert!(memory.read(table + (address >> shift & 511) * 8, &mut bytes));
            entry = u64::from_le_bytes(bytes);
        }
        entry & 0x80 != 0
    }

    #[test]
    fn a_large_page_needs_both_addresses_aligned_and_all_of_it() {
        const LARGE: u64 = 2 << 20;
        assert_eq!(mappings(4 * LARGE, 8 * LARGE, 512), [LARGE]);
        assert_eq!(mappings(4 * LARGE, 8 * LARGE, 511), [PAGE_SIZE; 511]);
        let shifted = 8 * LARGE + PAGE_SIZE;
        assert_eq!(mappings(4 * LARGE, shifted, 512), [PAGE_SIZE; 512]);
        let shifted = 4 * LARGE + PAGE_SIZE;
        assert_eq!(mappings(shifted, 8 * LARGE, 512), [PAGE_SIZE; 512]);
        // Small pages up to the first large one, and after the last.
        let mut expected = vec![PAGE_SIZE, LARGE, LARGE];
        expected.extend([PAGE_SIZE; 3]);
        let start = 4 * LARGE - PAGE_SIZE;
        assert_eq!(mappings(start, start + LARGE, 1 + 2 * 512 + 3), expected);
    }
}
