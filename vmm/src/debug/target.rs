//! The guest as gdbstub wants it: threads, which are its vCPUs, registers, memory, and
//! breakpoints.

use super::{Debugger, Go, INT3};
use crate::crash::Registers;
use crate::memory::GuestMemory;
use crate::memory::map::AddressMap;
use crate::memory::tables;
use gdbstub::arch::{self, Arch};
use gdbstub::common::{Signal, Tid};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, SwBreakpoint, SwBreakpointOps,
};
use gdbstub::target::{Target, TargetError, TargetResult};
use gdbstub_arch::x86::X86_64_SSE;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

/// Bits of the flags register that a debugger may change: those of arithmetic, and the
/// direction of strings.
const FLAGS: u64 = 0xcd5;
/// Where the general registers of a report are in gdb's order.
const GDB_ORDER: [usize; 15] = [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15];
/// Where the stack pointer is.
const GDB_RSP: usize = 7;
/// Bytes of what gdb knows of besides: x87, SSE and their control registers.
const UNAVAILABLE: usize = 8 * 10 + 8 * 4 + 16 * 16 + 4;

/// The guest.
pub struct GuestTarget<'a> {
    pub debugger: &'a Debugger,
    pub memory: &'a Arc<GuestMemory>,
    pub map: &'a AddressMap,
    /// How each vCPU is to go on that gdb named.
    pub actions: BTreeMap<usize, Go>,
    /// Those that it did not name hold.
    pub locked: bool,
}

/// x86-64. gdb is told that vector registers are not available.
pub enum GuestArch {}

impl Arch for GuestArch {
    type Usize = u64;
    type Registers = GdbRegisters;
    type BreakpointKind = usize;
    type RegId = ();

    fn target_description_xml() -> Option<&'static str> {
        X86_64_SSE::target_description_xml()
    }
}

/// A vCPU's registers in gdb's order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GdbRegisters(pub Registers);

impl arch::Registers for GdbRegisters {
    type ProgramCounter = u64;

    fn pc(&self) -> u64 {
        self.0.rip
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        let mut general = [0; 16];
        for (value, at) in self.0.general.into_iter().zip(GDB_ORDER) {
            general[at] = value;
        }
        general[GDB_RSP] = self.0.rsp;
        let words = general.into_iter().chain([self.0.rip]);
        let segments = [tables::USER_CODE]
            .into_iter()
            .chain([tables::USER_DATA; 5]);
        let flags_and_segments = [self.0.rflags as u32]
            .into_iter()
            .chain(segments.map(u32::from));
        let bytes = words
            .flat_map(u64::to_le_bytes)
            .chain(flags_and_segments.flat_map(u32::to_le_bytes));
        bytes.for_each(|byte| write_byte(Some(byte)));
        (0..UNAVAILABLE).for_each(|_| write_byte(None));
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        let mut words = bytes.chunks_exact(8).map(|word| {
            let word = word.try_into().unwrap_or_default();
            u64::from_le_bytes(word)
        });
        let mut general = [0; 16];
        for value in &mut general {
            *value = words.next().ok_or(())?;
        }
        let rip = words.next().ok_or(())?;
        let flags = words.next().ok_or(())?;
        self.0.general = GDB_ORDER.map(|at| general[at]);
        self.0.rsp = general[GDB_RSP];
        self.0.rip = rip;
        self.0.rflags = self.0.rflags & !FLAGS | flags & FLAGS;
        Ok(())
    }
}

/// The vCPU of a thread's number.
pub fn vcpu_of(tid: Tid) -> usize {
    tid.get() - 1
}

/// The number of a vCPU's thread.
pub fn tid_of(vcpu: usize) -> Tid {
    Tid::MIN.saturating_add(vcpu)
}

impl GuestTarget<'_> {
    /// Copies out memory of the guest program's, as far as it goes, with breakpoints
    /// out of sight.
    fn read(&self, address: u64, data: &mut [u8]) -> usize {
        let Some((physical, left)) = self.map.translate(address) else {
            return 0;
        };
        let len = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let data = &mut data[..len];
        if !self.memory.read(physical, data) {
            return 0;
        }
        let end = address.saturating_add(len as u64);
        for (at, byte) in self.debugger.lock().breakpoints.range(address..end) {
            if let Some(patched) = data.get_mut((at - address) as usize) {
                *patched = *byte;
            }
        }
        len
    }

    /// Copies into memory of the guest program's, whatever it may do with it itself.
    fn write(&self, address: u64, data: &[u8]) -> bool {
        let translated = self.map.translate(address);
        translated.is_some_and(|(physical, left)| {
            data.len() as u64 <= left && self.memory.write(physical, data).is_ok()
        })
    }

    /// Takes all breakpoints out.
    pub fn remove_breakpoints(&self) {
        let breakpoints = std::mem::take(&mut self.debugger.lock().breakpoints);
        for (address, byte) in breakpoints {
            self.write(address, &[byte]);
        }
    }
}

