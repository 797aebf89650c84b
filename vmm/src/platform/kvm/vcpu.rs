//! One vCPU: the state it starts in, and what happens when it leaves the guest.

use crate::crash::exception::PAGE_FAULT;
use crate::crash::{Cause, CrashState, Registers};
use crate::memory::GuestMemory;
use crate::memory::tables;
use crate::platform::clock::GuestClock;
use crate::platform::park::Parkers;
use crate::platform::uart::Uart;
use crate::vm::outcome::{Outcome, RunState};
use arca_shared::protocol::layout::PAGE_SIZE;
use arca_shared::protocol::register::{NO_DEADLINE, Register};
use kvm_ioctls::{VcpuExit, VcpuFd};
use nix::libc;
use std::sync::Arc;

/// What the vCPUs of a guest share.
pub struct VcpuShared {
    /// The guest's memory.
    pub memory: Arc<GuestMemory>,
    /// Where vCPUs sleep.
    pub parkers: Arc<Parkers>,
    /// The UART.
    pub uart: Uart,
    /// The guest's clock.
    pub clock: GuestClock,
    /// The outcome and the counters.
    pub run_state: Arc<RunState>,
}

/// One vCPU.
pub struct Vcpu {
    pub(super) index: usize,
    pub(super) fd: VcpuFd,
}

/// What an exit asks for.
enum ExitAction {
    /// Back into the guest.
    Continue,
    /// Sleep first.
    Park(Option<u64>),
    /// The guest is at its end.
    End(End),
}

enum End {
    Exit(u8),
    Crash(Cause),
    /// An exception stub reported this vector.
    Fault(u8),
    Host(String),
}

impl Vcpu {
    /// What KVM knows it by.
    pub fn fd(&self) -> &VcpuFd {
        &self.fd
    }

    /// Runs it until the guest ends, by its doing or another's.
    pub fn run(mut self, shared: &VcpuShared) {
        let run_state = &shared.run_state;
        while !run_state.is_stopping() {
            match self.step(shared) {
                ExitAction::Continue => {}
                ExitAction::Park(deadline) => self.park(shared, deadline),
                ExitAction::End(end) => {
                    let outcome = self.outcome(shared, end);
                    run_state.end(outcome);
                }
            }
        }
    }

