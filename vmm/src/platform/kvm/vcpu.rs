//! One vCPU under KVM: what its exits are.

use crate::crash::exception::{INVALID_OPCODE, PAGE_FAULT};
use crate::crash::{Cause, INTERRUPTS, RESUME, Registers};
use crate::memory::GuestMemory;
use crate::memory::tables;
use crate::platform::vcpu::{End, ExitAction, Vcpu, VcpuShared};
use arca_shared::protocol::layout::PAGE_SIZE;
use arca_shared::protocol::register::Register;
use kvm_bindings::kvm_regs;
use kvm_ioctls::{VcpuExit, VcpuFd};
use nix::libc;

/// One vCPU.
pub struct KvmVcpu {
    pub(super) index: usize,
    pub(super) fd: VcpuFd,
    /// What an exception interrupted, once a stub has reported one.
    pub(super) interrupted: Option<Registers>,
}

impl KvmVcpu {
    /// What KVM knows it by.
    pub fn fd(&self) -> &VcpuFd {
        &self.fd
    }

    fn general_registers(&self) -> Option<Registers> {
        let regs = self.fd.get_regs().ok()?;
        Some(Registers {
            general: [
                regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp, regs.r8,
                regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
            ],
            rsp: regs.rsp,
            rip: regs.rip,
            rflags: regs.rflags & !RESUME,
        })
    }

    /// Reads the frame of the exception that a stub reported, and keeps the
    /// interrupted program's registers.
    fn exception(&mut self, shared: &VcpuShared, vector: u8, written: Vec<u8>) -> ExitAction {
        let Some(mut registers) = self.general_registers() else {
            return ExitAction::End(End::Host(NO_REGISTERS.into()));
        };
        let stubs = tables::STUBS..tables::STUBS + PAGE_SIZE;
        if !stubs.contains(&registers.rip) {
            // The program wrote the stub's register itself.
            return Cause::BadAccess {
                address: Register::Fault(vector).address(),
                written: Some(written),
            }
            .into();
        }
        let mut frame = [[0; 8]; FRAME_LEN as usize / 8];
        let base = tables::exception_stack_top(self.index) - FRAME_LEN;
        if !shared.memory.read(base, frame.as_flattened_mut()) {
            return Cause::Unexpected("an exception without a frame".into()).into();
        }
        // Pushed last comes first: the error code or nothing, the instruction
        // pointer, the code segment, the flags, the stack pointer and segment.
        let [error_code, rip, _, rflags, rsp, _] = frame.map(u64::from_le_bytes);
        registers.rip = rip;
        registers.rflags = rflags & !RESUME;
        registers.rsp = rsp;
        let address = if vector == PAGE_FAULT {
            self.fd.get_sregs().ok().map(|sregs| sregs.cr2)
        } else {
            None
        };
        if let Some(registers) = after_system_call(&registers, vector, &shared.memory) {
            self.interrupted = Some(registers);
            return Cause::SystemCall.into();
        }
        self.interrupted = Some(registers);
        Cause::Exception {
            vector,
            error_code: tables::has_error_code(vector).then_some(error_code),
            address,
        }
        .into()
    }
}

/// The registers after the system call that the exception was, if it was one: an
/// invalid opcode, since vCPUs have none, or, on a KVM that has them nevertheless, a
/// jump to where nothing can be executed. Either way rcx and r11 have what a system
/// call leaves there.
fn after_system_call(registers: &Registers, vector: u8, memory: &GuestMemory) -> Option<Registers> {
    let mut after = *registers;
    match vector {
        INVALID_OPCODE => {
            // Text is mapped where it is in memory.
            let at = |offset| registers.rip.checked_add(offset);
            after.rip = at(system_call_len(|offset| {
                let mut byte = [0];
                memory.read(at(offset)?, &mut byte).then_some(byte[0])
            })?)?;
            after.set_rcx(after.rip);
            after.set_r11(after.rflags | INTERRUPTS);
        }
        PAGE_FAULT if registers.rip == tables::SYSCALL_LANDING => {
            after.rip = registers.rcx();
            after.rflags = registers.r11() & !INTERRUPTS;
        }
        _ => return None,
    }
    Some(after)
}

/// Length of the system call that these bytes are, prefixes included, if they are one.
fn system_call_len(code: impl Fn(u64) -> Option<u8>) -> Option<u64> {
    /// Most bytes of an instruction.
    const MOST: u64 = 15;
    let mut at = 0;
    while matches!(
        code(at)?,
        0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf2 | 0xf3 | 0x40..=0x4f
    ) {
        at += 1;
    }
    let len = at + 2;
    (len <= MOST && code(at)? == 0x0f && code(at + 1)? == 0x05).then_some(len)
}

/// The flags that are a program's to set: those of arithmetic, the direction of strings,
/// and the trap flag.
const PROGRAM_FLAGS: u64 = 0xdd5;

/// Bytes of what an exception pushes, with an error code or in place of one.
const FRAME_LEN: u64 = 6 * 8;

