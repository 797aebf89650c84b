//! Descriptor tables and exception stubs: the firmware that the VMM leaves in
//! guest memory, in pages that ring 3 cannot reach.
//!
//! ```text
//!  TABLES_BASE  + 0x0000  GDT
//!               + 0x1000  IDT
//!               + 0x2000  a TSS for each vCPU
//!               + 0x3000  exception stubs, executable
//!               + 0x4000  an exception stack for each vCPU
//! ```
//!
//! Every exception goes through its gate onto the vCPU's exception stack (the
//! image may use the red zone below its own) and into its stub, which writes
//! that vector's MMIO register. That exit is the crash report: the VMM finds
//! the interrupted state in the exception frame. What follows the write would
//! resume the program, should the VMM choose to.
//!
//! TSSs and gates are laid out by hand: the x86_64 crate takes a gate's handler
//! to be a function of the running program, and these handlers are bytes in
//! another machine.

use crate::error::StartError;
use crate::memory::GuestMemory;
use arca_shared::protocol::layout::{MAX_VCPUS, PAGE_SIZE, TABLES_BASE};
use arca_shared::protocol::register::{Register, VECTORS};
use x86_64::structures::gdt::{Descriptor, DescriptorFlags, GlobalDescriptorTable};

/// Address of the GDT.
pub const GDT: u64 = TABLES_BASE;
/// Address of the IDT.
pub const IDT: u64 = TABLES_BASE + PAGE_SIZE;
/// Address of the first TSS.
const TSSS: u64 = TABLES_BASE + 2 * PAGE_SIZE;
/// Address of the page of exception stubs.
pub const STUBS: u64 = TABLES_BASE + 3 * PAGE_SIZE;
/// Where a system call by the guest goes on a KVM that has system calls on whatever a
/// vCPU's state says: to an address where ring 3 cannot execute anything, so that it
/// is an exception.
pub const SYSCALL_LANDING: u64 = STUBS + PAGE_SIZE - 16;
/// Address of the first exception stack.
const STACKS: u64 = TABLES_BASE + 4 * PAGE_SIZE;

/// Size of an exception stack: a frame is all that is ever on it.
const STACK_SIZE: u64 = PAGE_SIZE;
/// Distance between two TSSs: none crosses a page.
const TSS_STRIDE: u64 = 128;
/// Size of a TSS without an I/O permission map.
const TSS_SIZE: u64 = 104;
/// Distance between two stubs.
const STUB_STRIDE: u64 = 32;

/// Limit of the IDT: its last byte.
pub const IDT_LIMIT: u16 = VECTORS as u16 * 16 - 1;
/// Limit of the GDT: its last byte.
pub const GDT_LIMIT: u16 = (8 * (FIRST_TSS_ENTRY + 2 * MAX_VCPUS as u64) - 1) as u16;
/// Limit of a TSS: its last byte.
pub const TSS_LIMIT: u32 = TSS_SIZE as u32 - 1;

/// Selector of the code segment that stubs run in.
const KERNEL_CODE: u16 = 0x08;
/// Selector of the data segment of ring 3.
pub const USER_DATA: u16 = 0x18 | 3;
/// Selector of the code segment of ring 3.
pub const USER_CODE: u16 = 0x20 | 3;
/// Number of GDT entries before the first TSS's.
const FIRST_TSS_ENTRY: u64 = 5;

/// Exceptions that push an error code, as a set of vectors.
const WITH_ERROR_CODE: u32 = 1 << 8 | 0b11111 << 10 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30;

/// Whether an exception pushes an error code.
pub fn has_error_code(vector: u8) -> bool {
    vector < 32 && WITH_ERROR_CODE >> vector & 1 == 1
}

/// Address after the last byte of a vCPU's exception stack.
pub fn exception_stack_top(vcpu: usize) -> u64 {
    STACKS + (vcpu as u64 + 1) * STACK_SIZE
}

/// Address of a vCPU's TSS.
pub fn tss_address(vcpu: usize) -> u64 {
    TSSS + vcpu as u64 * TSS_STRIDE
}

/// Selector of a vCPU's TSS.
pub fn tss_selector(vcpu: usize) -> u16 {
    ((FIRST_TSS_ENTRY + 2 * vcpu as u64) * 8) as u16
}

/// Writes all of them.
pub fn write(memory: &GuestMemory, vcpus: usize) -> Result<(), StartError> {
    memory.write(GDT, &gdt(vcpus))?;
    memory.write(IDT, &idt())?;
    memory.write(STUBS, &stubs())?;
    for vcpu in 0..vcpus {
        memory.write(tss_address(vcpu), &tss(exception_stack_top(vcpu)))?;
    }
    Ok(())
}

fn gdt(vcpus: usize) -> Vec<u8> {
    let mut table = GlobalDescriptorTable::<{ 6 + 2 * MAX_VCPUS }>::empty();
    for segment in [
        DescriptorFlags::KERNEL_CODE64,
        DescriptorFlags::KERNEL_DATA,
        DescriptorFlags::USER_DATA,
        DescriptorFlags::USER_CODE64,
    ] {
        table.append(Descriptor::UserSegment(segment.bits()));
    }
    for vcpu in 0..vcpus {
        let (low, high) = tss_descriptor(tss_address(vcpu));
        table.append(Descriptor::SystemSegment(low, high));
    }
    table
        .entries()
        .iter()
        .flat_map(|entry| entry.raw().to_le_bytes())
        .collect()
}

