//! The state that a vCPU starts in: ring 3, long mode, at the image's entry.

use super::vcpu::KvmVcpu;
use super::{kvm_failed, uninterrupted};
use crate::error::StartError;
use crate::memory::paging;
use crate::memory::tables;
use crate::platform::vcpu::Start;
use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_fpu, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs,
    kvm_xcr, kvm_xcrs,
};
use kvm_ioctls::{Kvm, VmFd};

const CR0_PROTECTED: u64 = 1;
const CR0_MONITOR_COPROCESSOR: u64 = 1 << 1;
const CR0_EXTENSION_TYPE: u64 = 1 << 4;
const CR0_NUMERIC_ERROR: u64 = 1 << 5;
const CR0_WRITE_PROTECT: u64 = 1 << 16;
const CR0_ALIGNMENT_MASK: u64 = 1 << 18;
const CR0_PAGING: u64 = 1 << 31;

const CR4_PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
const CR4_FXSAVE: u64 = 1 << 9;
const CR4_SIMD_EXCEPTIONS: u64 = 1 << 10;
const CR4_SEGMENT_BASES: u64 = 1 << 16;
const CR4_XSAVE: u64 = 1 << 18;

const EFER_LONG_MODE_ENABLE: u64 = 1 << 8;
const EFER_LONG_MODE_ACTIVE: u64 = 1 << 10;
const EFER_NO_EXECUTE: u64 = 1 << 11;

/// Extended states that a program may use without asking: x87, SSE, AVX and
/// AVX-512.
const PLAIN_STATES: u64 = 0b1110_0111;

/// The model-specific register of where system calls go: LSTAR.
const SYSCALL_TARGET: u32 = 0xc000_0082;

/// The flags register's one bit that is always set. Interrupts are off.
const RFLAGS: u64 = 1 << 1;

/// What the host's processor gives to guests.
pub struct HostFeatures {
    cpuid: CpuId,
    /// Extended states to enable; `None` if there is no XSAVE.
    states: Option<u64>,
    /// Whether a program may set the bases of its segments.
    segment_bases: bool,
}

impl HostFeatures {
    /// Asks KVM.
    pub fn of(kvm: &Kvm) -> Result<Self, StartError> {
        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(kvm_failed("tell what the processor can do"))?;
        let leaf = |function, index| {
            cpuid
                .as_slice()
                .iter()
                .find(|entry| entry.function == function && entry.index == index)
        };
        let xsave = leaf(1, 0).is_some_and(|entry| entry.ecx & 1 << 26 != 0);
        let states = leaf(0xd, 0)
            .filter(|_| xsave)
            .map(|entry| (u64::from(entry.eax) | u64::from(entry.edx) << 32) & PLAIN_STATES);
        let segment_bases = leaf(7, 0).is_some_and(|entry| entry.ebx & 1 != 0);
        Ok(Self {
            cpuid,
            states,
            segment_bases,
        })
    }
}

impl KvmVcpu {
    /// Makes the vCPU of that index, ready to run.
    pub fn new(
        vm: &VmFd,
        index: usize,
        features: &HostFeatures,
        start: Start,
    ) -> Result<Self, StartError> {
        let fd =
            uninterrupted(|| vm.create_vcpu(index as u64)).map_err(kvm_failed("make a vCPU"))?;
        // First, because what CR4 and XCR0 may hold follows from it.
        fd.set_cpuid2(&features.cpuid)
            .map_err(kvm_failed("tell a vCPU what it can do"))?;
        let mut sregs = fd.get_sregs().map_err(kvm_failed("read a vCPU's state"))?;
        fill_sregs(&mut sregs, index, features);
        fd.set_sregs(&sregs)
            .map_err(kvm_failed("set a vCPU's system registers"))?;
        if let Some(states) = features.states {
            let mut xcrs = kvm_xcrs {
                nr_xcrs: 1,
                ..Default::default()
            };
            xcrs.xcrs[0] = kvm_xcr {
                xcr: 0,
                value: states,
                ..Default::default()
            };
            fd.set_xcrs(&xcrs)
                .map_err(kvm_failed("enable a vCPU's vector registers"))?;
        }
        // All exceptions masked, round to nearest: what compilers assume.
        let fpu = kvm_fpu {
            fcw: 0x37f,
            mxcsr: 0x1f80,
            ..Default::default()
        };
        fd.set_fpu(&fpu)
            .map_err(kvm_failed("set a vCPU's floating-point state"))?;
        let landing = kvm_msr_entry {
            index: SYSCALL_TARGET,
            data: tables::SYSCALL_LANDING,
            ..Default::default()
        };
        let landing = Msrs::from_entries(&[landing]).ok();
        // Where it cannot be set, a system call looks like another crash.
        let _ = landing.map(|landing| fd.set_msrs(&landing));
        let regs = kvm_regs {
            rip: start.entry,
            rdi: start.boot_info,
            rsi: index as u64,
            // As after a call, whose return address would be 0.
            rsp: start.stack_top - 8,
            rflags: RFLAGS,
            ..Default::default()
        };
        fd.set_regs(&regs)
            .map_err(kvm_failed("set a vCPU's registers"))?;
        Ok(Self {
            index,
            fd,
            interrupted: None,
        })
    }
}

fn fill_sregs(sregs: &mut kvm_sregs, index: usize, features: &HostFeatures) {
    // A code or data segment of ring 3. Types are those of descriptors: both
    // have their accessed bit set.
    let flat = |selector, type_| kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        dpl: 3,
        s: 1,
        g: 1,
        ..Default::default()
    };
    sregs.cs = kvm_segment {
        l: 1,
        ..flat(tables::USER_CODE, 0b1011)
    };
    let data = kvm_segment {
        db: 1,
        ..flat(tables::USER_DATA, 0b0011)
    };
    sregs.ds = data;
    sregs.es = data;
    sregs.fs = data;
    sregs.gs = data;
    sregs.ss = data;
    sregs.tr = kvm_segment {
        base: tables::tss_address(index),
        limit: tables::TSS_LIMIT,
        selector: tables::tss_selector(index),
        type_: 0b1011,
        present: 1,
        ..Default::default()
    };
    sregs.ldt = kvm_segment {
        unusable: 1,
        ..Default::default()
    };
    sregs.gdt.base = tables::GDT;
    sregs.gdt.limit = tables::GDT_LIMIT;
    sregs.idt.base = tables::IDT;
    sregs.idt.limit = tables::IDT_LIMIT;
    // What a program may do beyond what the guest needs is what Linux lets one do: the
    // same instructions crash, or do not, where it runs in a process.
    sregs.cr0 = CR0_PROTECTED
        | CR0_MONITOR_COPROCESSOR
        | CR0_EXTENSION_TYPE
        | CR0_NUMERIC_ERROR
        | CR0_WRITE_PROTECT
        | CR0_ALIGNMENT_MASK
        | CR0_PAGING;
    sregs.cr3 = paging::ROOT;
    sregs.cr4 = CR4_PHYSICAL_ADDRESS_EXTENSION | CR4_FXSAVE | CR4_SIMD_EXCEPTIONS;
    if features.states.is_some() {
        sregs.cr4 |= CR4_XSAVE;
    }
    if features.segment_bases {
        sregs.cr4 |= CR4_SEGMENT_BASES;
    }
    sregs.efer = EFER_LONG_MODE_ENABLE | EFER_LONG_MODE_ACTIVE | EFER_NO_EXECUTE;
}
