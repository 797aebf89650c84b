//! The frame decoder and both message codecs: whatever the bytes, an error or a
//! message that is written as it was read; and the same whether the bytes lie
//! there at once or come through a ring, piece by piece.

#![no_main]

use arca_fuzz::Memory;
use arca_shared::pipe::PipePlace;
use arca_shared::pipe::{BidirectionalPipe, Side};
use arca_shared::protocol::frame::{Frame, FrameError, MAX_FRAME};
use arca_shared::protocol::message::{Reply, Request};
use libfuzzer_sys::fuzz_target;

/// A ring that holds little more than the longest frame, so that frames wrap.
const RING: u64 = 272;

/// The frames in these bytes, and how they end.
fn decode(mut rest: &[u8]) -> (Vec<Frame>, Option<FrameError>) {
    let mut frames = Vec::new();
    loop {
        match Frame::decode(rest) {
            Ok(Some(frame)) => {
                let mut wire = [0; MAX_FRAME];
                let len = frame.encode(&mut wire).expect("every frame fits");
                assert_eq!(&wire[..len], &rest[..len]);
                rest = &rest[len..];
                frames.push(frame);
            }
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

/// The same through a ring, in pieces of so many bytes.
fn through_ring(mut rest: &[u8], piece: usize) -> (Vec<Frame>, Option<FrameError>) {
    let memory = Memory::new(2 * (24 + RING as usize));
    let place = PipePlace {
        shm_offset: 0,
        ring_size: RING,
    };
    let arena = memory.arena();
    let mut arca = BidirectionalPipe::join(&arena, place, Side::A).expect("fits");
    let mut linux = BidirectionalPipe::join(&arena, place, Side::B).expect("fits");
    let mut frames = Vec::new();
    loop {
        let len = arca.write(&rest[..piece.min(rest.len())]).unwrap_or(0);
        rest = &rest[len..];
        match Frame::take(linux.incoming()) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) if rest.is_empty() => return (frames, None),
            Ok(None) => assert_ne!(len, 0, "a ring full of nothing whole"),
            Err(error) => return (frames, Some(error)),
        }
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, data) = input;
    let (frames, end) = decode(data);
    for frame in &frames {
        if let Ok(request) = Request::from_frame(frame) {
            let again = Request::from_frame(&request.to_frame(frame.request_id));
            assert_eq!(again, Ok(request));
        }
        if let Ok(reply) = Reply::from_frame(frame) {
            let again = Reply::from_frame(&reply.to_frame(frame.request_id));
            assert_eq!(again, Ok(reply));
        }
    }
    assert!(through_ring(data, usize::from(piece) + 1) == (frames, end));
});
