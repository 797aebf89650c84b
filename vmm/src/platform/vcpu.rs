//! A vCPU, whatever carries it: its loop, and what the devices of the MMIO page do
//! when it leaves the guest.

use crate::crash::{Cause, CrashState, Registers};
use crate::debug::Debugger;
use crate::memory::GuestMemory;
use crate::platform::clock::GuestClock;
use crate::platform::inspect::{Activity, Inspection};
use crate::platform::park::Parkers;
use crate::platform::placement::Placement;
use crate::platform::uart::Uart;
use crate::vm::outcome::{Outcome, RunState};
use arca_shared::protocol::register::{NO_DEADLINE, Register, YIELD};
use std::sync::Arc;
use std::time::Duration;

/// Where a vCPU starts, and with what.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The first instruction.
    pub entry: u64,
    /// Address after the last byte of the vCPU's stack.
    pub stack_top: u64,
    /// First argument of the entry: the boot information's address.
    pub boot_info: u64,
}

/// A vCPU of some platform.
pub trait Vcpu: Send {
    /// Which one it is.
    fn index(&self) -> usize;

    /// Enters the guest and answers one exit.
    fn step(&mut self, shared: &VcpuShared) -> ExitAction;

    /// What it does, while no exit is being answered.
    fn activity(&self) -> Activity {
        Activity::Runs
    }

    /// The guest program's registers where it left the guest.
    ///
    /// # Errors
    ///
    /// Why they cannot be read.
    fn registers(&self) -> Result<Registers, &'static str>;

    /// Has it go on with these registers when it next enters, whatever it left for. Of the
    /// flags, those that a program may change are set, and the trap flag.
    ///
    /// # Errors
    ///
    /// Why that cannot be.
    fn set_registers(
        &mut self,
        registers: &Registers,
        memory: &GuestMemory,
    ) -> Result<(), &'static str>;
}

/// What the vCPUs of a guest share.
pub struct VcpuShared {
    /// The guest's memory.
    pub memory: Arc<GuestMemory>,
    /// Where vCPUs sleep.
    pub parkers: Arc<Parkers>,
    /// Where vCPUs are asked what they do.
    pub inspections: Vec<Inspection>,
    /// The UART.
    pub uart: Uart,
    /// The guest's clock.
    pub clock: GuestClock,
    /// The outcome and the counters.
    pub run_state: Arc<RunState>,
    /// A debugger, if there is to be one.
    pub debugger: Option<Arc<Debugger>>,
}

/// What an exit asks for.
pub enum ExitAction {
    /// Back into the guest.
    Continue,
    /// Sleep first.
    Park(Option<u64>),
    /// The guest is at its end.
    End(End),
}

/// How a guest ends by what a vCPU does.
pub enum End {
    /// It wrote its exit code.
    Exit(u8),
    /// It crashed.
    Crash(Cause),
    /// The host failed it, and why.
    Host(String),
}

impl From<Cause> for ExitAction {
    fn from(cause: Cause) -> Self {
        Self::End(End::Crash(cause))
    }
}

/// Runs a vCPU until the guest ends, by its doing or another's.
pub fn run(mut vcpu: Box<dyn Vcpu>, shared: &VcpuShared) {
    let run_state = &shared.run_state;
    let debugger = shared.debugger.as_deref();
    if let Some(debugger) = debugger {
        debugger.enter(vcpu.index());
    }
    let mut placement = Placement::new();
    while !run_state.is_stopping() {
        shared.answer_inspection(&*vcpu, vcpu.activity());
        if let Some(debugger) = debugger {
            debugger.attend(&mut *vcpu, shared);
        }
        match vcpu.step(shared) {
            ExitAction::Continue => {}
            ExitAction::Park(deadline) => {
                if let Some(slept) = shared.park(&*vcpu, deadline) {
                    placement.slept(slept, &shared.parkers.cores);
                }
            }
            ExitAction::End(end) => {
                if let (Some(debugger), End::Crash(cause)) = (debugger, &end)
                    && !debugger.counts(&mut *vcpu, cause, shared)
                {
                    continue;
                }
                run_state.end(outcome(&*vcpu, end));
            }
        }
    }
    if let Some(debugger) = debugger {
        debugger.leave(vcpu.index());
    }
}

