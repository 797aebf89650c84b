//! What happens when the guest leaves: the handler of the signals that exceptions
//! and caught system calls are.
//!
//! It runs on the vCPU's signal stack with the guest's registers in the frame that
//! the kernel made; changing them there changes what the guest goes on with.

use crate::alu::{STATUS, compute, mask};
use crate::area::{Area, ExitKind, FLAGS, REGISTERS, RIP, Slot, Turn};
use crate::decode::{self, Access, Effect, MAX_LEN, Operand, Operation};
use crate::filter::ARCH_X86_64;
use crate::layout::{DOORBELL_FD, SAMPLE_SIGNAL};
use crate::setup::{area, current_vcpu, text};
use crate::sys::{self, Timespec};
use core::arch::global_asm;
use core::arch::x86_64::_rdtsc;
use core::sync::atomic::Ordering;

const SIGILL: u64 = 4;
const SIGTRAP: u64 = 5;
const SIGBUS: u64 = 7;
const SIGFPE: u64 = 8;
const SIGSEGV: u64 = 11;
const SIGSYS: u64 = 31;

/// The signals that it handles.
pub const SIGNALS: [u64; 7] = [
    SIGILL,
    SIGTRAP,
    SIGBUS,
    SIGFPE,
    SIGSEGV,
    SIGSYS,
    SAMPLE_SIGNAL as u64,
];

/// The exception of a page that may not be used so.
const PAGE_FAULT: u64 = 14;
/// The exception of broken memory.
const MACHINE_CHECK: u64 = 18;
/// Bit of a page fault's error code: in ring 3.
const FROM_USER: u64 = 1 << 2;
/// Bit of a page fault's error code: an instruction was fetched.
const FETCH: u64 = 1 << 4;

/// Where `struct ucontext` has each register, by the processor's number, then the
/// instruction pointer and the flags.
const IN_FRAME: [usize; REGISTERS] = [13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17];
/// Where it has the exception's error code, its number, and the address.
const ERROR_CODE: usize = 19;
const VECTOR: usize = 20;
const FAULT_ADDRESS: usize = 22;

/// The start of what the kernel calls `struct ucontext`.
#[repr(C)]
pub struct Context {
    before: [u64; 5],
    words: [u64; 23],
}

/// The start of what the kernel calls `siginfo_t`, for a SIGSYS.
#[repr(C)]
pub struct SignalInfo {
    signal: i32,
    errno: i32,
    code: i32,
    call_address: u64,
    call: i32,
    arch: u32,
}

/// A SIGSEGV of a page that is not mapped, or not for this.
const FAULT_CODES: [i32; 2] = [1, 2];
/// A SIGBUS of memory that is broken.
const MEMORY_CODES: [i32; 2] = [4, 5];
/// The number of the page that the kernel keeps for very old programs.
const VSYSCALL_PAGE: u64 = 0xffff_ffff_ff60_0000 >> 12;
/// The signal is the kernel's own, of no more telling kind.
const SI_KERNEL: i32 = 0x80;

unsafe extern "C" {
    /// The handler: [`handle`], without the guest's check of alignment.
    pub fn enter();
}

global_asm!(
    ".globl enter",
    "enter:",
    "pushfq",
    "and dword ptr [rsp], {alignment}",
    "popfq",
    "jmp {handle}",
    alignment = const !(1 << 18),
    handle = sym handle,
);

