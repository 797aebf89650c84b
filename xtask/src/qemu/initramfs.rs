//! The files of the machine: a cpio archive, which its kernel unpacks into memory.

use super::programs;
use anyhow::{Context, Result};
use cpio::NewcBuilder;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Kinds of files, in a mode.
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Files, by their absolute path in the machine.
#[derive(Default)]
pub struct Files {
    entries: BTreeMap<PathBuf, Entry>,
}

/// One of them: its mode, and what is in it.
struct Entry {
    mode: u32,
    bytes: Vec<u8>,
}

impl Files {
    /// Adds a program at the path that it has here, with what it needs to run.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is no program.
    pub fn program(&mut self, path: &Path) -> Result<()> {
        self.add_program(path, programs::loaded)
    }

    /// The same, with its symbols and debug information.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn whole_program(&mut self, path: &Path) -> Result<()> {
        self.add_program(path, Ok)
    }

    fn add_program(
        &mut self,
        path: &Path,
        part: impl FnOnce(Vec<u8>) -> Result<Vec<u8>>,
    ) -> Result<()> {
        if self.entries.contains_key(path) {
            return Ok(());
        }
        let shown = || path.display().to_string();
        let file = fs::read(path).with_context(shown)?;
        for library in programs::libraries(path, &file).with_context(shown)? {
            if !self.entries.contains_key(&library) {
                let bytes = fs::read(&library).with_context(|| library.display().to_string())?;
                self.bytes(&library, bytes, 0o755);
            }
        }
        let part = part(file).with_context(shown)?;
        self.bytes(path, part, 0o755);
        Ok(())
    }

    /// Adds a file as it is, at that path.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn file(&mut self, from: &Path, path: &Path) -> Result<()> {
        let bytes = fs::read(from).with_context(|| from.display().to_string())?;
        self.bytes(path, bytes, 0o755);
        Ok(())
    }

    /// Adds a file with that content.
    pub fn bytes(&mut self, path: &Path, bytes: impl Into<Vec<u8>>, mode: u32) {
        self.add(path, FILE | mode, bytes.into());
    }

    /// Adds a link to another path.
    pub fn link(&mut self, path: &Path, to: &Path) {
        let bytes = to.as_os_str().as_bytes().to_owned();
        self.add(path, LINK | 0o777, bytes);
    }

    /// Adds an empty folder.
    pub fn folder(&mut self, path: &Path) {
        self.add(path, FOLDER | 0o755, Vec::new());
    }

    fn add(&mut self, path: &Path, mode: u32, bytes: Vec<u8>) {
        for folder in path.ancestors().skip(1) {
            let entry = Entry {
                mode: FOLDER | 0o755,
                bytes: Vec::new(),
            };
            self.entries.entry(folder.into()).or_insert(entry);
        }
        self.entries.insert(path.into(), Entry { mode, bytes });
    }

    /// How many bytes they are.
    #[must_use]
    pub fn len(&self) -> u64 {
        let lengths = self.entries.values().map(|entry| entry.bytes.len() as u64);
        lengths.sum()
    }

    /// Writes the archive.
    ///
    /// # Errors
    ///
    /// Those of writing; a file of 4 GiB or more.
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        // A folder sorts before what is in it.
        for (number, (path, Entry { mode, bytes })) in (1..).zip(&self.entries) {
            let name = path.strip_prefix("/").unwrap_or(path);
            if name == OsStr::new("") {
                continue;
            }
            let name = name.to_str().ok_or(io::ErrorKind::InvalidInput)?;
            let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
            let entry = NewcBuilder::new(name).ino(number).mode(*mode).nlink(1);
            let mut entry = entry.write(&mut to, len);
            entry.write_all(bytes)?;
            entry.finish()?;
        }
        cpio::newc::trailer(to)?.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn an_archive_holds_folders_before_files() {
        let mut files = Files::default();
        files.bytes(Path::new("/a/b/c"), b"text".to_vec(), 0o644);
        files.link(Path::new("/a/link"), Path::new("/a/b/c"));
        files.folder(Path::new("/a/b"));
        files.folder(Path::new("/proc"));
        let mut archive = Vec::new();
        files.write(&mut archive).expect("memory");
        assert_eq!(files.len(), 4 + 6);
        let (mut rest, mut found) = (&archive[..], Vec::new());
        loop {
            let mut entry = cpio::NewcReader::new(rest).expect("an entry");
            if entry.entry().is_trailer() {
                break;
            }
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("text");
            let header = entry.entry();
            found.push(format!("{} {:o} {text}", header.name(), header.mode()));
            rest = entry.finish().expect("an entry");
        }
        let wanted = [
            "a 40755 ",
            "a/b 40755 ",
            "a/b/c 100644 text",
            "a/link 120777 /a/b/c",
            "proc 40755 ",
        ];
        assert_eq!(found, wanted);
    }
}
