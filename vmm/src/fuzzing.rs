//! What the fuzz targets reach of this crate's inside.

use crate::memory::GuestMemory;
use crate::memory::elf::Access;
use crate::memory::image::CheckedImage;
use crate::memory::map::AddressMap;
use crate::memory::paging;
use crate::vm::config::Image;
use arca_shared::protocol::layout::{ARENA_SIZE_MIN, IMAGE_BASE, LOW_MEMORY_MIN};

/// Takes bytes through everything that a guest's image goes through before the
/// machine is made; whether they came out as an image.
///
/// # Panics
///
/// If an image that was accepted is not where it may be.
#[must_use]
pub fn image_is_accepted(bytes: &[u8]) -> bool {
    let Ok(image) = CheckedImage::open(&Image::Bytes(bytes.into()), LOW_MEMORY_MIN) else {
        return false;
    };
    let layout = image.layout();
    let mut end = IMAGE_BASE;
    for segment in &layout.segments {
        let pages = segment.pages();
        assert!(end <= pages.start && pages.start < pages.end, "{layout:?}");
        end = pages.end;
    }
    assert!(end <= LOW_MEMORY_MIN, "{layout:?}");
    let entry = layout
        .segments
        .iter()
        .any(|segment| segment.access == Access::Execute && segment.range.contains(&layout.entry));
    assert!(entry, "{layout:?}");
    let Ok(map) = AddressMap::new(&layout.segments, 1, LOW_MEMORY_MIN, ARENA_SIZE_MIN) else {
        return false;
    };
    let Ok(memory) = GuestMemory::new(LOW_MEMORY_MIN, ARENA_SIZE_MIN) else {
        return false;
    };
    if image.load(&memory).is_err() {
        return false;
    }
    // The image's first page and what lies before it, which is the VMM's.
    let mut before = [0; 4096];
    for page in (0..IMAGE_BASE).step_by(before.len()) {
        assert!(memory.read(page, &mut before));
        assert!(
            before.iter().all(|byte| *byte == 0),
            "something lies at {page:#x}"
        );
    }
    let _ = paging::write(&memory, &map);
    true
}
