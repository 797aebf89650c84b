//! One vCPU, a thread of the child: what its exits are.

use super::area::SharedArea;
use super::child::describe;
use crate::crash::exception::{GENERAL_PROTECTION, PAGE_FAULT};
use crate::crash::{Cause, INTERRUPTS, RESUME, Registers};
use crate::memory::GuestMemory;
use crate::memory::map::AddressMap;
use crate::memory::tables;
use crate::platform::inspect::Activity;
use crate::platform::park::{futex_wait_shared, futex_wake_shared};
use crate::platform::vcpu::{End, ExitAction, Vcpu, VcpuShared};
use arca_shared::protocol::register::NO_DEADLINE;
use arca_stub::area::{ExitKind, FLAGS, RIP, RSP, Slot, Turn};
use arca_stub::filter::ARCH_I386;
use nix::libc;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

/// Bit of a page fault's error code: the page was mapped, but not for this.
const PROTECTION: u64 = 1;
/// Length of an `int n`.
const INT_LEN: u64 = 2;
/// Error code of an `int 0x80` that ring 3 may not use: the IDT's entry 128.
const INT_80: u64 = 0x80 << 3 | 2;

/// One vCPU.
pub struct ProcessVcpu {
    index: usize,
    area: Arc<SharedArea>,
    map: Arc<AddressMap>,
    /// How the process ended, once it has.
    ended: Arc<OnceLock<ExitStatus>>,
    /// What the registers of an `int 0x80` are put back by.
    rewind: u64,
}

impl ProcessVcpu {
    pub fn new(
        index: usize,
        area: Arc<SharedArea>,
        map: Arc<AddressMap>,
        ended: Arc<OnceLock<ExitStatus>>,
    ) -> Self {
        Self {
            index,
            area,
            map,
            ended,
            rewind: 0,
        }
    }

    fn slot(&self) -> &Slot {
        // A machine has no more vCPUs than an area has slots.
        &self.area.slots[self.index]
    }

    /// Answers what the guest left for. The guest can have written anything there.
    fn answer(&mut self, shared: &VcpuShared) -> ExitAction {
        let slot = self.slot();
        let (address, value) = (slot.address.get(), slot.value.get());
        let width = usize::try_from(slot.width.get()).unwrap_or(usize::MAX);
        match ExitKind::from_number(slot.kind.get()) {
            Some(ExitKind::Store) => match value.to_le_bytes().get(..width) {
                Some(bytes) => match shared.write(self.index, address, bytes) {
                    // The stub serves that itself.
                    ExitAction::Park(_) => forged(),
                    action => action,
                },
                None => forged(),
            },
            Some(ExitKind::Load) => {
                let mut bytes = [0; 8];
                let Some(read) = bytes.get_mut(..width) else {
                    return forged();
                };
                let action = shared.read(address, read);
                slot.value.set(u64::from_le_bytes(bytes));
                action
            }
            Some(ExitKind::Undecoded) => Cause::Emulation.into(),
            Some(ExitKind::Exception) => self.exception(),
            Some(ExitKind::SystemCall) if address == u64::from(ARCH_I386) => {
                // Linux has a way in there; a machine has none.
                self.rewind = INT_LEN;
                Cause::Exception {
                    vector: GENERAL_PROTECTION,
                    error_code: Some(INT_80),
                    address: None,
                }
                .into()
            }
            Some(ExitKind::SystemCall) => Cause::SystemCall.into(),
            None => forged(),
        }
    }

    fn exception(&self) -> ExitAction {
        let slot = self.slot();
        let Ok(vector) = u8::try_from(slot.vector.get()) else {
            return forged();
        };
        let address = (vector == PAGE_FAULT).then(|| slot.address.get());
        let mut error_code = slot.error_code.get();
        if let Some(address) = address {
            // Pages of the VMM's, which the guest's map has and this process has not,
            // are there for ring 0 in a machine; of the kernel's own addresses Linux
            // says so, and a machine has none.
            let present = self
                .map
                .find(address)
                .is_some_and(|region| region.kind.protection().is_some());
            error_code = error_code & !PROTECTION | if present { PROTECTION } else { 0 };
        }
        Cause::Exception {
            vector,
            error_code: tables::has_error_code(vector).then_some(error_code),
            address,
        }
        .into()
    }

    /// The process has ended by itself, or somebody has ended it.
    fn gone(&self) -> ExitAction {
        let Some(&status) = self.ended.get() else {
            return forged();
        };
        let how = describe(status);
        match status.signal() {
            // No guest can do that, not even to itself.
            Some(libc::SIGKILL) => ExitAction::End(End::Host(format!(
                "the guest's process was {how}: by a user, or by the kernel for want of memory"
            ))),
            _ => Cause::Unexpected(format!("its process was made to end ({how})")).into(),
        }
    }
}

/// No vCPU leaves like that: the guest wrote over the stub's memory.
fn forged() -> ExitAction {
    Cause::Unexpected("one that the VMM does not know".into()).into()
}

impl Vcpu for ProcessVcpu {
    fn index(&self) -> usize {
        self.index
    }

    fn step(&mut self, shared: &VcpuShared) -> ExitAction {
        let turn = &self.slot().turn;
        // Acquire: see `Slot::turn`.
        let whose = turn.load(Ordering::Acquire);
        if whose == Turn::Nobody as u32 {
            return self.gone();
        }
        if whose != Turn::Vmm as u32 {
            // A signal ends the sleep, which may mean that it is time to stop.
            futex_wait_shared(turn, whose, None);
            return ExitAction::Continue;
        }
        shared.run_state.counters.vcpu_exits.add(1);
        let action = self.answer(shared);
        if let ExitAction::Continue = action {
            let turn = &self.slot().turn;
            // Release: see `Slot::turn`. If the process has ended meanwhile, that is
            // to stay said: only the VMM's turn is given away.
            let _ = turn.compare_exchange(
                Turn::Vmm as u32,
                Turn::Guest as u32,
                Ordering::Release,
                Ordering::Relaxed,
            );
            futex_wake_shared(turn);
        }
        action
    }

    fn activity(&self) -> Activity {
        let slot = self.slot();
        if slot.asleep.get() == 0 {
            return Activity::Runs;
        }
        Activity::Sleeps {
            since: slot.since.get(),
            deadline: Some(slot.deadline.get()).filter(|&deadline| deadline != NO_DEADLINE),
        }
    }

    fn registers(&self) -> Result<Registers, &'static str> {
        let words = &self.slot().registers;
        // In the order of a report, by the processor's numbers.
        let order = [0, 3, 1, 2, 6, 7, 5, 8, 9, 10, 11, 12, 13, 14, 15];
        Ok(Registers {
            general: order.map(|number| words[number].get()),
            rsp: words[RSP].get(),
            rip: words[RIP].get().wrapping_sub(self.rewind),
            rflags: words[FLAGS].get() & !(INTERRUPTS | RESUME),
        })
    }

    fn set_registers(
        &mut self,
        _registers: &Registers,
        _memory: &GuestMemory,
    ) -> Result<(), &'static str> {
        Err("a process keeps its registers to itself")
    }
}
