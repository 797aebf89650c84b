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
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    let mut after = *registers;
    match vector {
        INVALID_OPCODE => {
            let mut code = [0; 2];
            // Text is mapped where it is in memory.
            if !memory.read(registers.rip, &mut code) || code != SYSCALL {
                return None;
            }
            after.rip += 2;
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
