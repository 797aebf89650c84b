//! Tests of what is taken for an image and what of it is loaded.

use super::*;
use crate::memory::elf::Access;
use crate::testimage::{DATA, ImageBuilder};
use arca_shared::protocol::boot::INTERFACE_VERSION;
use arca_shared::protocol::layout::{IMAGE_BASE, PAGE_SIZE};
use proptest::prelude::*;
use std::ops::Range;

const LOW: u64 = 16 << 20;

fn open(bytes: Vec<u8>) -> Result<CheckedImage, ImageError> {
    CheckedImage::open(&Image::Bytes(bytes.into()), LOW).map_err(|error| match error {
        StartError::Image { reason, .. } => reason,
        other => panic!("{other}"),
    })
}

fn reason(builder: ImageBuilder) -> ImageError {
    open(builder.build()).err().expect("refused")
}

#[test]
fn a_good_image_is_loaded_where_it_belongs() {
    let image = open(
        ImageBuilder::new(&[0x90, 0xf4])
            .data(&[1, 2, 3], 0x2000)
            .build(),
    )
    .map_err(|error| panic!("{error}"))
    .unwrap();
    assert_eq!(image.layout().entry, IMAGE_BASE);
    assert_eq!(image.layout().segments.len(), 2);
    assert_eq!(image.layout().segments[1].access, Access::Write);
    let memory = GuestMemory::new(LOW, 1 << 20).expect("memory");
    image.load(&memory).expect("loads");
    let mut bytes = [0; 2];
    assert!(memory.read(IMAGE_BASE, &mut bytes));
    assert_eq!(bytes, [0x90, 0xf4]);
}

#[test]
fn a_file_is_as_good_as_its_bytes() {
    let bytes = ImageBuilder::new(&[0x90]).build();
    let mut file = tempfile::NamedTempFile::new().expect("file");
    std::io::Write::write_all(&mut file, &bytes).expect("written");
    let image = CheckedImage::open(&Image::Path(file.path().into()), LOW).expect("opens");
    let memory = GuestMemory::new(LOW, 1 << 20).expect("memory");
    image.load(&memory).expect("loads");
    assert_eq!(image.bytes().expect("read")[..], bytes[..]);
}

#[test]
fn what_is_not_an_image_is_named() {
    assert_eq!(open(Vec::new()).err(), Some(ImageError::NotElf));
    assert_eq!(
        open(b"#!/bin/sh\n".to_vec()).err(),
        Some(ImageError::NotElf)
    );
    let code = [0x90];
    assert!(matches!(
        reason(ImageBuilder::new(&code).version(INTERFACE_VERSION + 1)),
        ImageError::WrongInterface { .. }
    ));
    assert!(matches!(
        reason(ImageBuilder::new(&code).no_version()),
        ImageError::NoInterface { .. }
    ));
    assert!(matches!(
        reason(ImageBuilder::new(&code).e_type(3)),
        ImageError::NotExecutable { e_type: 3 }
    ));
    assert!(matches!(
        reason(ImageBuilder::new(&code).entry(0x30_0000)),
        ImageError::Entry { .. }
    ));
    assert!(matches!(
        reason(ImageBuilder::new(&code).text_at(0x10_0000)),
        ImageError::SegmentOutside { .. }
    ));
    assert!(matches!(
        reason(ImageBuilder::new(&code).text_at(u64::MAX - 1)),
        ImageError::SegmentOutside { .. }
    ));
    assert!(matches!(
        reason(ImageBuilder::new(&code).data(&[0], LOW)),
        ImageError::SegmentOutside { .. }
    ));
    assert!(matches!(
        reason(ImageBuilder::new(&code).text_flags(7)),
        ImageError::WritableText { .. }
    ));
}

/// Puts a number into a program header of a built image, at that offset in it.
fn patch(bytes: &mut [u8], segment: usize, at: usize, value: u64, size: usize) {
    let at = 64 + 56 * segment + at;
    bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
}
const TYPE: usize = 0;
const OFFSET: usize = 8;
const ADDRESS: usize = 16;
const PHYSICAL: usize = 24;
const FILE_SIZE: usize = 32;
const SIZE: usize = 40;

/// An image with text and data, after those changes to a segment's header.
fn patched(segment: usize, changes: &[(usize, u64)]) -> Result<Vec<Range<u64>>, ImageError> {
    let mut bytes = ImageBuilder::new(&[0x90; 64])
        .data(&[5; 100], 0x3000)
        .build();
    for &(at, value) in changes {
        let size = if at == TYPE { 4 } else { 8 };
        patch(&mut bytes, segment, at, value, size);
    }
    let segments = open(bytes)?.layout.segments;
    Ok(segments.into_iter().map(|segment| segment.range).collect())
}