impl Target for GuestTarget<'_> {
    type Arch = GuestArch;
    type Error = Infallible;

    fn base_ops(&mut self) -> BaseOps<'_, Self::Arch, Self::Error> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadBase for GuestTarget<'_> {
    fn read_registers(&mut self, regs: &mut GdbRegisters, tid: Tid) -> TargetResult<(), Self> {
        let state = self.debugger.lock();
        let vcpu = state.vcpus.get(vcpu_of(tid));
        let held = vcpu.and_then(|vcpu| vcpu.held);
        *regs = GdbRegisters(held.ok_or(TargetError::NonFatal)?);
        Ok(())
    }

    fn write_registers(&mut self, regs: &GdbRegisters, tid: Tid) -> TargetResult<(), Self> {
        let mut state = self.debugger.lock();
        let vcpu = state.vcpus.get_mut(vcpu_of(tid));
        let held = vcpu.and_then(|vcpu| vcpu.held.as_mut());
        let held = held.ok_or(TargetError::NonFatal)?;
        let rflags = held.rflags & !FLAGS | regs.0.rflags & FLAGS;
        *held = Registers { rflags, ..regs.0 };
        Ok(())
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], _: Tid) -> TargetResult<usize, Self> {
        match self.read(start, data) {
            0 => Err(TargetError::NonFatal),
            len => Ok(len),
        }
    }

    fn write_addrs(&mut self, start: u64, data: &[u8], _: Tid) -> TargetResult<(), Self> {
        let written = self.write(start, data);
        // What lies under a breakpoint is written there.
        let end = start.saturating_add(data.len() as u64);
        let mut state = self.debugger.lock();
        let mut patched = Vec::new();
        for (at, byte) in state.breakpoints.range_mut(start..end) {
            if let Some(new) = data.get((at - start) as usize) {
                *byte = *new;
                patched.push(*at);
            }
        }
        drop(state);
        patched
            .into_iter()
            .for_each(|at| _ = self.write(at, &[INT3]));
        written.then_some(()).ok_or(TargetError::NonFatal)
    }

    fn list_active_threads(&mut self, active: &mut dyn FnMut(Tid)) -> Result<(), Infallible> {
        let count = self.debugger.lock().vcpus.len();
        (0..count).for_each(|vcpu| active(tid_of(vcpu)));
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadResume for GuestTarget<'_> {
    fn resume(&mut self) -> Result<(), Infallible> {
        let default = (!self.locked).then_some(Go::Continue);
        let actions = &self.actions;
        self.debugger
            .resume(|vcpu| actions.get(&vcpu).copied().or(default));
        Ok(())
    }

    fn clear_resume_actions(&mut self) -> Result<(), Infallible> {
        self.actions.clear();
        self.locked = false;
        Ok(())
    }

    fn set_resume_action_continue(
        &mut self,
        tid: Tid,
        _signal: Option<Signal>,
    ) -> Result<(), Infallible> {
        self.actions.insert(vcpu_of(tid), Go::Continue);
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSingleStep for GuestTarget<'_> {
    fn set_resume_action_step(
        &mut self,
        tid: Tid,
        _signal: Option<Signal>,
    ) -> Result<(), Infallible> {
        self.actions.insert(vcpu_of(tid), Go::Step);
        Ok(())
    }
}

impl MultiThreadSchedulerLocking for GuestTarget<'_> {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), Infallible> {
        self.locked = true;
        Ok(())
    }
}

impl Breakpoints for GuestTarget<'_> {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for GuestTarget<'_> {
    fn add_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        let mut byte = [0];
        if !self.map.is_text(address) || self.read(address, &mut byte) != 1 {
            return Ok(false);
        }
        let mut state = self.debugger.lock();
        state.breakpoints.entry(address).or_insert(byte[0]);
        drop(state);
        Ok(self.write(address, &[INT3]))
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        let removed = self.debugger.lock().breakpoints.remove(&address);
        Ok(removed.is_some_and(|byte| self.write(address, &[byte])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gdbstub::arch::Registers as _;

    #[test]
    fn registers_are_in_gdbs_order() {
        let mut registers = Registers::default();
        for (value, register) in (100..).zip(&mut registers.general) {
            *register = value;
        }
        (registers.rsp, registers.rip, registers.rflags) = (200, 201, 0x202);
        let mut bytes = Vec::new();
        GdbRegisters(registers).gdb_serialize(|byte| bytes.push(byte));
        // As gdbstub_arch has them.
        let mut reference = 0;
        gdbstub_arch::x86::reg::X86_64CoreRegs::default().gdb_serialize(|_| reference += 1);
        assert_eq!(bytes.len(), reference);
        let known: Vec<u8> = bytes.iter().map_while(|byte| *byte).collect();
        assert_eq!(known.len(), 16 * 8 + 8 + 7 * 4);
        // rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8.
        let word = |at: usize| known[8 * at];
        let found = [word(0), word(1), word(6), word(7), word(8), word(16)];
        assert_eq!(found, [100, 101, 106, 200, 107, 201]);
        let mut back = GdbRegisters::default();
        let mut all = known.clone();
        all.resize(reference, 0);
        back.gdb_deserialize(&all).expect("long enough");
        registers.rflags &= FLAGS;
        assert_eq!(back.0, registers);
        assert!(back.gdb_deserialize(&known[..100]).is_err());
    }
}
