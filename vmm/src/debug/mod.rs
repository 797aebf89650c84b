//! A debugger at the guest: gdb's remote protocol, which the gdbstub crate speaks.
//!
//! A breakpoint is an `int3` that is patched in, a step is the trap flag. Both are
//! exceptions that a platform reports as it reports crashes ([`Vcpu::step`]): while a
//! debugger is there, a vCPU's thread holds instead of ending the guest, and waits here
//! to be told how to go on. So debugging needs nothing of KVM's own. Where one vCPU
//! stops, all others are brought out of the guest and hold too.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | [`Debugger`]: vCPUs that hold, as their threads see it and as the debugger does |
//! | `target.rs` | the guest as gdbstub wants it: registers, memory, breakpoints |
//! | `server.rs` | the thread that gdb is connected to |

mod server;
mod target;

pub use server::{GdbListener, GdbServer};

use crate::crash::{Cause, Registers};
use crate::host::worker::signal_thread;
use crate::memory::tables;
use crate::platform::vcpu::{Vcpu, VcpuShared};
use arca_shared::protocol::layout::PAGE_SIZE;
use nix::libc;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Vectors that a debugger is told of as its own.
const DEBUG_EXCEPTION: u8 = 1;
const BREAKPOINT: u8 = 3;
/// The instruction that is patched in.
const INT3: u8 = 0xcc;
/// The flag that has the processor stop after one instruction.
const TRAP_FLAG: u64 = 1 << 8;
/// How often a thread that holds looks whether something else is wanted of it.
const LOOK: Duration = Duration::from_millis(20);

/// Why a vCPU stopped by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// At a breakpoint.
    Breakpoint,
    /// After a step.
    Step,
    /// It crashed, or would: it does when it goes on.
    Crash(Cause),
}

/// How a vCPU goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Go {
    /// Until something stops it.
    Continue,
    /// For one instruction.
    Step,
}

/// What is known of a vCPU.
#[derive(Default)]
struct VcpuDebug {
    thread: VcpuThread,
    /// Its registers, while it holds. The debugger may change them.
    held: Option<Registers>,
    /// Why it stopped, until the debugger was told.
    stop: Option<Stop>,
    /// How it goes on, and with which registers, as soon as its thread has noticed.
    go: Option<(Go, Registers)>,
}

/// The thread that runs a vCPU.
#[derive(Clone, Copy, Default)]
enum VcpuThread {
    /// It is about to begin.
    #[default]
    Starting,
    /// It runs it.
    Runs(libc::pid_t),
    /// It does so no longer.
    Left,
}

struct State {
    vcpus: Vec<VcpuDebug>,
    /// What was in place of each `int3`.
    breakpoints: BTreeMap<u64, u8>,
    /// The guest has ended, with this exit code.
    ended: Option<u8>,
}

/// What the vCPUs' threads and the debugger's share.
pub struct Debugger {
    state: Mutex<State>,
    changed: Condvar,
    /// For each vCPU, that it is to hold. Set (Release) before its thread is signalled,
    /// which reads it (Acquire) whenever it is out of the guest.
    hold: Vec<AtomicBool>,
    /// Readable when a vCPU has stopped by itself, or the guest has ended.
    news: EventFd,
}

impl Debugger {
    /// One for so many vCPUs, which hold from the start.
    ///
    /// # Errors
    ///
    /// If the host has no descriptor left.
    pub fn new(vcpus: usize) -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self {
            state: Mutex::new(State {
                vcpus: (0..vcpus).map(|_| VcpuDebug::default()).collect(),
                breakpoints: BTreeMap::new(),
                ended: None,
            }),
            changed: Condvar::new(),
            hold: (0..vcpus).map(|_| AtomicBool::new(true)).collect(),
            news: EventFd::from_flags(flags)?,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody panics while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, limit);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Says that the guest has ended: the debugger is told so.
    pub fn guest_ended(&self, code: u8) {
        self.lock().ended = Some(code);
        self.tell();
    }

    fn tell(&self) {
        // A counter that is full, which 2^64 of them would take, is readable.
        let _ = self.news.write(1);
    }
}

/// What a vCPU's thread calls.
impl Debugger {
    /// The thread that calls this runs that vCPU from now on.
    pub fn enter(&self, vcpu: usize) {
        // SAFETY: asks for the id of the calling thread.
        let thread = unsafe { libc::gettid() };
        if let Some(vcpu) = self.lock().vcpus.get_mut(vcpu) {
            vcpu.thread = VcpuThread::Runs(thread);
        }
    }

    /// It no longer does.
    pub fn leave(&self, vcpu: usize) {
        if let Some(vcpu) = self.lock().vcpus.get_mut(vcpu) {
            vcpu.thread = VcpuThread::Left;
        }
    }

    /// Whether that vCPU is to hold.
    pub fn wants(&self, vcpu: usize) -> bool {
        let hold = self.hold.get(vcpu);
        hold.is_some_and(|hold| hold.load(Ordering::Acquire))
    }