/// A present, busy 64-bit TSS: busy because the vCPU starts with it loaded.
fn tss_descriptor(base: u64) -> (u64, u64) {
    const PRESENT: u64 = 1 << 47;
    const BUSY_TSS: u64 = 0b1011 << 40;
    let low = PRESENT
        | BUSY_TSS
        | u64::from(TSS_LIMIT)
        | (base & 0xff_ffff) << 16
        | (base >> 24 & 0xff) << 56;
    (low, base >> 32)
}

fn tss(stack_top: u64) -> [u8; TSS_SIZE as usize] {
    let mut bytes = [0; TSS_SIZE as usize];
    // RSP0, for anything that would change rings without a stack of its own,
    // and the first entry of the interrupt stack table.
    for at in [4, 36] {
        bytes[at..at + 8].copy_from_slice(&stack_top.to_le_bytes());
    }
    // The I/O permission map begins after the end: no port is allowed.
    bytes[102..].copy_from_slice(&(TSS_SIZE as u16).to_le_bytes());
    bytes
}

fn idt() -> Vec<u8> {
    (0..VECTORS)
        .flat_map(|vector| gate(vector).to_le_bytes())
        .collect()
}

/// An interrupt gate to a vector's stub, by way of the exception stack.
fn gate(vector: u8) -> u128 {
    // What programs may raise by `int n`, as under Linux: a breakpoint and an overflow.
    const RAISED: [u8; 2] = [3, 4];
    const PRESENT: u128 = 1 << 47;
    const INTERRUPT_GATE: u128 = 0b1110 << 40;
    const STACK_TABLE_ENTRY: u128 = 1 << 32;
    let handler = u128::from(STUBS + u64::from(vector) * STUB_STRIDE);
    let ring: u128 = if RAISED.contains(&vector) { 3 } else { 0 };
    handler & 0xffff
        | u128::from(KERNEL_CODE) << 16
        | STACK_TABLE_ENTRY
        | INTERRUPT_GATE
        | ring << 45
        | PRESENT
        | (handler >> 16 & 0xffff) << 48
        | (handler >> 32) << 64
}

fn stubs() -> Vec<u8> {
    let mut code = Vec::new();
    for vector in 0..VECTORS {
        // movabs [register], rax
        code.extend([0x48, 0xa3]);
        code.extend(Register::Fault(vector).address().to_le_bytes());
        if has_error_code(vector) {
            // add rsp, 8
            code.extend([0x48, 0x83, 0xc4, 0x08]);
        }
        // iretq
        code.extend([0x48, 0xcf]);
        // int3, up to the next stub
        code.resize(((u64::from(vector) + 1) * STUB_STRIDE) as usize, 0xcc);
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_fit_the_table() {
        let table = gdt(MAX_VCPUS);
        assert_eq!(table.len(), usize::from(GDT_LIMIT) + 1);
        let entry = |selector: u16| {
            let at = usize::from(selector & !7);
            u64::from_le_bytes(table[at..at + 8].try_into().expect("8 bytes"))
        };
        let ring = |selector| entry(selector) >> 45 & 3;
        assert_eq!(
            (ring(KERNEL_CODE), ring(USER_CODE), ring(USER_DATA)),
            (0, 3, 3)
        );
        for selector in [KERNEL_CODE, USER_CODE, USER_DATA, tss_selector(3)] {
            assert_eq!(entry(selector) >> 47 & 1, 1, "present");
        }
        assert_eq!(entry(USER_CODE) >> 53 & 1, 1, "64-bit code");
        assert_eq!(entry(tss_selector(2)) >> 16 & 0xff_ffff, tss_address(2));
    }

    #[test]
    fn each_gate_leads_to_its_stub() {
        for vector in 0..32 {
            let gate = gate(vector);
            let handler = gate & 0xffff | (gate >> 48 & 0xffff) << 16;
            assert_eq!(handler as u64, STUBS + u64::from(vector) * STUB_STRIDE);
            assert_eq!(gate >> 32 & 7, 1, "on the exception stack");
            let ring = if matches!(vector, 3 | 4) { 3 } else { 0 };
            assert_eq!(gate >> 45 & 3, ring);
        }
        let stubs = stubs();
        assert!(stubs.len() as u64 <= PAGE_SIZE);
        for vector in 0..32usize {
            let stub = &stubs[vector * STUB_STRIDE as usize..];
            let register = u64::from_le_bytes(stub[2..10].try_into().expect("8 bytes"));
            assert_eq!(register, Register::Fault(vector as u8).address());
        }
    }

    #[test]
    fn error_codes_are_those_of_the_architecture() {
        let with: Vec<u8> = (0..=255).filter(|vector| has_error_code(*vector)).collect();
        assert_eq!(with, [8, 10, 11, 12, 13, 14, 17, 21, 29, 30]);
    }
}
