//! What the fuzz targets reach of this crate's inside.

use crate::config::Image;
use crate::image::CheckedImage;
use crate::map::AddressMap;
use crate::memory::GuestMemory;
use arca_shared::layout::{ARENA_SIZE_MIN, LOW_MEMORY_MIN};

/// Takes bytes through everything that a guest's image goes through before the
/// machine is made; whether they came out as an image.
#[must_use]
pub fn image_is_accepted(bytes: &[u8]) -> bool {
    let Ok(image) = CheckedImage::open(&Image::Bytes(bytes.into()), LOW_MEMORY_MIN) else {
        return false;
    };
    let segments = &image.layout().segments;
    if AddressMap::new(segments, 1, LOW_MEMORY_MIN, ARENA_SIZE_MIN).is_err() {
        return false;
    }
    GuestMemory::new(LOW_MEMORY_MIN, ARENA_SIZE_MIN).is_ok_and(|memory| image.load(&memory).is_ok())
}