    /// Holds if that is wanted, until the debugger says how to go on.
    pub fn attend(&self, vcpu: &mut dyn Vcpu, shared: &VcpuShared) {
        if !self.wants(vcpu.index()) {
            return;
        }
        let stubs = tables::STUBS..tables::STUBS + PAGE_SIZE;
        match vcpu.registers() {
            // On its way to report an exception: it holds for that.
            Ok(registers) if stubs.contains(&registers.rip) => {}
            Ok(registers) => {
                if let Some(registers) = self.hold(vcpu, registers, None, shared) {
                    set_registers(vcpu, &registers, shared);
                }
            }
            Err(_) => {}
        }
    }

    /// What to do about a crash: whether it counts, after the debugger was told of it.
    /// One that was the debugger's own doing does not.
    pub fn counts(&self, vcpu: &mut dyn Vcpu, cause: &Cause, shared: &VcpuShared) -> bool {
        let Ok(mut registers) = vcpu.registers() else {
            return true;
        };
        let stop = match cause {
            Cause::Exception {
                vector: DEBUG_EXCEPTION,
                ..
            } => Stop::Step,
            Cause::Exception {
                vector: BREAKPOINT, ..
            } => {
                let at = registers.rip.wrapping_sub(1);
                if self.lock().breakpoints.contains_key(&at) {
                    registers.rip = at;
                }
                Stop::Breakpoint
            }
            other => Stop::Crash(other.clone()),
        };
        let counts = matches!(stop, Stop::Crash(_));
        let go_on = self.hold(vcpu, registers, Some(stop), shared);
        if let Some(registers) = go_on
            && !counts
        {
            set_registers(vcpu, &registers, shared);
        }
        counts
    }

    /// Holds; the registers with which to go on, unless the guest is to end.
    fn hold(
        &self,
        vcpu: &mut dyn Vcpu,
        mut registers: Registers,
        stop: Option<Stop>,
        shared: &VcpuShared,
    ) -> Option<Registers> {
        let index = vcpu.index();
        registers.rflags &= !TRAP_FLAG;
        let mut state = self.lock();
        let own = state.vcpus.get_mut(index)?;
        let tell = stop.is_some();
        (own.held, own.stop) = (Some(registers), stop);
        if tell {
            self.tell();
        }
        self.changed.notify_all();
        let (go, mut registers) = loop {
            if shared.run_state.is_stopping() {
                return None;
            }
            let own = state.vcpus.get_mut(index);
            if let Some((go, registers)) = own.and_then(|own| own.go.take()) {
                break (go, registers);
            }
            state = self.wait(state, LOOK);
            shared.answer_inspection(vcpu, vcpu.activity());
        };
        drop(state);
        if go == Go::Step {
            registers.rflags |= TRAP_FLAG;
        }
        Some(registers)
    }
}

fn set_registers(vcpu: &mut dyn Vcpu, registers: &Registers, shared: &VcpuShared) {
    if let Err(reason) = vcpu.set_registers(registers, &shared.memory) {
        let index = vcpu.index();
        log::error!("vCPU {index} goes on as it was: {reason}");
    }
}

/// What the debugger's thread calls.
impl Debugger {
    /// Brings all vCPUs out of the guest, and waits until they hold. Whether all do:
    /// one may be writing to a console that nobody reads.
    fn halt(&self) -> bool {
        const LIMIT: u32 = 2000;
        const PAUSE: Duration = Duration::from_micros(500);
        for hold in &self.hold {
            hold.store(true, Ordering::Release);
        }
        let mut state = self.lock();
        for _ in 0..LIMIT {
            let mut all = true;
            for vcpu in state.vcpus.iter().filter(|vcpu| vcpu.held.is_none()) {
                match vcpu.thread {
                    VcpuThread::Left => continue,
                    VcpuThread::Starting => {}
                    VcpuThread::Runs(thread) => signal_thread(thread),
                }
                all = false;
            }
            if all {
                return true;
            }
            state = self.wait(state, PAUSE);
        }
        false
    }

    /// Lets vCPUs go on as `go` says of each by its index.
    fn resume(&self, go: impl Fn(usize) -> Option<Go>) {
        let mut state = self.lock();
        for (index, vcpu) in state.vcpus.iter_mut().enumerate() {
            let go = go(index);
            let registers = vcpu.held.take_if(|_| go.is_some());
            if let Some(go) = go.zip(registers) {
                if let Some(hold) = self.hold.get(index) {
                    hold.store(false, Ordering::Release);
                }
                vcpu.stop = None;
                vcpu.go = Some(go);
            }
        }
        self.changed.notify_all();
    }

    /// Takes what happened: the guest's end, or the first vCPU that stopped by itself.
    fn take_news(&self) -> Option<News> {
        let _ = self.news.read();
        let mut state = self.lock();
        if let Some(code) = state.ended {
            return Some(News::Ended(code));
        }
        let mut vcpus = state.vcpus.iter_mut().enumerate();
        let stopped = vcpus.find_map(|(index, vcpu)| Some((index, vcpu.stop.take()?)));
        let more = state.vcpus.iter().any(|vcpu| vcpu.stop.is_some());
        if more {
            self.tell();
        }
        stopped.map(|(vcpu, stop)| News::Stopped { vcpu, stop })
    }
}

/// What the debugger is told.
#[derive(Debug)]
enum News {
    /// A vCPU stopped by itself.
    Stopped {
        /// Its index.
        vcpu: usize,
        /// Why.
        stop: Stop,
    },
    /// The guest has ended.
    Ended(u8),
}
