//! Which platform carries a guest.

use crate::error::{StartError, in_one_line};
use crate::memory::GuestMemory;
use crate::memory::map::AddressMap;
use crate::platform::kvm::{KvmMachine, OpenKvm};
use crate::platform::machine::Machine;
use crate::platform::process::ProcessMachine;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What carries a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Platform {
    /// KVM where it can be used, else a process; which one and why is said in the
    /// log if it is the process.
    #[default]
    Auto,
    /// A virtual machine under KVM.
    Kvm,
    /// A process that has given up all but five system calls.
    Process,
}

impl Platform {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Kvm, Self::Process];

    /// Whether this machine has it.
    ///
    /// # Errors
    ///
    /// [`StartError`]: why not, and what to do.
    pub fn check(self) -> Result<(), StartError> {
        Chosen::new(self).map(drop)
    }

    /// The one that it comes to on this machine.
    #[must_use]
    pub fn resolve(self) -> Self {
        match self {
            Self::Auto if Self::Kvm.check().is_ok() => Self::Kvm,
            Self::Auto => Self::Process,
            platform => platform,
        }
    }

    /// Its name on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kvm => "kvm",
            Self::Process => "process",
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|platform| platform.name() == text)
            .ok_or_else(|| "expected auto, kvm or process".into())
    }
}

/// The platform of one guest, ready to make its machine.
pub enum Chosen {
    /// KVM, which has been opened.
    Kvm(OpenKvm),
    /// A process.
    Process,
}

impl Chosen {
    /// Takes the platform that is wanted.
    pub fn new(wanted: Platform) -> Result<Self, StartError> {
        match wanted {
            Platform::Kvm => OpenKvm::new().map(Self::Kvm),
            Platform::Process => Ok(Self::Process),
            Platform::Auto => Ok(OpenKvm::new().map_or_else(
                |error| {
                    log::warn!(
                        "the guest runs in a process, since KVM cannot be used (--platform process asks for that, without this notice): {}",
                        in_one_line(&error)
                    );
                    Self::Process
                },
                Self::Kvm,
            )),
        }
    }

    /// Its name.
    pub fn platform(&self) -> Platform {
        match self {
            Self::Kvm(_) => Platform::Kvm,
            Self::Process => Platform::Process,
        }
    }

    /// Memory for the guest.
    pub fn memory(&self, low: u64, arena: u64) -> Result<Arc<GuestMemory>, StartError> {
        match self {
            Self::Kvm(_) => GuestMemory::new(low, arena),
            Self::Process => GuestMemory::shared(low, arena),
        }
    }

    /// The machine, with that memory.
    pub fn machine(
        self,
        memory: &Arc<GuestMemory>,
        map: &AddressMap,
        vcpus: usize,
    ) -> Result<Box<dyn Machine>, StartError> {
        Ok(match self {
            Self::Kvm(kvm) => Box::new(KvmMachine::new(kvm, memory, map, vcpus)?),
            Self::Process => Box::new(ProcessMachine::new(memory, map)?),
        })
    }
}