    /// Enters the guest and answers one exit.
    fn step(&mut self, shared: &VcpuShared) -> ExitAction {
        let index = self.index;
        let exit = self.fd.run();
        shared.run_state.counters.vcpu_exits.add(1);
        match exit {
            Ok(VcpuExit::MmioWrite(address, bytes)) => answer_write(shared, index, address, bytes),
            Ok(VcpuExit::MmioRead(address, bytes)) => {
                match Register::from_access(address, bytes.len()) {
                    Some(Register::Uart(number)) => {
                        bytes[0] = shared.uart.read(number);
                        ExitAction::Continue
                    }
                    _ => ExitAction::End(End::Crash(Cause::BadAccess {
                        address,
                        written: None,
                    })),
                }
            }
            Ok(VcpuExit::Intr) => ExitAction::Continue,
            Ok(VcpuExit::Shutdown) => ExitAction::End(End::Crash(Cause::Shutdown)),
            Ok(VcpuExit::InternalError) => ExitAction::End(End::Crash(Cause::Emulation)),
            Ok(VcpuExit::FailEntry(reason, _)) => {
                ExitAction::End(End::Crash(Cause::EntryRefused(reason)))
            }
            Ok(other) => ExitAction::End(End::Crash(Cause::Unexpected(format!("{other:?}")))),
            // A signal, which may mean that it is time to stop.
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                ExitAction::Continue
            }
            Err(error) => ExitAction::End(End::Host(format!(
                "KVM could not run vCPU {index}: {error}"
            ))),
        }
    }

    fn park(&self, shared: &VcpuShared, deadline: Option<u64>) {
        let counters = &shared.run_state.counters;
        counters.parks.add(1);
        let Some(parker) = shared.parkers.get(self.index) else {
            return;
        };
        let slept = parker.park(|| {
            // The one who stops the guest says so before it wakes all vCPUs.
            if shared.run_state.is_stopping() {
                return None;
            }
            match deadline {
                None => Some(None),
                Some(deadline) => shared.clock.until(deadline).map(Some),
            }
        });
        if slept {
            counters.sleeps.add(1);
        }
    }

    fn outcome(&self, shared: &VcpuShared, end: End) -> Outcome {
        let cause = match end {
            End::Exit(code) => return Outcome::Exited(code),
            End::Host(reason) => return Outcome::HostFailed(reason),
            End::Crash(cause) => Ok(cause),
            End::Fault(vector) => Err(vector),
        };
        let Ok(regs) = self.fd.get_regs() else {
            return Outcome::HostFailed("KVM could not read the crashed vCPU's registers".into());
        };
        let mut registers = Registers {
            general: [
                regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp, regs.r8,
                regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
            ],
            rsp: regs.rsp,
            rip: regs.rip,
            rflags: regs.rflags,
        };
        let cause = cause.unwrap_or_else(|vector| self.exception(shared, vector, &mut registers));
        Outcome::Crashed(Box::new(CrashState {
            vcpu: self.index,
            cause,
            registers,
        }))
    }

    /// Reads the frame of the exception that a stub reported, and puts the
    /// interrupted program's registers in place of the stub's.
    fn exception(&self, shared: &VcpuShared, vector: u8, registers: &mut Registers) -> Cause {
        let stubs = tables::STUBS..tables::STUBS + PAGE_SIZE;
        if !stubs.contains(&registers.rip) {
            // The program wrote the stub's register itself.
            return Cause::BadAccess {
                address: Register::Fault(vector).address(),
                written: Some(Vec::new()),
            };
        }
        let mut frame = [[0; 8]; 6];
        let base = tables::exception_stack_top(self.index) - size_of_val(&frame) as u64;
        if !shared.memory.read(base, frame.as_flattened_mut()) {
            return Cause::Unexpected("an exception without a frame".into());
        }
        // Pushed last comes first: the error code or nothing, the instruction
        // pointer, the code segment, the flags, the stack pointer and segment.
        let [error_code, rip, _, rflags, rsp, _] = frame.map(u64::from_le_bytes);
        registers.rip = rip;
        registers.rflags = rflags;
        registers.rsp = rsp;
        let address = if vector == PAGE_FAULT {
            self.fd.get_sregs().ok().map(|sregs| sregs.cr2)
        } else {
            None
        };
        Cause::Exception {
            vector,
            error_code: tables::has_error_code(vector).then_some(error_code),
            address,
        }
    }
}

fn answer_write(shared: &VcpuShared, vcpu: usize, address: u64, bytes: &[u8]) -> ExitAction {
    let bad_access = || {
        ExitAction::End(End::Crash(Cause::BadAccess {
            address,
            written: Some(bytes.to_vec()),
        }))
    };
    let Some(register) = Register::from_access(address, bytes.len()) else {
        return bad_access();
    };
    let value = bytes
        .iter()
        .rev()
        .fold(0, |value, &byte| value << 8 | u64::from(byte));
    match register {
        // The kernel takes a write to it; one that still comes this way is no access
        // that a guest should make.
        Register::Doorbell => bad_access(),
        Register::Park => ExitAction::Park((value != NO_DEADLINE).then_some(value)),
        Register::Kick => {
            let parker = usize::try_from(value)
                .ok()
                .and_then(|index| shared.parkers.get(index));
            let Some(parker) = parker else {
                return ExitAction::End(End::Crash(Cause::NoSuchVcpu(value)));
            };
            shared.run_state.counters.kicks.add(1);
            shared.run_state.counters.wakes.add(1);
            parker.wake();
            ExitAction::Continue
        }
        Register::Uart(number) => {
            shared.uart.write(vcpu, number, value as u8);
            ExitAction::Continue
        }
        Register::Exit => ExitAction::End(End::Exit(value as u8)),
        Register::Panic => ExitAction::End(End::Crash(Cause::Panic)),
        Register::Fault(vector) => ExitAction::End(End::Fault(vector)),
    }
}