/// What it does.
extern "C" fn handle(signal: i32, info: *const SignalInfo, context: *mut Context) {
    // SAFETY: the kernel made both for this call, on this thread's signal stack.
    let (info, context) = unsafe { (&*info, &mut *context) };
    let slot = &area().slots[current_vcpu()];
    if signal == SAMPLE_SIGNAL {
        // In the stub the guest's registers are those that it came with.
        if !text().contains(&context.words[IN_FRAME[RIP]]) {
            save(slot, context);
        }
        slot.samples.count();
        return;
    }
    if info.code <= 0 {
        // Somebody sent it. It is no exception.
        return;
    }
    save(slot, context);
    // A few system calls, of the kernel's own tools, are refused without asking the
    // filter.
    let refused = signal as u64 == SIGILL && info.code == SI_KERNEL;
    if signal as u64 == SIGSYS || refused {
        let arch = if refused { ARCH_X86_64 } else { info.arch };
        slot.address.set(arch.into());
        leave(slot, ExitKind::SystemCall);
        return;
    }
    let address = context.words[FAULT_ADDRESS];
    let page = area().registers.page.get();
    // Only a fault's own signal says that the numbers in the frame are this one's.
    let fault = signal as u64 == SIGSEGV && FAULT_CODES.contains(&info.code);
    if !fault || context.words[VECTOR] != PAGE_FAULT || address.wrapping_sub(page) >= 4096 {
        exception(slot, context, signal as u64, info.code);
        leave(slot, ExitKind::Exception);
        return;
    }
    slot.address.set(address);
    let fetched = context.words[ERROR_CODE] & FETCH != 0;
    match decode_at(context.words[IN_FRAME[RIP]]).filter(|_| !fetched) {
        Some(access) => serve(slot, context, address, access),
        None => leave(slot, ExitKind::Undecoded),
    }
}

/// Says which exception a signal is.
fn exception(slot: &Slot, context: &Context, signal: u64, code: i32) {
    let rip = context.words[IN_FRAME[RIP]];
    let (vector, error_code, address) = if signal == SIGBUS && MEMORY_CODES.contains(&code) {
        (MACHINE_CHECK, 0, 0)
    } else if signal == SIGSEGV && code == SI_KERNEL && rip >> 12 == VSYSCALL_PAGE {
        // The kernel raises it without saying which exception it stands for.
        (PAGE_FAULT, FETCH | FROM_USER, rip)
    } else {
        let address = context.words[FAULT_ADDRESS];
        (context.words[VECTOR], context.words[ERROR_CODE], address)
    };
    slot.vector.set(vector);
    slot.error_code.set(error_code);
    slot.address.set(address);
}

/// Leaves the guest's registers for the VMM.
fn save(slot: &Slot, context: &Context) {
    for (word, at) in slot.registers.iter().zip(IN_FRAME) {
        word.set(context.words[at]);
    }
}

/// The instruction at an address of the guest's text.
fn decode_at(address: u64) -> Option<Access> {
    const EXECUTE: u64 = 4;
    let area: &Area = area();
    let text = area.ranges.iter().find(|range| {
        (range.start.get()..range.end.get()).contains(&address)
            && range.protection.get() & EXECUTE != 0
    })?;
    let mut code = [0; MAX_LEN];
    let len = (text.end.get() - address).min(MAX_LEN as u64) as usize;
    for (offset, byte) in code[..len].iter_mut().enumerate() {
        let from = core::ptr::with_exposed_provenance::<u8>(address as usize + offset);
        // SAFETY: the range is mapped, unless the guest has changed what the area
        // says: then this faults, and the process ends, which harms nobody else.
        *byte = unsafe { from.read_volatile() };
    }
    decode::decode(&code[..len])
}

/// Does what a register of the MMIO page is for, or has the VMM do it.
fn serve(slot: &Slot, context: &mut Context, address: u64, access: Access) {
    slot.width.set(access.width as u64);
    match access.effect {
        Effect::Store(operand) => {
            let value = read(context, operand) & mask(access.width);
            // As after the store, for whoever looks at it meanwhile.
            advance(context, access);
            slot.registers[RIP].set(context.words[IN_FRAME[RIP]]);
            if access.width != 8 || !serve_here(slot, address, value) {
                slot.value.set(value);
                leave(slot, ExitKind::Store);
            }
        }
        Effect::Load { to, extend, signed } => {
            let mut value = load(slot, access.width);
            let sign = 64 - 8 * access.width as u32;
            if signed {
                value = ((value << sign) as i64 >> sign) as u64;
            }
            write(context, to, extend, value);
            advance(context, access);
        }
        Effect::Compute {
            operation,
            with,
            memory_first,
        } => {
            let (memory, other) = (load(slot, access.width), read(context, with));
            let (first, second) = if memory_first {
                (memory, other)
            } else {
                (other, memory)
            };
            let (result, flags) = compute(operation, first, second, access.width);
            let word = &mut context.words[IN_FRAME[FLAGS]];
            *word = *word & !STATUS | flags;
            if !memory_first && operation != Operation::Compare {
                let extend = if access.width == 4 { 8 } else { access.width };
                write(context, with, extend, result);
            }
            advance(context, access);
        }
    }
}

