//! Tiny guest images for tests: an ELF file made by hand around a few bytes of
//! machine code.

use arca_shared::protocol::boot::{INTERFACE_SECTION, INTERFACE_VERSION};
use arca_shared::protocol::layout::IMAGE_BASE;

/// Where an image's data segment is.
pub const DATA: u64 = IMAGE_BASE + 0x1_0000;

/// Builds one image.
pub struct ImageBuilder {
    code: Vec<u8>,
    data: Option<(Vec<u8>, u64)>,
    version: Option<u32>,
    e_type: u16,
    entry: u64,
    text: u64,
    text_flags: u32,
}

impl ImageBuilder {
    /// An image that runs this code.
    pub fn new(code: &[u8]) -> Self {
        Self {
            code: code.to_vec(),
            data: None,
            version: Some(INTERFACE_VERSION),
            e_type: 2,
            entry: IMAGE_BASE,
            text: IMAGE_BASE,
            text_flags: 5,
        }
    }

    /// Adds a data segment at [`DATA`] of that size in memory.
    pub fn data(mut self, bytes: &[u8], size: u64) -> Self {
        self.data = Some((bytes.to_vec(), size));
        self
    }

    pub fn version(mut self, version: u32) -> Self {
        self.version = Some(version);
        self
    }

    pub fn no_version(mut self) -> Self {
        self.version = None;
        self
    }

    pub fn e_type(mut self, e_type: u16) -> Self {
        self.e_type = e_type;
        self
    }

    pub fn entry(mut self, entry: u64) -> Self {
        self.entry = entry;
        self
    }

    pub fn text_at(mut self, address: u64) -> Self {
        self.text = address;
        self
    }

    pub fn text_flags(mut self, flags: u32) -> Self {
        self.text_flags = flags;
        self
    }

    /// The file: header, program headers, code, data, version, section names,
    /// section headers.
    pub fn build(self) -> Vec<u8> {
        let segments = 1 + usize::from(self.data.is_some());
        let code_at = 64 + 56 * segments;
        let mut body = self.code.clone();
        let data_at = code_at + body.len();
        if let Some((bytes, _)) = &self.data {
            body.extend(bytes);
        }
        let version_at = code_at + body.len();
        if let Some(version) = self.version {
            body.extend(version.to_le_bytes());
        }
        let names_at = code_at + body.len();
        let mut names = vec![0];
        let version_name = names.len();
        names.extend(INTERFACE_SECTION.bytes());
        names.push(0);
        let names_name = names.len();
        names.extend(b".shstrtab\0");
        body.extend(&names);
        while !(code_at + body.len()).is_multiple_of(8) {
            body.push(0);
        }
        let sections_at = code_at + body.len();

        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
        file.resize(16, 0);
        file.extend(self.e_type.to_le_bytes());
        file.extend(62u16.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend(self.entry.to_le_bytes());
        file.extend(64u64.to_le_bytes());
        file.extend((sections_at as u64).to_le_bytes());
        file.extend(0u32.to_le_bytes());
        let sections = if self.version.is_some() { 3u16 } else { 2 };
        for half in [64, 56, segments as u16, 64, sections, sections - 1] {
            file.extend(half.to_le_bytes());
        }
        let mut segment = |flags: u32, at: usize, address: u64, in_file: usize, size: u64| {
            file.extend(1u32.to_le_bytes());
            file.extend(flags.to_le_bytes());
            for word in [at as u64, address, address, in_file as u64, size, 4096] {
                file.extend(word.to_le_bytes());
            }
        };
        let code_len = self.code.len();
        segment(
            self.text_flags,
            code_at,
            self.text,
            code_len,
            code_len as u64,
        );
        if let Some((bytes, size)) = &self.data {
            segment(6, data_at, DATA, bytes.len(), *size);
        }
        file.extend(body);
        let mut section = |name: usize, kind: u32, at: usize, len: usize| {
            file.extend((name as u32).to_le_bytes());
            file.extend(kind.to_le_bytes());
            for word in [0, 0, at as u64, len as u64, 0, 1, 0] {
                // flags, address, offset, size, link and info, alignment, entry
                file.extend(u64::to_le_bytes(word));
            }
        };
        section(0, 0, 0, 0);
        if self.version.is_some() {
            section(version_name, 1, version_at, 4);
        }
        section(names_name, 3, names_at, names.len());
        file
    }
}
