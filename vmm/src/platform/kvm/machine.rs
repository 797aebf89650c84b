//! The machine: guest memory, the doorbell, and what its vCPUs are made from.

use super::setup::{HostFeatures, Start};
use super::vcpu::Vcpu;
use super::{kvm_failed, uninterrupted};
use crate::error::StartError;
use crate::memory::GuestMemory;
use crate::platform::clock::{GuestClock, counter_offset};
use arca_shared::protocol::register::Register;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{IoEventAddress, Kvm, NoDatamatch, VmFd};
use nix::libc;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd};
use vmm_sys_util::eventfd::EventFd;

/// A machine under KVM. It must not outlive the memory that it was made with.
pub struct KvmMachine {
    kvm: Kvm,
    vm: VmFd,
}

impl KvmMachine {
    /// A machine with this memory and no vCPU.
    ///
    /// # Errors
    ///
    /// [`StartError`]: KVM is not there, not permitted, or refuses.
    pub fn new(memory: &GuestMemory) -> Result<Self, StartError> {
        let kvm = open()?;
        let vm = uninterrupted(|| kvm.create_vm()).map_err(kvm_failed("make a machine"))?;
        for (slot, range) in memory.slots().into_iter().enumerate() {
            let region = kvm_userspace_memory_region {
                slot: slot as u32,
                guest_phys_addr: range.guest,
                memory_size: range.len,
                userspace_addr: range.host,
                flags: 0,
            };
            // SAFETY: the range is a mapping that lives until the last vCPU is
            // gone: both are owned by what `Vm::run` drops together, and
            // `VcpuShared`, which every vCPU thread holds, holds the memory. Slots
            // differ, ranges do not overlap.
            unsafe { vm.set_user_memory_region(region) }
                .map_err(kvm_failed("give memory to the machine"))?;
        }
        Ok(Self { kvm, vm })
    }

    /// Has writes to the doorbell signal this eventfd without leaving the kernel.
    pub fn connect_doorbell(&self, eventfd: BorrowedFd<'_>) -> Result<(), StartError> {
        let fd = eventfd
            .try_clone_to_owned()
            .map_err(|source| StartError::Host {
                action: "duplicate the doorbell's descriptor",
                source,
            })?;
        // SAFETY: the descriptor is an eventfd's, and nobody else owns this
        // duplicate.
        let doorbell = unsafe { EventFd::from_raw_fd(fd.into_raw_fd()) };
        // No length and no value: any write to the address counts, which is the
        // path that KVM takes without decoding the instruction.
        let address = IoEventAddress::Mmio(Register::Doorbell.address());
        self.vm
            .register_ioevent(&doorbell, &address, NoDatamatch)
            .map_err(kvm_failed("connect the doorbell"))
    }

    /// Makes the vCPUs, each ready to run from where it starts.
    pub fn make_vcpus(&self, starts: impl Iterator<Item = Start>) -> Result<Vec<Vcpu>, StartError> {
        let features = HostFeatures::of(&self.kvm)?;
        let vcpus = starts.enumerate();
        vcpus
            .map(|(index, start)| Vcpu::new(&self.vm, index, &features, start))
            .collect()
    }

    /// Starts the guest's clock, as its first vCPU will see it.
    pub fn start_clock(&self, vcpus: &[Vcpu]) -> Result<GuestClock, StartError> {
        let unknown = || StartError::Host {
            action: "use the time-stamp counter as a clock",
            source: io::Error::other("its frequency is not known"),
        };
        let fd = vcpus.first().ok_or_else(unknown)?.fd();
        let khz = fd
            .get_tsc_khz()
            .map_err(kvm_failed("tell the time-stamp counter's frequency"))?;
        match khz {
            0 => Err(unknown()),
            khz => Ok(GuestClock::start(khz.into(), counter_offset(fd))),
        }
    }
}

fn open() -> Result<Kvm, StartError> {
    Kvm::new().map_err(|error| match error.errno() {
        libc::ENOENT | libc::ENODEV | libc::ENXIO => StartError::KvmMissing,
        libc::EACCES | libc::EPERM => StartError::KvmDenied,
        _ => kvm_failed("be opened")(error),
    })
}
