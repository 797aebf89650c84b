//! The image loader: any bytes are an image that lies inside low memory, or an
//! error.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let accepted = arca_vmm::fuzzing::image_is_accepted(data);
    assert!(
        !(cfg!(feature = "planted") && accepted),
        "planted: an image was accepted"
    );
});
