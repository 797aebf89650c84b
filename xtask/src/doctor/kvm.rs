//! /dev/kvm: whether it is there and may be used, and what kind it is.

use super::{Lack, lack};
use kvm_ioctls::Kvm;
use nix::errno::Errno;
use std::fs;
use std::path::Path;

/// What goes without it.
const INSTEAD: &str = "`cargo xtask run --qemu` does without";

/// The version of its interface, which has not changed since 2007.
const VERSION: i32 = 12;

pub fn look() -> Result<String, Lack> {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let hardware = Hardware::of(&flags);
    let kvm = Kvm::new().map_err(|error| missing(Errno::from_raw(error.errno()), hardware))?;
    let version = kvm.get_api_version();
    if version != VERSION {
        return Err(lack(
            format!("/dev/kvm is not KVM: its version is {version}, not {VERSION}"),
            INSTEAD,
        ));
    }
    kvm.create_vm().map_err(|error| {
        let why = format!("/dev/kvm makes no machine: {error}");
        lack(why, format!("look into `sudo dmesg`, or {INSTEAD}"))
    })?;
    let kind = match (hardware, module()) {
        (Some(Hardware::Intel), _) => "Intel VT-x",
        (Some(Hardware::Amd), _) => "AMD-V",
        (None, Some("kvm_pvm")) => "PVM, without hardware virtualisation",
        (None, _) => "without hardware virtualisation",
    };
    Ok(format!("/dev/kvm may be used: {kind}"))
}

/// What the processor has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hardware {
    Intel,
    Amd,
}

impl Hardware {
    /// From /proc/cpuinfo.
    fn of(text: &str) -> Option<Self> {
        let flags = text.lines().find(|line| line.starts_with("flags"))?;
        let has = |flag| flags.split_whitespace().any(|word| word == flag);
        match (has("vmx"), has("svm")) {
            (true, _) => Some(Self::Intel),
            (_, true) => Some(Self::Amd),
            _ => None,
        }
    }
}

/// The module that is KVM here, if it is one.
fn module() -> Option<&'static str> {
    let modules = ["kvm_intel", "kvm_amd", "kvm_pvm"];
    modules
        .into_iter()
        .find(|name| Path::new("/sys/module").join(name).exists())
}

/// Why it cannot be opened.
fn missing(errno: Errno, hardware: Option<Hardware>) -> Lack {
    match (errno, hardware) {
        (Errno::ENOENT, Some(hardware)) => {
            let module = match hardware {
                Hardware::Intel => "kvm_intel",
                Hardware::Amd => "kvm_amd",
            };
            lack(
                "there is no /dev/kvm",
                format!(
                    "load it: `sudo modprobe {module}`, or give it to this container: \
                     `docker run --device /dev/kvm`"
                ),
            )
        }
        (Errno::ENOENT, None) => lack(
            "there is no /dev/kvm, and this processor shows no virtualisation",
            format!("turn it on in the firmware or at the cloud's provider; {INSTEAD}"),
        ),
        (Errno::EACCES | Errno::EPERM, _) => lack(
            "/dev/kvm may not be opened by this user",
            "join its group: `sudo usermod --append --groups kvm $USER`, and log in again",
        ),
        (errno, _) => lack(
            format!("/dev/kvm cannot be opened: {}", errno.desc()),
            INSTEAD,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_told_by_its_flags() {
        let of = |flags| Hardware::of(&format!("processor: 0\nflags\t\t: fpu {flags} sse\n"));
        assert_eq!(of("vmx"), Some(Hardware::Intel));
        assert_eq!(of("svm"), Some(Hardware::Amd));
        assert_eq!(of("hypervisor svm_lock"), None);
        assert_eq!(Hardware::of(""), None);
    }

    #[test]
    fn each_reason_has_what_mends_it() {
        let mend = |errno, hardware| missing(errno, hardware).mend;
        assert!(mend(Errno::ENOENT, Some(Hardware::Amd)).contains("modprobe kvm_amd"));
        assert!(mend(Errno::ENOENT, None).contains("--qemu"));
        assert!(mend(Errno::EACCES, None).contains("usermod"));
        assert!(mend(Errno::ENODEV, None).contains("--qemu"));
    }
}
