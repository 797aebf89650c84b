//! Compressed files, as kernels and their modules come.

use anyhow::{Context, Result, bail};
use lz4_flex::frame::FrameDecoder;
use ruzstd::decoding::StreamingDecoder;
use std::borrow::Cow;
use std::io::{Cursor, Read};
use xz4rust::XzReader;

/// How a file that is compressed begins.
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// The frame that the kernel's build makes, which names no length.
const LZ4: &[u8] = &[0x02, 0x21, 0x4c, 0x18];
const ELF: &[u8] = b"\x7fELF";

/// The ELF file in `bytes`, which may be compressed.
///
/// # Errors
///
/// If it is none, or compressed in a way that is not known here.
pub fn elf(bytes: &[u8]) -> Result<Cow<'_, [u8]>> {
    if bytes.starts_with(ELF) {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut whole = Vec::new();
    if bytes.starts_with(XZ) {
        let mut reader = XzReader::new(Cursor::new(bytes.to_owned()));
        reader.read_to_end(&mut whole).context("xz")?;
    } else if bytes.starts_with(ZSTD) {
        let mut reader = StreamingDecoder::new(bytes).context("zstd")?;
        reader.read_to_end(&mut whole).context("zstd")?;
    } else if bytes.starts_with(LZ4) {
        let mut reader = FrameDecoder::new(bytes);
        reader.read_to_end(&mut whole).context("lz4")?;
    } else {
        bail!("neither an ELF file nor one that xz, zstd or lz4 made");
    }
    if !whole.starts_with(ELF) {
        bail!("no ELF file");
    }
    Ok(Cow::Owned(whole))
}

#[cfg(test)]
mod tests {
    use super::elf;
    use std::io::Write;
    use std::process::{Command, Stdio};
    use std::thread;

    /// What a tool makes of `input`; none where it is not installed.
    fn packed(tool: &[&str], input: &[u8]) -> Option<Vec<u8>> {
        let mut command = Command::new(tool[0]);
        command.args(&tool[1..]).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).spawn().ok()?;
        let (mut stdin, input) = (child.stdin.take()?, input.to_owned());
        let writing = thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("a child");
        writing.join().expect("no panic").expect("it reads");
        Some(output.stdout)
    }

    #[test]
    fn an_elf_file_comes_out_as_it_went_in() {
        let mut file = b"\x7fELF".to_vec();
        file.extend(crate::demo::noise(300_000));
        file.extend([0; 300_000]);
        assert!(elf(&file).expect("an ELF file") == file);
        for tool in [
            &["xz", "--check=crc32", "--x86", "--lzma2=dict=1MiB"][..],
            &["zstd", "-19"],
            &["lz4", "-l"],
        ] {
            let Some(packed) = packed(tool, &file) else {
                println!("left out: {} is not installed", tool[0]);
                continue;
            };
            assert!(packed.len() < file.len());
            let unpacked = elf(&packed).expect("an ELF file");
            assert!(unpacked == file, "{tool:?}");
            // A file that was cut short is an error.
            let cut = elf(&packed[..packed.len() / 2]);
            assert!(!cut.is_ok_and(|cut| cut == file), "{tool:?}");
        }
    }

    #[test]
    fn what_is_no_elf_file_is_an_error() {
        for bytes in [&b""[..], b"MZ", b"\x7fEL", super::XZ, super::ZSTD] {
            assert!(elf(bytes).is_err(), "{bytes:?}");
        }
    }
}
