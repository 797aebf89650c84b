//! What a dynamically linked program needs to run elsewhere: itself, its loader
//! and its libraries.

use anyhow::{Context, Result, bail};
use object::LittleEndian;
use object::elf::{FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where an ELF header says what is not loaded: the offset of the section headers,
/// and how many there are, of which one holds the names.
const SECTIONS: [std::ops::Range<usize>; 2] = [0x28..0x30, 0x3c..0x40];

/// The part of an ELF file that is loaded: without symbols and debug information,
/// which are most of it.
///
/// # Errors
///
/// If it is no ELF file of 64 bits.
pub fn loaded(mut file: Vec<u8>) -> Result<Vec<u8>> {
    let header = FileHeader64::<LittleEndian>::parse(&*file)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, &*file)?;
    let ends = segments.iter().map(|segment| {
        let (start, len) = segment.file_range(endian);
        start.saturating_add(len)
    });
    let end = ends.max().context("an ELF file with nothing to load")?;
    file.truncate(usize::try_from(end)?);
    for range in SECTIONS {
        file.get_mut(range).context("a header")?.fill(0);
    }
    Ok(file)
}

/// The loader and the libraries of a program, by the loader's own word.
///
/// # Errors
///
/// If it is no program of this machine's, or a library is missing.
pub fn libraries(program: &Path, file: &[u8]) -> Result<BTreeSet<PathBuf>> {
    let header = FileHeader64::<LittleEndian>::parse(file)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, file)?;
    let loader = segments
        .iter()
        .find(|segment| segment.p_type(endian) == PT_INTERP);
    let Some(loader) = loader else {
        // A static one needs nothing.
        return Ok(BTreeSet::new());
    };
    let loader = loader.data(endian, file).ok();
    let loader = loader.and_then(|path| std::str::from_utf8(path).ok());
    let loader = loader.context("a loader with a name")?;
    let loader = PathBuf::from(loader.trim_end_matches('\0'));
    let output = Command::new(&loader)
        .arg("--list")
        .arg(program)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", loader.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || said.contains("not found") {
        bail!("a library of {} is missing: {said}", program.display());
    }
    let mut files = listed(&said);
    files.insert(loader);
    Ok(files)
}

/// The files in a loader's list, of which a line is `name => path (address)`.
fn listed(text: &str) -> BTreeSet<PathBuf> {
    let lines = text.lines().filter_map(|line| {
        let (_, place) = line.split_once(" => ")?;
        let (path, _) = place.rsplit_once(" (")?;
        path.starts_with('/').then(|| path.into())
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_loader_lists_files() {
        let text = "\tlinux-vdso.so.1 (0x00007f0d1c2a7000)\n\
            \tlibc.so.6 => /lib/a b/libc.so.6 (0x00007f0d1be1e000)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f0d1c2a9000)\n";
        assert_eq!(listed(text), [PathBuf::from("/lib/a b/libc.so.6")].into());
    }

    #[test]
    fn the_loaded_part_of_a_program_runs() {
        let this = std::env::current_exe().expect("a program");
        let whole = fs::read(&this).expect("its file");
        let libraries = libraries(&this, &whole).expect("a list");
        assert!(libraries.iter().all(|file| file.exists()), "{libraries:?}");
        let len = whole.len();
        let part = loaded(whole).expect("a program");
        assert!(part.len() < len);
        let folder = tempfile::tempdir().expect("a folder");
        let [file, copy] = ["part", "copy"].map(|name| folder.path().join(name));
        fs::write(&file, part).expect("a file");
        // By another process: of this one, a child of another test may have it open for writing
        // just when it is to be run.
        let mut install = Command::new("install");
        let status = install.arg("--mode=755").args([&file, &copy]).status();
        assert!(status.is_ok_and(|status| status.success()));
        let output = Command::new(&copy).arg("--list").output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("the_loaded_part_of_a_program_runs"), "{said}");
    }

    #[test]
    fn what_is_no_program_is_an_error() {
        assert!(loaded(b"#!/bin/sh".to_vec()).is_err());
        assert!(libraries(Path::new("x"), b"").is_err());
    }
}
