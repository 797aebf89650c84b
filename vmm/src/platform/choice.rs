//! Which platform carries a guest.

use crate::error::{StartError, in_one_line};
use crate::memory::GuestMemory;
use crate::memory::map::AddressMap;
use crate::platform::kvm::{KvmMachine, OpenKvm};
use crate::platform::machine::Machine;
use crate::platform::process::{ProcessMachine, needs};
use arca_stub::area::AREA_SIZE;
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
    /// A process that has given up all but six system calls.
    Process,
}

impl Platform {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Kvm, Self::Process];

    /// Whether this machine has it: makes a machine, or starts a process, without a
    /// guest.
    ///
    /// # Errors
    ///
    /// [`StartError`]: why not, and what to do.
    pub fn check(self) -> Result<(), StartError> {
        match self {
            Self::Kvm => OpenKvm::new().map(drop),
            Self::Process => needs::try_out(),
            Self::Auto => Self::Kvm.check().or_else(|kvm| {
                let process = Self::Process.check();
                process.map_err(|process| neither(&kvm, &process))
            }),
        }
    }

    /// The one that it comes to on this machine.
    #[must_use]
    pub fn resolve(self) -> Self {
        match self {
            Self::Auto if OpenKvm::new().is_ok() => Self::Kvm,
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
            Platform::Process => needs::look().map(|()| Self::Process),
            Platform::Auto => OpenKvm::new().map(Self::Kvm).or_else(Self::instead),
        }
    }

    /// A process, where KVM cannot be used.
    fn instead(kvm: StartError) -> Result<Self, StartError> {
        needs::look().map_err(|process| neither(&kvm, &process))?;
        log::warn!(
            "the guest runs in a process, since KVM cannot be used (--platform process asks for that, without this notice): {}",
            in_one_line(&kvm)
        );
        Ok(Self::Process)
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
            Self::Process => GuestMemory::shared(AREA_SIZE as u64, low, arena),
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

fn neither(kvm: &StartError, process: &StartError) -> StartError {
    StartError::NoPlatform {
        kvm: in_one_line(kvm),
        process: in_one_line(process),
    }
}
