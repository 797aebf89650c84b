//! Tests of the allocator: against a model, and block by block.

use super::*;
use crate::testing::test_arena;
use alloc::vec::Vec;
use proptest::prelude::*;

fn allocator(blocks: usize) -> BuddyAllocator {
    BuddyAllocator::new(test_arena(blocks))
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("small")
}

#[test]
fn a_failed_allocation_is_an_error() {
    let allocator = allocator(4);
    assert!(allocator.allocate(layout(5 * MIN_BLOCK)).is_err());
    assert!(allocator.allocate(layout(usize::MAX / 4)).is_err());
    let all = allocator.allocate(layout(4 * MIN_BLOCK)).expect("fits");
    assert!(allocator.allocate(layout(1)).is_err());
    // SAFETY: allocated above with this layout.
    unsafe { allocator.deallocate(all.cast(), layout(4 * MIN_BLOCK)) };
    assert_eq!(allocator.used(), 0);
}

#[test]
fn a_freed_region_is_the_next_one_used() {
    let allocator = allocator(8);
    let a = allocator.allocate(layout(MIN_BLOCK)).expect("fits");
    let _b = allocator.allocate(layout(MIN_BLOCK)).expect("fits");
    // SAFETY: allocated above with this layout.
    unsafe { allocator.deallocate(a.cast(), layout(MIN_BLOCK)) };
    let again = allocator.allocate(layout(MIN_BLOCK)).expect("fits");
    assert_eq!(a.cast::<u8>(), again.cast::<u8>());
}

#[test]
fn a_boxed_slice_returns_when_dropped() {
    let allocator = allocator(8);
    let mut boxed = allocator_api2::boxed::Box::<[u8], _>::new_zeroed_slice_in(
        3 * MIN_BLOCK,
        allocator.clone(),
    );
    assert_eq!(allocator.used(), 4 * MIN_BLOCK);
    boxed[0].write(7);
    drop(boxed);
    assert_eq!(allocator.used(), 0);
    assert_eq!(allocator.largest_free(), 8 * MIN_BLOCK);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Random allocations and frees against a model: no overlap, zeroed
    /// memory is zero, and when all is freed it is one block again.
    #[test]
    fn behaves_like_the_model(
        blocks in 1usize..70,
        steps in proptest::collection::vec((0usize..40_000, any::<bool>(), any::<u8>()), 1..120),
    ) {
        let allocator = allocator(blocks);
        let whole = allocator.largest_free();
        let mut live: alloc::vec::Vec<(NonNull<u8>, Layout, Range<usize>)> = alloc::vec::Vec::new();
        for (size, zeroed, pick) in steps {
            if pick % 3 == 0 && !live.is_empty() {
                let (address, layout, _) = live.swap_remove(pick as usize % live.len());
                // SAFETY: allocated below with this layout, and forgotten.
                unsafe { allocator.deallocate(address, layout) };
                continue;
            }
            let layout = layout(size);
            let result = if zeroed {
                allocator.allocate_zeroed(layout)
            } else {
                allocator.allocate(layout)
            };
            let Ok(slice) = result else { continue };
            prop_assert!(slice.len() >= size);
            let start = allocator.arena().to_offset(slice.cast()).expect("ours").0 as usize;
            let range = start..start + slice.len();
            prop_assert!(range.end <= blocks * MIN_BLOCK);
            for (_, _, other) in &live {
                prop_assert!(range.end <= other.start || other.end <= range.start);
            }
            for byte in 0..slice.len() {
                // SAFETY: inside the block that was just allocated.
                let address = unsafe { slice.cast::<u8>().add(byte) };
                if zeroed {
                    // SAFETY: as above.
                    prop_assert_eq!(unsafe { address.read() }, 0);
                }
                // SAFETY: as above.
                unsafe { address.write(0xA5) };
            }
            live.push((slice.cast(), layout, range));
        }
        let expected: usize = live.iter().map(|(_, _, range)| range.len()).sum();
        prop_assert_eq!(allocator.used(), expected);
        for (address, layout, _) in live {
            // SAFETY: allocated above with this layout.
            unsafe { allocator.deallocate(address, layout) };
        }
        prop_assert_eq!(allocator.used(), 0);
        prop_assert_eq!(allocator.largest_free(), whole);
    }
}

