//! What an image's headers say, and whether that can be loaded.

use crate::error::ImageError;
use arca_shared::protocol::boot::{INTERFACE_SECTION, INTERFACE_VERSION};
use arca_shared::protocol::layout::{IMAGE_BASE, PAGE_SIZE};
use object::LittleEndian;
use object::elf::{
    EM_X86_64, ET_EXEC, FileHeader64, PF_W, PF_X, PT_INTERP, PT_LOAD, ProgramHeader64,
};
use object::read::ReadRef;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use std::ops::Range;

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

type Header = FileHeader64<LittleEndian>;

/// Checks an ELF file and says what is to be loaded from it.
pub fn check<'data, R: ReadRef<'data>>(data: R, low_memory: u64) -> Result<Layout, ImageError> {
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
