//! The guest's image: an ELF file, checked before anything of it is loaded.
//!
//! The headers are read through a cache that reads ranges, not the whole file:
//! an image is mostly debug information, which a boot does not need.

use std::fs::{File, OpenOptions};
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use arca_shared::protocol::boot::{INTERFACE_SECTION, INTERFACE_VERSION};
use arca_shared::protocol::layout::{IMAGE_BASE, PAGE_SIZE};
use linux_loader::loader::{Elf, KernelLoader};
use nix::libc;
use object::LittleEndian;
use object::elf::{
    EM_X86_64, ET_EXEC, FileHeader64, PF_W, PF_X, PT_INTERP, PT_LOAD, ProgramHeader64,
};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::read::{ReadCache, ReadRef};
use vm_memory::GuestAddress;

use crate::error::{ImageError, StartError};
use crate::memory::GuestMemory;
use crate::vm::config::Image;

/// What a segment's memory may be used for, besides reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    ReadOnly,
    /// Executing.
    Execute,
    /// Writing.
    Write,
}

/// A segment to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its addresses in the guest.
    pub range: Range<u64>,
    /// What it may be used for.
    pub access: Access,
}

impl Segment {
    /// Its addresses, in whole pages.
    pub fn pages(&self) -> Range<u64> {
        let start = self.range.start & !(PAGE_SIZE - 1);
        start..self.range.end.next_multiple_of(PAGE_SIZE)
    }
}

/// What loading and paging have to know of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Address of the first instruction.
    pub entry: u64,
    /// The segments, in order of addresses.
    pub segments: Vec<Segment>,
}

/// An image that was found to be in order.
pub struct CheckedImage {
    name: String,
    source: Source,
    layout: Layout,
}

enum Source {
    File(File),
    Bytes(Arc<[u8]>),
}

impl CheckedImage {
    /// Opens an image and checks it, for a guest with low memory of that size.
    pub fn open(image: &Image, low_memory: u64) -> Result<Self, StartError> {
        let (name, source) = match image {
            Image::Bytes(bytes) => ("the image".into(), Source::Bytes(Arc::clone(bytes))),
            Image::Path(path) => {
                let unreadable = |reason: String| StartError::ImageUnreadable {
                    path: path.clone(),
                    reason,
                };
                // Without waiting: a fifo would wait for its writer.
                let file = OpenOptions::new()
                    .read(true)
                    .custom_flags(libc::O_NONBLOCK)
                    .open(path)
                    .map_err(|error| unreadable(plain(&error)))?;
                let metadata = file.metadata().map_err(|error| unreadable(plain(&error)))?;
                if !metadata.is_file() {
                    return Err(unreadable("it is not a regular file".into()));
                }
                (path.display().to_string(), Source::File(file))
            }
        };
        let layout = match &source {
            Source::File(file) => check(&ReadCache::new(file), low_memory),
            Source::Bytes(bytes) => check(&bytes[..], low_memory),
        }
        .map_err(|reason| StartError::Image {
            name: name.clone(),
            reason,
        })?;
        Ok(Self {
            name,
            source,
            layout,
        })
    }

    /// What was found in it.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Loads its segments. The memory must be fresh: what the file does not
    /// fill is left as it is.
    pub fn load(&self, memory: &GuestMemory) -> Result<(), StartError> {
        // With an offset given, even of 0, the loader leaves the notes alone:
        // they are about booting a kernel.
        let offset = Some(GuestAddress(0));
        let loaded = match &self.source {
            Source::File(file) => {
                let mut file: &File = file;
                Elf::load(memory.regions(), offset, &mut file, None)
            }
            Source::Bytes(bytes) => {
                Elf::load(memory.regions(), offset, &mut Cursor::new(&bytes[..]), None)
            }
        };
        loaded.map(drop).map_err(|error| StartError::Image {
            name: self.name.clone(),
            reason: ImageError::Load(error.to_string()),
        })
    }

    /// The whole file, for its debug information.
    pub fn bytes(&self) -> Option<Arc<[u8]>> {
        match &self.source {
            Source::Bytes(bytes) => Some(Arc::clone(bytes)),
            Source::File(file) => {
                let mut file: &File = file;
                let mut bytes = Vec::new();
                file.seek(SeekFrom::Start(0)).ok()?;
                file.read_to_end(&mut bytes).ok()?;
                Some(bytes.into())
            }
        }
    }
}