#[test]
fn only_what_was_touched_is_cleared_again() {
    let allocator = allocator(4);
    let layout = layout(4 * MIN_BLOCK);
    let region = allocator.allocate_zeroed(layout).expect("fits");
    // SAFETY: inside the block; the last block is described wrongly below.
    unsafe {
        region.cast::<u8>().write(1);
        region.cast::<u8>().add(3 * MIN_BLOCK).write(2);
    }
    // SAFETY: allocated above with this layout.
    unsafe { allocator.release(region.cast(), layout, core::slice::from_ref(&(0..1))) };
    let again = allocator.allocate_zeroed(layout).expect("fits");
    // SAFETY: inside the block.
    let (first, last) = unsafe {
        let start = again.cast::<u8>();
        (start.read(), start.add(3 * MIN_BLOCK).read())
    };
    assert_eq!((first, last), (0, 2));
}

#[test]
fn it_says_what_it_has_and_had_at_most() {
    let allocator = allocator(70);
    assert_eq!(allocator.capacity(), 70 * MIN_BLOCK);
    assert_eq!((allocator.used(), allocator.peak()), (0, 0));
    assert_eq!(allocator.largest_free(), 64 * MIN_BLOCK);
    let region = allocator.allocate(layout(3 * MIN_BLOCK)).expect("fits");
    let text = alloc::format!("{allocator:?}");
    assert_eq!(text, "BuddyAllocator(16384 of 286720 bytes used)");
    // SAFETY: allocated above with this layout.
    unsafe { allocator.deallocate(region.cast(), layout(3 * MIN_BLOCK)) };
    assert_eq!((allocator.used(), allocator.peak()), (0, 4 * MIN_BLOCK));
}

#[test]
fn what_is_left_over_is_given_as_blocks_that_fit() {
    let allocator = allocator(71);
    for blocks in [64, 4, 2, 1] {
        assert_eq!(allocator.largest_free(), blocks * MIN_BLOCK);
        allocator
            .allocate(layout(blocks * MIN_BLOCK))
            .expect("fits");
    }
    assert_eq!(allocator.largest_free(), 0);
    assert_eq!(allocator.used(), allocator.capacity());
}

#[test]
fn a_block_is_aligned_to_a_page_and_no_more() {
    let allocator = allocator(4);
    let aligned = |align| Layout::from_size_align(1, align).expect("small");
    assert!(allocator.allocate(aligned(MIN_BLOCK)).is_ok());
    assert!(allocator.allocate(aligned(2 * MIN_BLOCK)).is_err());
    let nothing = allocator.allocate(layout(0)).expect("fits");
    assert_eq!(nothing.len(), MIN_BLOCK);
}

#[test]
fn a_block_comes_back_to_the_order_it_was_split_from() {
    let allocator = allocator(16);
    let offset = |block: NonNull<[u8]>| {
        let place = allocator.arena().to_offset(block.cast()).expect("ours");
        place.0 as usize / MIN_BLOCK
    };
    let mut blocks = [NonNull::dangling(); 16];
    for (index, block) in blocks.iter_mut().enumerate() {
        let slice = allocator.allocate(layout(1)).expect("fits");
        assert_eq!(offset(slice), index);
        *block = slice.cast();
    }
    // Freed one of each pair, and then the middle one of three free blocks
    // of one order: the list stays whole around it.
    for index in [0, 2, 4, 3] {
        // SAFETY: allocated above with this layout, and freed once.
        unsafe { allocator.deallocate(blocks[index], layout(1)) };
    }
    assert_eq!(allocator.largest_free(), 2 * MIN_BLOCK);
    let pair = allocator.allocate(layout(2 * MIN_BLOCK)).expect("fits");
    assert_eq!(offset(pair), 2);
    for index in [4, 0] {
        let slice = allocator.allocate(layout(1)).expect("fits");
        assert_eq!(offset(slice), index);
    }
    assert!(allocator.allocate(layout(1)).is_err());
}

