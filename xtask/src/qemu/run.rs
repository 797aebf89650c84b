//! `run --qemu`: the same command line, in the machine.

use super::control::Start;
use super::initramfs::Files;
use super::interrupts::Interrupts;
use super::kernel::Kernel;
use super::machine::{Machine, Outcome, Outlet, Plan};
use super::{INIT, QemuOptions};
use crate::{built, cargo, tool};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// What the kernel and init need beside the guest, in bytes.
const SYSTEM: u64 = 320 << 20;

/// Boots a machine, and in it the image, by the command line of this process. The
/// exit code is that of the same command there.
///
/// # Errors
///
/// If there is no such machine: lines that say why, and what to do.
pub fn run(
    options: &QemuOptions,
    interrupts: &Interrupts,
    image: &Path,
    guest_memory: u64,
) -> Result<u8> {
    let kernel = find_kernel(options)?;
    let xtask = env::current_exe().context("this program's file")?;
    // Where the image is in the machine: by its name, which crash reports use.
    let inside = Path::new("/image").join(image.file_name().context("an image has a name")?);
    let mut files = Files::default();
    files.program(&xtask)?;
    files.file(image, &inside)?;
    kernel.add_modules(&mut files);
    let plan = Plan {
        kernel: &kernel,
        files: &files,
        init: (&xtask, INIT),
        memory: SYSTEM + guest_memory,
        // As many as there are vCPUs could be had, and none would be faster.
        processors: 2,
    };
    let outlets = [output(std::io::stdout())?, output(std::io::stderr())?];
    let mut machine = Machine::boot(&plan, outlets, stdin()?)?;
    interrupts.forward(machine.orders()?);
    let mut args = vec![xtask.display().to_string()];
    args.extend(env::args().skip(1));
    let variables = [(built::IMAGE, inside.display().to_string())];
    let start = Start {
        args,
        env: inherited(variables),
        folder: PathBuf::from("/"),
    };
    match machine.run(start, None)? {
        Outcome::Ended(ended) | Outcome::TimedOut(ended) => Ok(ended.code),
    }
}

/// The kernel that these options want, and a line that says which it is.
pub fn find_kernel(options: &QemuOptions) -> Result<Kernel> {
    let cache = cargo::target_dir()?.join("qemu");
    let kernel = Kernel::find(options.kernel.as_deref(), &cache)?;
    tool::say(format_args!(
        "qemu: kernel {} from {}",
        kernel.release,
        kernel.origin.display()
    ));
    Ok(kernel)
}

/// Variables for a program in the machine: these, and those of ours that change
/// what programs say.
pub fn inherited<const N: usize>(own: [(&str, String); N]) -> BTreeMap<String, String> {
    let ours = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let ours = ours.filter(|(name, _)| name.starts_with("ARCA_") || name.starts_with("RUST_"));
    let own = own.map(|(name, value)| (name.to_owned(), value));
    ours.chain(own).collect()
}

/// A stream of this process's, without a buffer.
fn output(stream: impl AsFd) -> Result<Outlet> {
    let mut file = file(stream.as_fd())?;
    Ok(Box::new(move |bytes| file.write_all(bytes)))
}

/// Standard input of this process, without a buffer: each read takes what it is
/// asked for.
fn stdin() -> Result<File> {
    file(std::io::stdin().as_fd())
}

fn file(stream: BorrowedFd<'_>) -> Result<File> {
    let fd = stream.try_clone_to_owned().context("a standard stream")?;
    Ok(fd.into())
}
