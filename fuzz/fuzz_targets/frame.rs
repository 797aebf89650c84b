//! The frame decoder and both message codecs: whatever the bytes, an error or a
//! message that is written as it was read.

#![no_main]

use arca_shared::frame::{Frame, MAX_FRAME};
use arca_shared::message::{Reply, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Ok(Some(frame)) = Frame::decode(rest) {
        let mut wire = [0; MAX_FRAME];
        let len = frame.encode(&mut wire).expect("every frame fits");
        // One bit of the request_id.
        wire[3] ^= u8::from(cfg!(feature = "planted") && frame.request_id == 0x5A);
        assert_eq!(&wire[..len], &rest[..len]);
        if let Ok(request) = Request::from_frame(&frame) {
            let again = Request::from_frame(&request.to_frame(frame.request_id));
            assert_eq!(again, Ok(request));
        }
        if let Ok(reply) = Reply::from_frame(&frame) {
            let again = Reply::from_frame(&reply.to_frame(frame.request_id));
            assert_eq!(again, Ok(reply));
        }
        rest = &rest[len..];
    }
});