#[test]
fn what_is_not_of_the_arena_is_not_freed() {
    let (allocator, other) = (allocator(4), allocator(4));
    let _kept = allocator.allocate(layout(1)).expect("fits");
    let foreign = other.allocate(layout(1)).expect("fits");
    // SAFETY: the address is another's, which is found before anything is
    // done with it.
    unsafe { allocator.release(foreign.cast(), layout(1), &[]) };
    assert_eq!(allocator.used(), MIN_BLOCK);
}

/// The blocks of an allocator of that many that are cleared when a region of
/// all of them, scribbled over, is released as `touched` and used again.
fn cleared(blocks: usize, touched: &[(usize, usize)]) -> Vec<usize> {
    let allocator = allocator(blocks);
    let layout = layout(blocks * MIN_BLOCK);
    let region = allocator.allocate_zeroed(layout).expect("fits");
    let touched: Vec<_> = touched.iter().map(|&(start, end)| start..end).collect();
    // SAFETY: inside the region, which was allocated with this layout.
    unsafe {
        region.cast::<u8>().write_bytes(0xA5, region.len());
        allocator.release(region.cast(), layout, &touched);
    }
    let again = allocator.allocate_zeroed(layout).expect("fits");
    let at = |byte| {
        // SAFETY: inside the region.
        unsafe { again.cast::<u8>().add(byte).read() }
    };
    let is_cleared = |block: &usize| {
        let bytes: Vec<u8> = (0..MIN_BLOCK).map(|i| at(block * MIN_BLOCK + i)).collect();
        let first = bytes[0];
        assert!(bytes.iter().all(|&byte| byte == first), "all or nothing");
        first == 0
    };
    (0..blocks).filter(is_cleared).collect()
}

#[test]
fn every_block_that_was_touched_is_cleared_and_no_other() {
    let none: [usize; 0] = [];
    assert_eq!(cleared(4, &[]), none);
    assert_eq!(cleared(4, &[(0, MIN_BLOCK)]), [0]);
    assert_eq!(cleared(4, &[(0, MIN_BLOCK + 1)]), [0, 1]);
    assert_eq!(cleared(4, &[(MIN_BLOCK - 1, MIN_BLOCK + 1)]), [0, 1]);
    assert_eq!(cleared(4, &[(MIN_BLOCK, MIN_BLOCK + 1)]), [1]);
    assert_eq!(cleared(4, &[(1, 2), (3 * MIN_BLOCK, usize::MAX)]), [0, 3]);
    assert_eq!(cleared(4, &[(4 * MIN_BLOCK, usize::MAX)]), none);
    let far = 70 * MIN_BLOCK;
    assert_eq!(cleared(128, &[(0, 1), (far, far + 1)]), [0, 70]);
}

#[test]
fn a_region_keeps_to_its_own_marks() {
    let allocator = allocator(4);
    let half = layout(2 * MIN_BLOCK);
    let _first = allocator.allocate_zeroed(half).expect("fits");
    let second = allocator.allocate_zeroed(half).expect("fits");
    // SAFETY: inside the region, which was allocated with this layout.
    unsafe {
        second.cast::<u8>().write_bytes(0xA5, second.len());
        allocator.release(second.cast(), half, core::slice::from_ref(&(0..1)));
    }
    let again = allocator.allocate_zeroed(half).expect("fits");
    assert_eq!(again.cast::<u8>(), second.cast::<u8>());
    // SAFETY: inside the region.
    let bytes = unsafe {
        let start = again.cast::<u8>();
        (start.read(), start.add(MIN_BLOCK).read())
    };
    assert_eq!(bytes, (0, 0xA5));
}

#[test]
fn what_is_given_out_as_it_is_counts_as_touched() {
    let allocator = allocator(4);
    let half = layout(2 * MIN_BLOCK);
    let _first = allocator.allocate(half).expect("fits");
    let second = allocator.allocate(half).expect("fits");
    // SAFETY: inside the region, which was allocated with this layout; that
    // nothing was touched is untrue.
    unsafe {
        second.cast::<u8>().write_bytes(0xA5, second.len());
        allocator.release(second.cast(), half, &[]);
    }
    let again = allocator.allocate_zeroed(half).expect("fits");
    // SAFETY: inside the region.
    let bytes = unsafe {
        let start = again.cast::<u8>();
        (start.read(), start.add(MIN_BLOCK).read())
    };
    assert_eq!(bytes, (0, 0));
}
