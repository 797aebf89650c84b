//! Bugs planted to see whether the fuzz targets find them: in a copy of the
//! project, in the code that each target is there for.

use crate::root::root;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// A bug: a line of the project that is written wrongly.
struct Plant {
    target: &'static str,
    file: &'static str,
    right: &'static str,
    wrong: &'static str,
}

const PLANTS: [Plant; 5] = [
    // A length of one more than the buffer behind it is let through.
    Plant {
        target: "frame",
        file: "shared/src/protocol/frame.rs",
        right: "if usize::from(payload_len) > MAX_PAYLOAD {",
        wrong: "if usize::from(payload_len) > MAX_PAYLOAD + 1 {",
    },
    // A count is taken down twice: an underflow.
    Plant {
        target: "session",
        file: "monitor/src/listeners/mod.rs",
        right: "&& listener.remove_wait(ticket)\n        {\n            self.waiting -= 1;",
        wrong: "&& listener.remove_wait(ticket)\n        {\n            self.waiting -= 2;",
    },
    // The peer's cursor is believed, however far it is ahead.
    Plant {
        target: "ring",
        file: "shared/src/ring/consumer.rs",
        right: "if found < low || found > high {",
        wrong: "if found < low {",
    },
    // A free block is merged with a buddy of which only a part is free.
    Plant {
        target: "buddy",
        file: "shared/src/memory/buddy.rs",
        right: "|&stored| stored == order as u8 + 1",
        wrong: "|&stored| stored != 0",
    },
    // The end of a segment wraps around the address space.
    Plant {
        target: "image",
        file: "vmm/src/memory/elf.rs",
        right: "let end = start.checked_add(size).ok_or(outside.clone())?;",
        wrong: "let end = start.wrapping_add(size);",
    },
];

/// Copies the project into the folder `built`, with the target's bug in it; where
/// the copy is.
///
/// # Errors
///
/// If it cannot be copied, or if the line is not there any more.
pub(super) fn plant(target: &str, built: &Path) -> Result<PathBuf> {
    let plant = PLANTS.iter().find(|plant| plant.target == target);
    let plant = plant.with_context(|| format!("no bug is known for {target}"))?;
    // One place for all, so that only what differs is built again.
    let copy = built.join("planted");
    if copy.exists() {
        fs::remove_dir_all(&copy).context("removing an earlier copy")?;
    }
    copy_folder(root()?, &copy).context("copying the project")?;
    let path = copy.join(plant.file);
    let text = fs::read_to_string(&path).with_context(|| plant.file.to_owned())?;
    if text.matches(plant.right).count() != 1 {
        bail!("{} has changed: plant another bug there", plant.file);
    }
    fs::write(&path, text.replace(plant.right, plant.wrong)).context("planting")?;
    Ok(copy)
}

/// Copies files and folders, but for what is built and what is hidden.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        // Cargo leaves such a file wherever it builds.
        let built = path.join("CACHEDIR.TAG").exists();
        match name.to_str() {
            Some("artifacts" | "corpus" | ".git") => {}
            _ if built => {}
            _ if path.is_dir() => copy_folder(&path, &to.join(name))?,
            _ => drop(fs::copy(&path, to.join(name))?),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_that_a_bug_is_planted_in_is_there_once() {
        let root = root().expect("a checkout");
        for plant in PLANTS {
            let text = fs::read_to_string(root.join(plant.file)).expect(plant.file);
            assert_eq!(text.matches(plant.right).count(), 1, "{}", plant.file);
        }
    }
}
