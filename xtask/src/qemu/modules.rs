//! The modules of a kernel: which are needed, and in which order.

use super::unpack;
use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module, unpacked.
pub struct Module {
    /// Its name, with `_` for `-`.
    pub name: String,
    /// Its file.
    pub bytes: Vec<u8>,
}

/// The modules in a folder, `/lib/modules/RELEASE`.
pub struct Modules {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

impl Modules {
    /// Looks what there is.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn open(folder: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        collect(&folder.join("kernel"), &mut files)?;
        // A kernel that has all in modules may be without that file.
        let builtin = fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
        let names = builtin.lines().filter_map(|line| name(Path::new(line)));
        Ok(Self {
            files,
            builtin: names.collect(),
        })
    }

    /// These modules, and before each what it needs; without what is built into
    /// the kernel.
    ///
    /// # Errors
    ///
    /// If one is missing, or cannot be read.
    pub fn with_needs(&self, names: &[&str]) -> Result<Vec<Module>> {
        let mut modules = Vec::new();
        let mut seen = BTreeSet::new();
        for name in names {
            self.add(name, &mut seen, &mut modules)?;
        }
        Ok(modules)
    }

    fn add(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        modules: &mut Vec<Module>,
    ) -> Result<()> {
        if self.builtin.contains(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(path) = self.files.get(name) else {
            bail!("it has no module '{name}', nor is that built in");
        };
        let shown = || path.display().to_string();
        let bytes = fs::read(path).with_context(shown)?;
        let bytes = unpack::elf(&bytes).with_context(shown)?.into_owned();
        for needed in needs(&bytes).with_context(shown)? {
            self.add(&needed, seen, modules)?;
        }
        let name = name.to_owned();
        modules.push(Module { name, bytes });
        Ok(())
    }
}

/// The names of the modules that a module needs.
fn needs(module: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(module)?;
    let section = file.section_by_name(".modinfo").context("no .modinfo")?;
    let data = section.data()?;
    let depends = data.split(|byte| *byte == 0).find_map(|entry| {
        let entry = std::str::from_utf8(entry).ok()?;
        entry.strip_prefix("depends=")
    });
    let names = depends.unwrap_or_default().split(',');
    let names = names.filter(|name| !name.is_empty());
    Ok(names.map(plain).collect())
}

/// All modules under a folder.
fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// The name of the module in a file such as `kvm-amd.ko.xz`.
fn name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (name, rest) = file.split_once(".ko")?;
    (rest.is_empty() || rest.starts_with('.')).then(|| plain(name))
}

/// The kernel takes `-` and `_` for the same.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::write::{Object, StandardSection};
    use object::{Architecture, BinaryFormat, Endianness, SectionKind};

    fn module(needs: &str) -> Vec<u8> {
        let (format, machine) = (BinaryFormat::Elf, Architecture::X86_64);
        let mut file = Object::new(format, machine, Endianness::Little);
        let _ = file.section_id(StandardSection::Text);
        let kind = SectionKind::ReadOnlyData;
        let section = file.add_section(vec![], b".modinfo".to_vec(), kind);
        let text = format!("license=GPL\0depends={needs}\0name=x\0");
        file.append_section_data(section, text.as_bytes(), 1);
        file.write().expect("a module")
    }

    #[test]
    fn a_module_comes_after_what_it_needs_and_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let kernel = folder.path().join("kernel/arch/kvm");
        fs::create_dir_all(&kernel).expect("a folder");
        let write = |name: &str, needs| {
            fs::write(kernel.join(name), module(needs)).expect("a file");
        };
        write("kvm-amd.ko", "kvm,ccp,built-in");
        write("kvm.ko", "irqbypass");
        write("irqbypass.ko", "");
        write("ccp.ko", "");
        fs::write(kernel.join("notes.kotlin"), "").expect("a file");
        let builtin = "kernel/drivers/built_in.ko\n";
        fs::write(folder.path().join("modules.builtin"), builtin).expect("a file");
        let modules = Modules::open(folder.path()).expect("a folder");
        let names = |wanted: &[&str]| {
            let found = modules.with_needs(wanted)?;
            let names = found.into_iter().map(|module| module.name);
            anyhow::Ok(names.collect::<Vec<_>>().join(" "))
        };
        let wanted = ["irqbypass", "kvm_amd", "built_in"];
        assert_eq!(names(&wanted).expect("all"), "irqbypass kvm ccp kvm_amd");
        let missing = names(&["virtio_pci"]).expect_err("is missing");
        assert!(missing.to_string().contains("'virtio_pci'"), "{missing}");
    }
}