fn outcome(vcpu: &dyn Vcpu, end: End) -> Outcome {
    let cause = match end {
        End::Exit(code) => return Outcome::Exited(code),
        End::Host(reason) => return Outcome::HostFailed(reason),
        End::Crash(cause) => cause,
    };
    match vcpu.registers() {
        Ok(registers) => Outcome::Crashed(Box::new(CrashState {
            vcpu: vcpu.index(),
            cause,
            registers,
        })),
        Err(reason) => Outcome::HostFailed(reason.into()),
    }
}

impl VcpuShared {
    /// Answers whoever asks what this vCPU does.
    pub fn answer_inspection(&self, vcpu: &dyn Vcpu, activity: Activity) {
        if let Some(inspection) = self.inspections.get(vcpu.index()) {
            inspection.answer(activity, || vcpu.registers().ok());
        }
    }

    /// Has a vCPU of this process sleep; how long it did.
    fn park(&self, vcpu: &dyn Vcpu, deadline: Option<u64>) -> Option<Duration> {
        let counters = &self.run_state.counters;
        counters.parks.add(1);
        let parker = self.parkers.here(vcpu.index())?;
        let since = self.clock.now();
        let slept = parker.park(|| {
            self.answer_inspection(vcpu, Activity::Sleeps { since, deadline });
            // The one who stops the guest says so before it wakes all vCPUs.
            if self.run_state.is_stopping() {
                return None;
            }
            // A park may return for no reason.
            let debugger = self.debugger.as_ref();
            if debugger.is_some_and(|debugger| debugger.wants(vcpu.index())) {
                return None;
            }
            match deadline {
                None => Some(None),
                Some(deadline) => self.clock.until(deadline).map(Some),
            }
        });
        if slept {
            counters.sleeps.add(1);
        }
        let now = self.clock.now();
        Some(Duration::from_nanos(now.saturating_sub(since)))
    }

    /// A vCPU reads from a guest-physical address behind which there is no memory.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> ExitAction {
        match Register::from_access(address, bytes.len()) {
            Some(Register::Uart(number)) => {
                bytes[0] = self.uart.read(number);
                ExitAction::Continue
            }
            _ => Cause::BadAccess {
                address,
                written: None,
            }
            .into(),
        }
    }

    /// A vCPU writes to a guest-physical address behind which there is no memory.
    pub fn write(&self, vcpu: usize, address: u64, bytes: &[u8]) -> ExitAction {
        let value = bytes
            .iter()
            .rev()
            .fold(0, |value, &byte| value << 8 | u64::from(byte));
        match Register::from_access(address, bytes.len()) {
            // The kernel takes a write to the doorbell, and a platform one by its own
            // stub to a fault register: one that still comes this way is no access
            // that a guest should make.
            None | Some(Register::Doorbell | Register::Fault(_)) => Cause::BadAccess {
                address,
                written: Some(bytes.to_vec()),
            }
            .into(),
            Some(Register::Park) if value == YIELD => {
                std::thread::yield_now();
                ExitAction::Continue
            }
            Some(Register::Park) => ExitAction::Park((value != NO_DEADLINE).then_some(value)),
            Some(Register::Kick) => {
                let index = usize::try_from(value).unwrap_or(usize::MAX);
                if !self.parkers.wake_one(index) {
                    return Cause::NoSuchVcpu(value).into();
                }
                self.run_state.counters.kicks.add(1);
                ExitAction::Continue
            }
            Some(Register::Uart(number)) => {
                self.uart.write(vcpu, number, value as u8);
                ExitAction::Continue
            }
            Some(Register::Exit) => ExitAction::End(End::Exit(value as u8)),
            Some(Register::Panic) => Cause::Panic.into(),
        }
    }
}
