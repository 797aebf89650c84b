//! The allocator against a model: nothing overlaps, zeroed memory is zero, and
//! when all is freed it is one block again.

#![no_main]

use allocator_api2::alloc::{Allocator, Layout};
use arbitrary::Arbitrary;
use arca_shared::memory::Arena;
use arca_shared::memory::{BuddyAllocator, MIN_BLOCK};
use libfuzzer_sys::fuzz_target;
use std::ptr::NonNull;

#[derive(Arbitrary, Debug)]
enum Operation {
    Allocate { size: u32, zeroed: bool },
    Free { which: u8 },
}

struct Block {
    address: NonNull<u8>,
    layout: Layout,
    start: usize,
    len: usize,
    mark: u8,
}

fuzz_target!(|input: (u8, Vec<Operation>)| {
    let (blocks, operations) = input;
    let blocks = usize::from(blocks % 96) + 1;
    let memory = Layout::from_size_align(blocks * MIN_BLOCK, MIN_BLOCK).expect("small");
    // SAFETY: the layout is not empty.
    let base = NonNull::new(unsafe { std::alloc::alloc_zeroed(memory) }).expect("memory");
    // SAFETY: valid until freed below, when the allocator is gone, and reached
    // only through it.
    let allocator = BuddyAllocator::new(unsafe { Arena::new(base, memory.size()) });
    let whole = allocator.largest_free();
    let mut live: Vec<Block> = Vec::new();
    for (number, operation) in operations.iter().enumerate() {
        match *operation {
            Operation::Allocate { size, zeroed } => {
                let size = size as usize % (40 * MIN_BLOCK);
                let layout = Layout::from_size_align(size, 8).expect("small");
                let result = match zeroed {
                    true => allocator.allocate_zeroed(layout),
                    false => allocator.allocate(layout),
                };
                let Ok(slice) = result else { continue };
                let address = slice.cast::<u8>();
                let start = allocator.arena().to_offset(address).expect("ours").0 as usize;
                let len = slice.len();
                assert!(len >= size && start + len <= memory.size());
                for other in &live {
                    assert!(start + len <= other.start || other.start + other.len <= start);
                }
                let mark = number as u8 | 1;
                for byte in 0..len {
                    // SAFETY: inside the block that was just handed out.
                    unsafe {
                        assert!(!zeroed || address.add(byte).read() == 0);
                        address.add(byte).write(mark);
                    }
                }
                live.push(Block {
                    address,
                    layout,
                    start,
                    len,
                    mark,
                });
            }
            Operation::Free { which } if !live.is_empty() => {
                let block = live.swap_remove(usize::from(which) % live.len());
                for byte in 0..block.len {
                    // SAFETY: still ours.
                    assert_eq!(unsafe { block.address.add(byte).read() }, block.mark);
                }
                // SAFETY: allocated with this layout, and forgotten.
                unsafe { allocator.deallocate(block.address, block.layout) };
            }
            Operation::Free { .. } => {}
        }
    }
    for block in live {
        // SAFETY: allocated with this layout, and forgotten.
        unsafe { allocator.deallocate(block.address, block.layout) };
    }
    assert_eq!(allocator.used(), 0);
    assert_eq!(allocator.largest_free(), whole);
    drop(allocator);
    // SAFETY: allocated above with this layout.
    unsafe { std::alloc::dealloc(base.as_ptr(), memory) };
});