/// Has the VMM read the register.
fn load(slot: &Slot, width: usize) -> u64 {
    leave(slot, ExitKind::Load);
    slot.value.get() & mask(width)
}

/// Goes on behind the instruction.
fn advance(context: &mut Context, access: Access) {
    let rip = &mut context.words[IN_FRAME[RIP]];
    *rip = rip.wrapping_add(access.len as u64);
}

/// Serves the registers that vCPUs write while all is well; `false` if it is none.
fn serve_here(slot: &Slot, address: u64, value: u64) -> bool {
    let area: &Area = area();
    let registers = &area.registers;
    if address == registers.doorbell.get() {
        sys::signal(DOORBELL_FD);
    } else if address == registers.park.get() {
        match value {
            // A deadline that is past: it does not sleep, and lets others run.
            0 => sys::yield_core(),
            deadline => park(slot, deadline),
        }
    } else if address == registers.kick.get() && value < area.vcpus.get() {
        let Some(other) = area.slots.get(value as usize) else {
            return false;
        };
        slot.kicks.count();
        other.parker.wake(sys::futex_wake);
    } else {
        return false;
    }
    true
}

fn park(slot: &Slot, deadline: u64) {
    slot.parks.count();
    slot.since.set(now());
    slot.deadline.set(deadline);
    slot.asleep.set(1);
    let slept = slot.parker.park(|word, asleep| {
        let timeout = match deadline {
            u64::MAX => None,
            deadline => match left(deadline) {
                None => return false,
                timeout => timeout,
            },
        };
        sys::futex_wait(word, asleep, timeout);
        true
    });
    slot.asleep.set(0);
    if slept {
        slot.sleeps.count();
    }
}

/// How long it is until a deadline, in nanoseconds since boot; `None` once it has
/// passed.
fn left(deadline: u64) -> Option<Timespec> {
    const SECOND: u64 = 1_000_000_000;
    let left = deadline.checked_sub(now()).filter(|&left| left > 0)?;
    Some(Timespec {
        seconds: (left / SECOND) as i64,
        nanoseconds: (left % SECOND) as i64,
    })
}

/// Nanoseconds since boot.
fn now() -> u64 {
    let area: &Area = area();
    // SAFETY: every x86-64 processor has the instruction, and it touches nothing.
    let ticks = unsafe { _rdtsc() }.wrapping_sub(area.tsc_boot.get());
    // A counter that is behind that of boot, on another processor, is at time 0.
    let ticks = if ticks > u64::MAX / 2 { 0 } else { ticks };
    let now = u128::from(ticks) * 1_000_000 / u128::from(area.tsc_khz.get().max(1));
    now as u64
}

/// Hands over to the VMM, and waits until it hands back. It never does if that was
/// the guest's end.
fn leave(slot: &Slot, kind: ExitKind) {
    slot.kind.set(kind as u64);
    // Release: see `Slot::turn`.
    slot.turn.store(Turn::Vmm as u32, Ordering::Release);
    sys::futex_wake(&slot.turn);
    loop {
        // Acquire: see `Slot::turn`.
        let turn = slot.turn.load(Ordering::Acquire);
        if turn == Turn::Guest as u32 {
            return;
        }
        sys::futex_wait(&slot.turn, turn, None);
    }
}

fn read(context: &Context, operand: Operand) -> u64 {
    match operand {
        Operand::Register(number) => context.words[IN_FRAME[usize::from(number & 15)]],
        Operand::High(number) => context.words[IN_FRAME[usize::from(number & 3)]] >> 8,
        Operand::Immediate(value) => value,
    }
}

/// Writes `extend` bytes of a register.
fn write(context: &mut Context, operand: Operand, extend: usize, value: u64) {
    let (number, shift) = match operand {
        Operand::Register(number) => (number & 15, 0),
        Operand::High(number) => (number & 3, 8),
        Operand::Immediate(_) => return,
    };
    let word = &mut context.words[IN_FRAME[usize::from(number)]];
    let changed = mask(extend) << shift;
    *word = *word & !changed | value << shift & changed;
}
