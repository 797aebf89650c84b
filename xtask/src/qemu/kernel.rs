//! The kernel that the machine boots: which one, and what of it is needed.

use super::bzimage::KernelFile;
use super::init::MODULES;
use super::initramfs::Files;
use super::modules::{Module, Modules};
use super::package;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What the machine needs of its kernel: KVM, a bus, and ports for the streams.
const NEEDED: [&str; 3] = ["kvm_amd", "virtio_pci", "virtio_console"];

/// What is in a kernel with kvm-amd built in: how its parameters' names begin.
const BUILT_IN: &[u8] = b"kvm_amd.";
/// What a person can do about one that will not do.
const INSTEAD: &str = "name one with kvm-amd and virtio with --kernel PATH";

/// Where installed kernels are.
const INSTALLED: &str = "/boot";

/// A kernel to boot.
pub struct Kernel {
    /// Its release, as `uname -r` has it.
    pub release: String,
    /// Where it is from.
    pub origin: PathBuf,
    /// The file that QEMU loads.
    pub image: PathBuf,
    /// The modules to load, in order.
    pub modules: Vec<Module>,
}

impl Kernel {
    /// The one that is named, or else one that is installed, or else the
    /// distribution's, which is kept in `cache`.
    ///
    /// # Errors
    ///
    /// A line that says what is wrong with it and what to do.
    pub fn find(named: Option<&Path>, cache: &Path) -> Result<Self> {
        if let Some(path) = named {
            return Self::open(path).with_context(|| format!("--kernel {}", path.display()));
        }
        // Those that cannot be used here are passed over: others are to be had.
        for path in images(Path::new(INSTALLED)) {
            if let Ok(kernel) = Self::open(&path) {
                return Ok(kernel);
            }
        }
        let folder = package::folder(cache)?;
        let path = images(&folder.join("boot")).into_iter().next();
        let path = path.with_context(|| format!("no kernel in {}", folder.display()))?;
        let kernel = Self::open(&path).with_context(|| path.display().to_string())?;
        kernel.unpacked_in(&folder)
    }

    /// Reads a kernel's file, and its modules: those in `../lib/modules` beside it,
    /// as in a package or a system, or else this system's. One without any has to
    /// have all that is needed built in.
    fn open(path: &Path) -> Result<Self> {
        let bytes = fs::read(path)?;
        let file = KernelFile::parse(&bytes)?;
        let release = file.release()?;
        let beside = path.parent().map(|folder| folder.join("../lib/modules"));
        let mut folders = beside.into_iter().chain([PathBuf::from("/lib/modules")]);
        let folder = folders.find_map(|folder| {
            let folder = folder.join(&release);
            folder.join("kernel").is_dir().then_some(folder)
        });
        let modules = match folder {
            None if file.elf().is_ok_and(|elf| !has(&elf, BUILT_IN)) => bail!(
                "kernel {release} has no kvm-amd built in, and no modules in ../lib/modules \
                 beside it or in /lib/modules: {INSTEAD}"
            ),
            // One that cannot be looked into may have it.
            None => Vec::new(),
            Some(folder) => {
                let all = Modules::open(&folder)?;
                all.with_needs(&NEEDED)
                    .with_context(|| format!("kernel {release} cannot be used: {INSTEAD}"))?
            }
        };
        Ok(Self {
            release,
            origin: path.to_owned(),
            image: path.to_owned(),
            modules,
        })
    }

    /// Adds its modules to a machine's files, where init looks for them.
    pub fn add_modules(&self, files: &mut Files) {
        for (number, Module { name, bytes }) in self.modules.iter().enumerate() {
            let path = Path::new(MODULES).join(format!("{number:03}-{name}.ko"));
            files.bytes(&path, &**bytes, 0o644);
        }
    }

    /// The same one as an ELF file, which is made once and kept in `folder`. One
    /// that cannot be unpacked here boots as it is, a second later.
    fn unpacked_in(mut self, folder: &Path) -> Result<Self> {
        let kept = folder.join(format!("vmlinux-{}", self.release));
        if !kept.exists() {
            let bytes = fs::read(&self.image)?;
            let Ok(elf) = KernelFile::parse(&bytes)?.elf() else {
                return Ok(self);
            };
            let mut draft = tempfile::NamedTempFile::new_in(folder)?;
            draft.write_all(&elf)?;
            draft.persist(&kept)?;
        }
        self.image = kept;
        Ok(self)
    }
}

/// Whether a text is somewhere in a file.
fn has(file: &[u8], text: &[u8]) -> bool {
    file.windows(text.len()).any(|part| part == text)
}

/// The kernels in a folder, newest first.
fn images(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut images: Vec<_> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-"))
        .map(|entry| entry.path())
        .collect();
    images.sort_by_key(|path| std::cmp::Reverse(version(path)));
    images
}

/// The numbers in a file's name, by which versions compare.
fn version(path: &Path) -> Vec<u64> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let numbers = name.split(|byte: char| !byte.is_ascii_digit());
    numbers.filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_comes_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let names = [
            "vmlinuz-6.1.0-9-amd64",
            "vmlinuz-6.1.0-48-amd64",
            "vmlinuz-5.19.17",
        ];
        for name in names.into_iter().chain(["initrd.img-9.0", "config-9.0"]) {
            fs::write(folder.path().join(name), "").expect("a file");
        }
        let wanted = [names[1], names[0], names[2]].map(|name| folder.path().join(name));
        assert_eq!(images(folder.path()), wanted);
        assert!(images(&folder.path().join("none")).is_empty());
    }

    #[test]
    fn what_is_no_kernel_is_an_error() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let cache = Path::new("no/such/folder");
        for path in [file.path(), Path::new("no/such/kernel"), Path::new("/")] {
            let error = Kernel::find(Some(path), cache).err().expect("an error");
            let shown = format!("{error:#}");
            assert!(shown.contains(&path.display().to_string()), "{shown}");
        }
    }
}
