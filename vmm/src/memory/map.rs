//! The guest's address space: which range of addresses is what.
//!
//! One list serves both ends of a guest's life: the page tables are made from
//! it ([`crate::memory::paging`]), and a crash report asks it what the faulting address
//! is. [`arca_shared::protocol::layout`] has the drawing.

use crate::error::StartError;
use crate::memory::elf::{Access, Segment};
use crate::memory::tables;
use arca_shared::protocol::layout::{
    ARENA_GPA, ARENA_GVA, BOOT_INFO_BASE, BOOT_INFO_END, MMIO_BASE, PAGE_SIZE, PAGE_TABLES_BASE,
    STACK_SIZE, TABLES_BASE,
};
use std::ops::Range;

/// Least heap that a guest is started with, in bytes.
const HEAP_MIN: u64 = 1 << 20;

/// What a range of guest-virtual addresses is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The page of the null pointer and those next to it.
    Null,
    /// GDT, IDT, TSSs and exception stacks.
    Tables,
    /// The exception stubs.
    Stubs,
    /// The page tables.
    PageTables,
    /// Boot information and arguments.
    BootInfo,
    /// A segment of the image.
    Image(Access),
    /// The guard page under the stack of the vCPU of that index.
    StackGuard(usize),
    /// The stack of the vCPU of that index.
    Stack(usize),
    /// The heap.
    Heap,
    /// The MMIO page.
    Mmio,
    /// The arena.
    Arena,
}

/// How a range is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Ring 3 can reach it.
    pub user: bool,
    /// It can be written.
    pub write: bool,
    /// It can be executed.
    pub execute: bool,
}

impl Kind {
    /// How ranges of this kind are mapped; `None` if they are not.
    pub fn protection(self) -> Option<Protection> {
        let (user, write, execute) = match self {
            Self::Null | Self::PageTables | Self::StackGuard(_) => return None,
            Self::Tables => (false, true, false),
            Self::Stubs => (false, false, true),
            Self::BootInfo | Self::Image(Access::ReadOnly) => (true, false, false),
            Self::Image(Access::Execute) => (true, false, true),
            Self::Image(Access::Write) | Self::Stack(_) | Self::Heap | Self::Mmio | Self::Arena => {
                (true, true, false)
            }
        };
        Some(Protection {
            user,
            write,
            execute,
        })
    }
}

/// One range of the address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Guest-virtual addresses, in whole pages.
    pub range: Range<u64>,
    /// Guest-physical address of the first byte.
    pub physical: u64,
    /// What it is.
    pub kind: Kind,
}

/// The address space of one guest.
#[derive(Clone, Debug)]
pub struct AddressMap {
    /// In order of addresses, without overlap.
    regions: Vec<Region>,
    heap: Range<u64>,
    stack_tops: Vec<u64>,
}

impl AddressMap {
    /// Lays out the address space for an image's segments.
    pub fn new(
        segments: &[Segment],
        vcpus: usize,
        low_memory: u64,
        arena_size: u64,
    ) -> Result<Self, StartError> {
        let mut regions = vec![
            identity(0..TABLES_BASE, Kind::Null),
            identity(TABLES_BASE..tables::STUBS, Kind::Tables),
            identity(tables::STUBS..tables::STUBS + PAGE_SIZE, Kind::Stubs),
            identity(
                tables::STUBS + PAGE_SIZE..tables::exception_stack_top(vcpus - 1),
                Kind::Tables,
            ),
            identity(PAGE_TABLES_BASE..BOOT_INFO_BASE, Kind::PageTables),
            identity(BOOT_INFO_BASE..BOOT_INFO_END, Kind::BootInfo),
        ];
        let mut end = BOOT_INFO_END;
        for segment in segments {
            let pages = segment.pages();
            end = end.max(pages.end);
            regions.push(identity(pages, Kind::Image(segment.access)));
        }
        let mut stack_tops = Vec::with_capacity(vcpus);
        for vcpu in 0..vcpus {
            let stack = end + PAGE_SIZE;
            regions.push(identity(end..stack, Kind::StackGuard(vcpu)));
            end = stack + STACK_SIZE;
            regions.push(identity(stack..end, Kind::Stack(vcpu)));
            stack_tops.push(end);
        }
        if end + HEAP_MIN > low_memory {
            return Err(StartError::LowMemoryTooSmall {
                size: low_memory,
                needed: end + HEAP_MIN,
            });
        }
        let heap = end..low_memory;
        regions.push(identity(heap.clone(), Kind::Heap));
        regions.push(identity(MMIO_BASE..MMIO_BASE + PAGE_SIZE, Kind::Mmio));
        regions.push(Region {
            range: ARENA_GVA..ARENA_GVA + arena_size,
            physical: ARENA_GPA,
            kind: Kind::Arena,
        });
        Ok(Self {
            regions,
            heap,
            stack_tops,
        })
    }

    /// All ranges, in order of addresses.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The heap's addresses.
    pub fn heap(&self) -> Range<u64> {
        self.heap.clone()
    }

    /// The address after the last byte of a vCPU's stack.
    pub fn stack_top(&self, vcpu: usize) -> u64 {
        self.stack_tops[vcpu]
    }

