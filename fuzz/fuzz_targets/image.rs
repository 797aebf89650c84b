//! The image loader: any bytes are an image that lies inside low memory, where it
//! may, or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = arca_vmm::fuzzing::image_is_accepted(data);
});
