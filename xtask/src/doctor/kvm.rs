//! /dev/kvm: whether it is there and may be used, and what kind it is.

use super::{Lack, lack};
use arca_vmm::{Platform, StartError};
use std::fs;
use std::path::Path;

/// What goes without it.
const INSTEAD: &str = "`cargo xtask run --qemu` does without";

pub fn look() -> Result<String, Lack> {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let hardware = Hardware::of(&flags);
    Platform::Kvm
        .check()
        .map_err(|error| lacking(error, hardware))?;
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

/// Why it cannot be used.
fn lacking(error: StartError, hardware: Option<Hardware>) -> Lack {
    match (error, hardware) {
        (StartError::KvmMissing, Some(hardware)) => {
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
        (StartError::KvmMissing, None) => lack(
            "there is no /dev/kvm, and this processor shows no virtualisation",
            format!("turn it on in the firmware or at the cloud's provider; {INSTEAD}"),
        ),
        (StartError::KvmDenied, _) => lack(
            "/dev/kvm may not be opened by this user",
            "join its group: `sudo usermod --append --groups kvm $USER`, and log in again",
        ),
        (error, _) => lack(format!("{:#}", anyhow::Error::from(error)), INSTEAD),
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
        let mend = |error, hardware| lacking(error, hardware).mend;
        assert!(mend(StartError::KvmMissing, Some(Hardware::Amd)).contains("modprobe kvm_amd"));
        assert!(mend(StartError::KvmMissing, None).contains("--qemu"));
        assert!(mend(StartError::KvmDenied, None).contains("usermod"));
        let other = StartError::VcpuCount { vcpus: 0 };
        assert!(mend(other, None).contains("--qemu"));
    }
}
