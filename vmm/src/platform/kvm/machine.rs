//! The machine: guest memory, the doorbell, and what its vCPUs are made from.

use super::setup::HostFeatures;
use super::vcpu::KvmVcpu;
use super::{kvm_failed, uninterrupted};
use crate::error::StartError;
use crate::memory::GuestMemory;
use crate::memory::map::AddressMap;
use crate::memory::{paging, tables};
use crate::platform::clock::{GuestClock, counter_offset};
use crate::platform::machine::Machine;
use crate::platform::park::Parkers;
use crate::platform::vcpu::{Start, Vcpu};
use crate::vm::outcome::RunState;
use arca_shared::protocol::register::Register;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{IoEventAddress, Kvm, NoDatamatch, VmFd};
use nix::libc;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd};
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// KVM, with a machine that has nothing yet.
pub struct OpenKvm {
    kvm: Kvm,
    vm: VmFd,
}

impl OpenKvm {
    /// Opens KVM.
    ///
    /// # Errors
    ///
    /// [`StartError`]: KVM is not there, not permitted, or refuses.
    pub fn new() -> Result<Self, StartError> {
        let kvm = open()?;
        let vm = uninterrupted(|| kvm.create_vm()).map_err(kvm_failed("make a machine"))?;
        Ok(Self { kvm, vm })
    }
}

/// A machine under KVM. It must not outlive the memory that it was made with.
pub struct KvmMachine {
    kvm: Kvm,
    vm: VmFd,
    counter: Option<Counter>,
}

/// The time-stamp counter, as the vCPUs see it.
struct Counter {
    khz: u64,
    /// How far it is ahead of the host's.
    offset: u64,
}

impl KvmMachine {
    /// A machine with this memory and no vCPU. Writes into it what the guest must not
    /// be able to replace: descriptor tables, stubs and page tables.
    ///
    /// # Errors
    ///
    /// [`StartError`]: the map needs more page tables than there is room for, or KVM
    /// refuses.
    pub fn new(
        kvm: OpenKvm,
        memory: &GuestMemory,
        map: &AddressMap,
        vcpus: usize,
    ) -> Result<Self, StartError> {
        let OpenKvm { kvm, vm } = kvm;
        tables::write(memory, vcpus)?;
        paging::write(memory, map)?;
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
        Ok(Self {
            kvm,
            vm,
            counter: None,
        })
    }
}

impl Machine for KvmMachine {
    fn parkers(&self, vcpus: usize, run_state: Arc<RunState>) -> Arc<Parkers> {
        Arc::new(Parkers::new(vcpus, run_state))
    }

    /// Has writes to the doorbell signal this eventfd without leaving the kernel.
    fn connect_doorbell(&mut self, eventfd: BorrowedFd<'_>) -> Result<(), StartError> {
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

    fn make_vcpus(&mut self, starts: &[Start]) -> Result<Vec<Box<dyn Vcpu>>, StartError> {
        let features = HostFeatures::of(&self.kvm)?;
        let mut vcpus: Vec<Box<dyn Vcpu>> = Vec::with_capacity(starts.len());
        for (index, start) in starts.iter().enumerate() {
            let vcpu = KvmVcpu::new(&self.vm, index, &features, *start)?;
            if self.counter.is_none() {
                self.counter = Some(Counter {
                    khz: vcpu
                        .fd()
                        .get_tsc_khz()
                        .map_err(kvm_failed("tell the time-stamp counter's frequency"))?
                        .into(),
                    offset: counter_offset(vcpu.fd()),
                });
            }
            vcpus.push(Box::new(vcpu));
        }
        Ok(vcpus)
    }

    fn start_clock(&mut self) -> Result<GuestClock, StartError> {
        match self.counter {
            Some(Counter { khz, offset }) if khz != 0 => Ok(GuestClock::start(khz, offset)),
            _ => Err(StartError::Host {
                action: "use the time-stamp counter as a clock",
                source: io::Error::other("its frequency is not known"),
            }),
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