#[test]
fn what_is_not_to_be_loaded_is_left_alone() {
    let text = IMAGE_BASE..IMAGE_BASE + 64;
    let data = DATA..DATA + 0x3000;
    assert_eq!(patched(1, &[]), Ok(vec![text.clone(), data]));
    // A note, wherever it says it is, and a segment without memory.
    let note = [(TYPE, 4), (ADDRESS, 0), (PHYSICAL, 9)];
    assert_eq!(patched(1, &note), Ok(vec![text.clone()]));
    assert_eq!(patched(1, &[(FILE_SIZE, 0), (SIZE, 0)]), Ok(vec![text]));
    assert_eq!(patched(1, &[(TYPE, 3)]), Err(ImageError::Dynamic));
    assert_eq!(
        patched(0, &[(TYPE, 4)]),
        Err(ImageError::Entry { entry: IMAGE_BASE })
    );
}

#[test]
fn segments_may_touch_but_not_share_a_page() {
    let moved = |address| {
        let segments = patched(1, &[(ADDRESS, address), (PHYSICAL, address)])?;
        Ok(segments[1].start)
    };
    let next = IMAGE_BASE + PAGE_SIZE;
    assert_eq!(moved(next), Ok(next));
    assert_eq!(
        moved(next - 8),
        Err(ImageError::SegmentsOverlap { page: IMAGE_BASE })
    );
    // The data ends where the text begins, or in the same page.
    let text_at = |address| {
        let end = [(ADDRESS, address), (PHYSICAL, address), (SIZE, 0x1000)];
        patched(1, &end)
    };
    assert_eq!(
        text_at(IMAGE_BASE),
        Err(ImageError::SegmentsOverlap { page: IMAGE_BASE })
    );
}

#[test]
fn a_segment_may_end_where_memory_or_the_file_does() {
    let at_end = [(ADDRESS, LOW - 0x3000), (PHYSICAL, LOW - 0x3000)];
    assert_eq!(patched(1, &at_end).map(|s| s[1].end), Ok(LOW));
    let past = [(ADDRESS, LOW - 0x2fff), (PHYSICAL, LOW - 0x2fff)];
    assert!(matches!(
        patched(1, &past),
        Err(ImageError::SegmentOutside { end, .. }) if end == LOW + 1
    ));
    let len = ImageBuilder::new(&[0x90; 64])
        .data(&[5; 100], 0x3000)
        .build()
        .len() as u64;
    let all = |size| patched(1, &[(OFFSET, len - 100), (FILE_SIZE, size)]).map(|s| s.len());
    let damaged = Err(ImageError::Damaged { part: "segments" });
    assert_eq!(all(99), Ok(2));
    assert_eq!(all(100), Ok(2));
    assert_eq!(all(101), damaged);
    assert_eq!(all(102), damaged);
    let far = patched(1, &[(OFFSET, u64::MAX)]).map(|s| s.len());
    assert_eq!(far, damaged);
}

#[test]
fn a_segment_is_where_it_says_and_holds_what_is_in_the_file() {
    assert_eq!(
        patched(1, &[(PHYSICAL, DATA + 0x1000)]),
        Err(ImageError::SegmentMoved {
            start: DATA,
            physical: DATA + 0x1000
        })
    );
    assert_eq!(patched(1, &[(SIZE, 100)]).map(|s| s[1].end), Ok(DATA + 100));
    assert_eq!(
        patched(1, &[(SIZE, 99)]),
        Err(ImageError::SegmentSize { start: DATA })
    );
}

#[test]
fn why_a_file_cannot_be_opened_is_said_in_words() {
    use std::io::{Error, ErrorKind};
    let words = |kind: ErrorKind| plain(&Error::from(kind));
    assert_eq!(words(ErrorKind::NotFound), "there is no such file");
    assert_eq!(words(ErrorKind::PermissionDenied), "you may not read it");
    assert_eq!(words(ErrorKind::TimedOut), "timed out");
}

#[test]
fn no_such_file_is_named() {
    let error = CheckedImage::open(&Image::Path("/no/such/image".into()), LOW)
        .err()
        .expect("refused");
    assert_eq!(
        error.to_string(),
        "no such image: /no/such/image: there is no such file"
    );
    assert!(CheckedImage::open(&Image::Path("/".into()), LOW).is_err());
}

proptest! {
    /// Whatever the file holds, it is loaded or refused.
    #[test]
    fn mutated_images_never_panic(
        cut in 0usize..2048,
        changes in prop::collection::vec((0usize..700, any::<u8>()), 0..8),
    ) {
        let mut bytes = ImageBuilder::new(&[0x90; 64]).data(&[5; 100], 0x3000).build();
        for (at, value) in changes {
            let len = bytes.len();
            bytes[at % len] = value;
        }
        bytes.truncate(cut.max(16).min(bytes.len()));
        if let Ok(image) = open(bytes) {
            let memory = GuestMemory::new(LOW, 1 << 20).expect("memory");
            let _ = image.load(&memory);
            let _ = crate::memory::map::AddressMap::new(&image.layout().segments, 1, LOW, 1 << 20);
        }
    }
}