const NO_REGISTERS: &str = "KVM could not read the crashed vCPU's registers";

impl Vcpu for KvmVcpu {
    fn index(&self) -> usize {
        self.index
    }

    fn step(&mut self, shared: &VcpuShared) -> ExitAction {
        let index = self.index;
        let exit = self.fd.run();
        shared.run_state.counters.vcpu_exits.add(1);
        match exit {
            Ok(VcpuExit::MmioWrite(address, bytes)) => {
                match Register::from_access(address, bytes.len()) {
                    Some(Register::Fault(vector)) => {
                        let written = bytes.to_vec();
                        self.exception(shared, vector, written)
                    }
                    _ => shared.write(index, address, bytes),
                }
            }
            Ok(VcpuExit::MmioRead(address, bytes)) => shared.read(address, bytes),
            Ok(VcpuExit::Intr) => ExitAction::Continue,
            Ok(VcpuExit::Shutdown) => Cause::Shutdown.into(),
            Ok(VcpuExit::InternalError) => Cause::Emulation.into(),
            Ok(VcpuExit::FailEntry(reason, _)) => Cause::EntryRefused(reason).into(),
            Ok(other) => Cause::Unexpected(format!("{other:?}")).into(),
            // A signal, which may mean that it is time to stop.
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                ExitAction::Continue
            }
            Err(error) => ExitAction::End(End::Host(format!(
                "KVM could not run vCPU {index}: {error}"
            ))),
        }
    }

    fn registers(&self) -> Result<Registers, &'static str> {
        self.interrupted
            .or_else(|| self.general_registers())
            .ok_or(NO_REGISTERS)
    }

    fn set_registers(
        &mut self,
        registers: &Registers,
        memory: &GuestMemory,
    ) -> Result<(), &'static str> {
        const FAILED: &str = "KVM could not set a vCPU's registers";
        let mut regs = self.fd.get_regs().map_err(|_| FAILED)?;
        let [
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rbp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
        ] = registers.general;
        let merge = |rflags: u64| rflags & !PROGRAM_FLAGS | registers.rflags & PROGRAM_FLAGS;
        let (rip, rsp, rflags) = match self.interrupted.take() {
            // The stub has its own, and brings back those of the frame.
            Some(_) => {
                const FRAME: &str = "an exception has no frame";
                let frame = tables::exception_stack_top(self.index) - FRAME_LEN;
                let mut rflags = [0; 8];
                if !memory.read(frame + 8 * 3, &mut rflags) {
                    return Err(FRAME);
                }
                let rflags = merge(u64::from_le_bytes(rflags));
                for (word, value) in [(1, registers.rip), (3, rflags), (4, registers.rsp)] {
                    let written = memory.write(frame + 8 * word, &value.to_le_bytes());
                    written.map_err(|_| FRAME)?;
                }
                (regs.rip, regs.rsp, regs.rflags)
            }
            None => (registers.rip, registers.rsp, merge(regs.rflags)),
        };
        regs = kvm_regs {
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rsp,
            rbp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            rip,
            rflags,
        };
        self.fd.set_regs(&regs).map_err(|_| FAILED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_call_is_known_by_its_bytes_whatever_comes_before() {
        let len = |code: &[u8]| system_call_len(|at| code.get(at as usize).copied());
        assert_eq!(len(&[0x0f, 0x05, 0x90]), Some(2));
        assert_eq!(len(&[0x48, 0x0f, 0x05]), Some(3));
        assert_eq!(len(&[0xf3, 0x66, 0x64, 0x4f, 0x0f, 0x05]), Some(6));
        let longest = |prefixes| [vec![0x66; prefixes], vec![0x0f, 0x05]].concat();
        assert_eq!(len(&longest(13)), Some(15));
        for other in [
            &[][..],
            &[0x0f],
            &[0x48],
            &[0x0f, 0x0b],
            &[0x05, 0x0f, 0x05],
            &[0xf0, 0x0f, 0x05],
            &longest(14),
            &[0x66; 64],
        ] {
            assert_eq!(len(other), None, "{other:x?}");
        }
    }

    #[test]
    fn an_invalid_opcode_that_is_a_system_call_has_been_made() {
        let memory = GuestMemory::new(16 << 20, 1 << 20).expect("memory");
        memory
            .write(0x20_0000, &[0x48, 0x0f, 0x05])
            .expect("inside");
        let before = Registers {
            rip: 0x20_0000,
            rflags: 0x46,
            ..Registers::default()
        };
        let after = after_system_call(&before, INVALID_OPCODE, &memory).expect("one");
        assert_eq!((after.rip, after.rcx()), (0x20_0003, 0x20_0003));
        assert_eq!(after.r11(), 0x46 | INTERRUPTS);
        let elsewhere = |rip| {
            let before = Registers { rip, ..before };
            after_system_call(&before, INVALID_OPCODE, &memory)
        };
        assert_eq!(elsewhere(0x20_0100), None);
        assert_eq!(elsewhere(u64::MAX), None);
    }
}