/// What went wrong, without the number that `std` adds.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".into(),
        std::io::ErrorKind::PermissionDenied => "you may not read it".into(),
        _ => error.to_string(),
    }
}

type Header = FileHeader64<LittleEndian>;

/// Checks an ELF file and says what is to be loaded from it.
fn check<'data, R: ReadRef<'data>>(data: R, low_memory: u64) -> Result<Layout, ImageError> {
    let header = Header::parse(data).map_err(|_| ImageError::NotElf)?;
    let endian = header.endian().map_err(|_| ImageError::NotElf)?;
    if header.e_machine(endian) != EM_X86_64 {
        return Err(ImageError::NotElf);
    }
    check_interface(header, data)?;

    let e_type = header.e_type(endian);
    if e_type != ET_EXEC {
        return Err(ImageError::NotExecutable { e_type: e_type.0 });
    }
    let program_headers =
        header
            .program_headers(endian, data)
            .map_err(|_| ImageError::Damaged {
                part: "program headers",
            })?;
    let mut segments = Vec::new();
    for program_header in program_headers {
        let p_type = program_header.p_type(endian);
        if p_type == PT_INTERP {
            return Err(ImageError::Dynamic);
        }
        if p_type == PT_LOAD && program_header.p_memsz(endian) != 0 {
            segments.push(check_segment(program_header, data, low_memory)?);
        }
    }
    segments.sort_by_key(|segment| segment.range.start);
    if segments.is_empty() {
        return Err(ImageError::Empty);
    }
    for pair in segments.windows(2) {
        let next = pair[1].pages().start;
        if next < pair[0].pages().end {
            return Err(ImageError::SegmentsOverlap { page: next });
        }
    }
    let entry = header.e_entry(endian);
    let runs =
        |segment: &Segment| segment.access == Access::Execute && segment.range.contains(&entry);
    if !segments.iter().any(runs) {
        return Err(ImageError::Entry { entry });
    }
    Ok(Layout { entry, segments })
}

/// Compares the interface version that the image was built for with ours.
fn check_interface<'data, R: ReadRef<'data>>(header: &Header, data: R) -> Result<(), ImageError> {
    let damaged = |part| ImageError::Damaged { part };
    let sections = header
        .sections(LittleEndian, data)
        .map_err(|_| damaged("section headers"))?;
    let (_, section) = sections
        .section_by_name(LittleEndian, INTERFACE_SECTION.as_bytes())
        .ok_or(ImageError::NoInterface {
            section: INTERFACE_SECTION,
        })?;
    let bytes = section
        .data(LittleEndian, data)
        .map_err(|_| damaged("interface version"))?;
    let version = bytes
        .first_chunk()
        .ok_or_else(|| damaged("interface version"))?;
    let found = u32::from_le_bytes(*version);
    if found != INTERFACE_VERSION {
        return Err(ImageError::WrongInterface {
            found,
            wanted: INTERFACE_VERSION,
        });
    }
    Ok(())
}

fn check_segment<'data, R: ReadRef<'data>>(
    header: &ProgramHeader64<LittleEndian>,
    data: R,
    low_memory: u64,
) -> Result<Segment, ImageError> {
    let start = header.p_vaddr(LittleEndian);
    let size = header.p_memsz(LittleEndian);
    let outside = ImageError::SegmentOutside {
        start,
        end: start.saturating_add(size),
        low: IMAGE_BASE,
        high: low_memory,
    };
    let end = start.checked_add(size).ok_or(outside.clone())?;
    if start < IMAGE_BASE || end > low_memory {
        return Err(outside);
    }
    let physical = header.p_paddr(LittleEndian);
    if physical != start {
        return Err(ImageError::SegmentMoved { start, physical });
    }
    let file_size = header.p_filesz(LittleEndian);
    if file_size > size {
        return Err(ImageError::SegmentSize { start });
    }
    let file_end = header.p_offset(LittleEndian).checked_add(file_size);
    let available = data.len().unwrap_or(0);
    if file_end.is_none_or(|file_end| file_end > available) {
        return Err(ImageError::Damaged { part: "segments" });
    }
    let flags = header.p_flags(LittleEndian);
    let access = match (flags.contains(PF_W), flags.contains(PF_X)) {
        (true, true) => return Err(ImageError::WritableText { start }),
        (true, false) => Access::Write,
        (false, true) => Access::Execute,
        (false, false) => Access::ReadOnly,
    };
    Ok(Segment {
        range: start..end,
        access,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testimage::{DATA, ImageBuilder};

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
}