    /// The range that an address is in.
    pub fn find(&self, address: u64) -> Option<&Region> {
        let after = self
            .regions
            .partition_point(|region| region.range.start <= address);
        let region = &self.regions[after.checked_sub(1)?];
        region.range.contains(&address).then_some(region)
    }

    /// Whether the guest program runs code at an address.
    pub fn is_text(&self, address: u64) -> bool {
        self.find(address)
            .is_some_and(|region| region.kind == Kind::Image(Access::Execute))
    }

    /// The guest-physical address of memory that the guest program can read,
    /// and how many bytes follow it in its range.
    pub fn translate(&self, address: u64) -> Option<(u64, u64)> {
        let region = self.find(address)?;
        if region.kind == Kind::Mmio || !region.kind.protection()?.user {
            return None;
        }
        let offset = address - region.range.start;
        Some((region.physical + offset, region.range.end - address))
    }

    /// What an address is, in words.
    pub fn describe(&self, address: u64) -> String {
        let Some(region) = self.find(address) else {
            let canonical = (address as i64) << 16 >> 16 == address as i64;
            return if canonical {
                "not mapped".into()
            } else {
                "not a canonical address".into()
            };
        };
        let offset = address - region.range.start;
        match region.kind {
            Kind::Null => "null page".into(),
            Kind::Tables | Kind::Stubs => "descriptor tables, for the VMM only".into(),
            Kind::PageTables => "page tables, for the VMM only".into(),
            Kind::BootInfo => format!("boot information, read-only, offset {offset:#x}"),
            Kind::Image(Access::Execute) => "the program's text, read-only".into(),
            Kind::Image(Access::ReadOnly) => "the program's read-only data".into(),
            Kind::Image(Access::Write) => "the program's data".into(),
            Kind::StackGuard(vcpu) => format!("guard page of vCPU {vcpu}'s stack"),
            Kind::Stack(vcpu) => {
                let used = region.range.end - address;
                format!("stack of vCPU {vcpu}, {used} bytes below its top")
            }
            Kind::Heap => format!("heap, offset {offset:#x}"),
            Kind::Mmio => format!("MMIO page, register {offset:#x}"),
            Kind::Arena => format!("arena, offset {offset:#x}"),
        }
    }
}

fn identity(range: Range<u64>, kind: Kind) -> Region {
    Region {
        physical: range.start,
        range,
        kind,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(vcpus: usize) -> AddressMap {
        let segment = |start, end, access| Segment {
            range: start..end,
            access,
        };
        let segments = [
            segment(0x20_0000, 0x20_1234, Access::Execute),
            segment(0x20_2000, 0x20_2010, Access::ReadOnly),
            segment(0x20_3008, 0x20_5000, Access::Write),
        ];
        AddressMap::new(&segments, vcpus, 16 << 20, 4 << 20).expect("fits")
    }

    #[test]
    fn regions_are_in_order_and_do_not_overlap() {
        let map = sample(3);
        for pair in map.regions().windows(2) {
            assert!(pair[0].range.end <= pair[1].range.start, "{pair:?}");
            assert!(!pair[0].range.is_empty());
        }
        assert_eq!(map.heap().end, 16 << 20);
    }

    #[test]
    fn every_stack_has_an_unmapped_page_below() {
        let map = sample(3);
        for vcpu in 0..3 {
            let bottom = map.stack_top(vcpu) - STACK_SIZE;
            let guard = map.find(bottom - 1).expect("mapped by the list");
            assert_eq!(guard.kind, Kind::StackGuard(vcpu));
            assert_eq!(guard.kind.protection(), None);
            assert_eq!(map.find(bottom).expect("stack").kind, Kind::Stack(vcpu));
        }
    }

    #[test]
    fn nothing_is_writable_and_executable() {
        for region in sample(2).regions() {
            if let Some(protection) = region.kind.protection() {
                assert!(!(protection.write && protection.execute), "{region:?}");
            }
        }
    }

    #[test]
    fn addresses_are_described() {
        let map = sample(1);
        assert_eq!(map.describe(8), "null page");
        assert_eq!(map.describe(0x20_0010), "the program's text, read-only");
        assert_eq!(map.describe(ARENA_GVA + 0x30), "arena, offset 0x30");
        assert_eq!(map.describe(0x50_0000_0000), "not mapped");
        assert_eq!(map.describe(1 << 47), "not a canonical address");
        assert_eq!(
            map.translate(ARENA_GVA + 5),
            Some((ARENA_GPA + 5, (4 << 20) - 5))
        );
        assert_eq!(map.translate(0), None);
        assert_eq!(map.translate(TABLES_BASE), None);
        assert_eq!(map.translate(MMIO_BASE), None);
    }

    #[test]
    fn too_little_memory_is_refused() {
        let segments = [Segment {
            range: 0x20_0000..0xF0_0000,
            access: Access::Execute,
        }];
        assert!(matches!(
            AddressMap::new(&segments, 1, 16 << 20, 1 << 20),
            Err(StartError::LowMemoryTooSmall { .. })
        ));
    }
}
