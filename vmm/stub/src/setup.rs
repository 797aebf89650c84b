//! From the first instruction of the process to the guest's.

use crate::area::{AREA_SIZE, Area, RANGES, SetupStep, Stage, VCPUS};
use crate::filter::{self, Instruction};
use crate::layout::{AREA_BASE, DOORBELL_FD, GUEST, MEMORY_FD, STUB_BASE, TETHER_FD, USER_END};
use crate::sys::{self, Errno, plain, syscall};
use crate::trap;
use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

/// Size of the stack on which each thread starts, and of the one on which it handles
/// signals: the processor's state takes up to 12 KiB of that.
pub const STACK_SIZE: usize = 64 << 10;

/// Stacks, one for each vCPU.
#[repr(C, align(4096))]
pub struct Stacks(UnsafeCell<[[u8; STACK_SIZE]; VCPUS]>);

// SAFETY: nothing but a stack pointer ever refers into it, each thread's to its own
// part.
unsafe impl Sync for Stacks {}

/// On which threads start.
pub static STACKS: Stacks = Stacks(UnsafeCell::new([[0; STACK_SIZE]; VCPUS]));
/// On which threads handle signals.
static SIGNAL_STACKS: Stacks = Stacks(UnsafeCell::new([[0; STACK_SIZE]; VCPUS]));

impl Stacks {
    /// Address of a vCPU's, its lowest.
    fn base(&self, vcpu: usize) -> u64 {
        (self.0.get().expose_provenance() + vcpu * STACK_SIZE) as u64
    }
}

/// The vCPU on whose signal stack this runs.
pub fn current_vcpu() -> usize {
    let here = 0u8;
    let address = core::ptr::from_ref(&here).addr() as u64;
    let index = address.wrapping_sub(SIGNAL_STACKS.base(0)) as usize / STACK_SIZE;
    index.min(VCPUS - 1)
}

/// The area, once it is mapped.
pub fn area() -> &'static Area {
    let area = core::ptr::with_exposed_provenance::<Area>(AREA_BASE as usize);
    // SAFETY: `main` mapped it there before anything else, it stays, and it consists
    // of atomics.
    unsafe { &*area }
}

// Numbers of system calls that only the set-up makes.
const READ: u32 = 0;
const MMAP: u32 = 9;
const MUNMAP: u32 = 11;
const CLOSE: u32 = 3;
const RT_SIGACTION: u32 = 13;
const RT_SIGPROCMASK: u32 = 14;
const GETPID: u32 = 39;
const CLONE: u32 = 56;
const FCNTL: u32 = 72;
const GETPPID: u32 = 110;
const GETTID: u32 = 186;
const SIGALTSTACK: u32 = 131;
const PRCTL: u32 = 157;
const SETRLIMIT: u32 = 160;
const UNSHARE: u32 = 272;
const SECCOMP: u32 = 317;
const CLOSE_RANGE: u32 = 436;
const LANDLOCK_CREATE_RULESET: u32 = 444;
const LANDLOCK_RESTRICT_SELF: u32 = 446;

/// The first thread's way.
pub extern "C" fn main() -> ! {
    const READ_WRITE: u64 = 3;
    if map(AREA_BASE, AREA_SIZE as u64, READ_WRITE, MEMORY_FD, 0).is_err() {
        // There is nowhere to say it.
        sys::exit();
    }
    let vcpus = (area().vcpus.get() as usize).clamp(1, VCPUS);
    if let Err((step, Errno(errno))) = set_up(vcpus) {
        area().failed_step.set(step as u64);
        area().failed_errno.set(errno);
        set_stage(Stage::Failed);
        sys::exit();
    }
    set_stage(Stage::Ready);
    enter_guest(0)
}

fn set_stage(stage: Stage) {
    // Release pairs with the VMM's Acquire.
    area().stage.store(stage as u32, Ordering::Release);
    sys::futex_wake(&area().stage);
}

type Failure = (SetupStep, Errno);

fn set_up(vcpus: usize) -> Result<(), Failure> {
    let step = |step| move |errno| (step, errno);
    unmap().map_err(step(SetupStep::Unmap))?;
    map_guest().map_err(step(SetupStep::Map))?;
    close_descriptors().map_err(step(SetupStep::Close))?;
    leave_namespaces();
    die_with_the_vmm().map_err(step(SetupStep::DeathSignal))?;
    limit().map_err(step(SetupStep::Limit))?;
    catch_signals().map_err(step(SetupStep::Signals))?;
    // As the VMM's own threads have it; where it may not, sleeps end later.
    const PR_SET_TIMERSLACK: u64 = 29;
    let _ = plain(PRCTL, [PR_SET_TIMERSLACK, 1, 0, 0, 0, 0]);
    const PR_SET_NO_NEW_PRIVS: u64 = 38;
    plain(PRCTL, [PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0]).map_err(step(SetupStep::NoNewPrivileges))?;
    give_up_files();
    set_signal_stack(0).map_err(step(SetupStep::Signals))?;
    start_threads(vcpus).map_err(step(SetupStep::Thread))?;
    set_filter().map_err(step(SetupStep::Filter))
}

unsafe extern "C" {
    /// First address of the program's instructions.
    #[link_name = "stub_text"]
    static TEXT: u8;
    /// The address after their last.
    #[link_name = "stub_text_end"]
    static TEXT_END: u8;
    /// The address after the program's last.
    #[link_name = "stub_end"]
    static END: u8;
}

/// Addresses of the program's instructions.
pub fn text() -> Range<u64> {
    // SAFETY: link.ld defines both.
    unsafe { address_of(&TEXT)..address_of(&TEXT_END) }
}

fn address_of(symbol: &'static u8) -> u64 {
    core::ptr::from_ref(symbol).addr() as u64
}

/// Leaves nothing mapped but the program and the area: not the stack that the process
/// started on, not the kernel's pages of code.
fn unmap() -> Result<(), Errno> {
    // SAFETY: link.ld defines it.
    let program_end = address_of(unsafe { &END });
    let area_end = AREA_BASE + AREA_SIZE as u64;
    for (from, to) in [
        (GUEST.start, STUB_BASE),
        (program_end, AREA_BASE),
        (area_end, USER_END),
    ] {
        unmap_range(from, to)?;
    }
    Ok(())
}

/// Unmaps what is there, but for pages that the kernel has sealed, as some do with
/// their own: nothing can unmap those.
fn unmap_range(from: u64, to: u64) -> Result<(), Errno> {
    const PAGE: u64 = 4096;
    const SEALED: Errno = Errno(1);
    match plain(MUNMAP, [from, to - from, 0, 0, 0, 0]) {
        Err(SEALED) if to - from > PAGE => {
            let middle = from + ((to - from) / 2).next_multiple_of(PAGE);
            unmap_range(from, middle)?;
            unmap_range(middle, to)
        }
        Err(SEALED) => Ok(()),
        result => result.map(drop),
    }
}

fn map(start: u64, len: u64, protection: u64, fd: i32, offset: u64) -> Result<(), Errno> {
    const SHARED: u64 = 1;
    const FIXED: u64 = 0x10;
    const NORESERVE: u64 = 0x4000;
    let flags = SHARED | FIXED | NORESERVE;
    // SAFETY: only the guest's addresses, which hold nothing of the stub's, and the
    // area's are mapped.
    unsafe { syscall(MMAP, [start, len, protection, flags, fd as u64, offset]) }.map(drop)
}

fn map_guest() -> Result<(), Errno> {
    const INVALID: Errno = Errno(22);
    let count = area().range_count.get() as usize;
    for range in area().ranges.get(..count).unwrap_or(&[]) {
        let (start, end) = (range.start.get(), range.end.get());
        if start >= end || start < GUEST.start || end > GUEST.end {
            return Err(INVALID);
        }
        let protection = range.protection.get();
        map(
            start,
            end - start,
            protection,
            MEMORY_FD,
            range.offset.get(),
        )?;
    }
    if count > RANGES { Err(INVALID) } else { Ok(()) }
}

/// All but the doorbell's and the tether's.
fn close_descriptors() -> Result<(), Errno> {
    const FIRST: u64 = 3;
    plain(CLOSE, [MEMORY_FD as u64, 0, 0, 0, 0, 0])?;
    if plain(CLOSE_RANGE, [FIRST, u32::MAX.into(), 0, 0, 0, 0]).is_err() {
        // A kernel older than that call. What is open here is a mistake of whoever
        // opened it without O_CLOEXEC, as few as there may be.
        for fd in FIRST..4096 {
            let _ = plain(CLOSE, [fd, 0, 0, 0, 0, 0]);
        }
    }
    Ok(())
}

/// Empty namespaces, where the kernel lets it: what a hole in the filter would reach
/// has no network and no file system of the host's.
fn leave_namespaces() {
    const USER: u64 = 0x1000_0000;
    const REST: u64 = 0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x4000_0000;
    if plain(UNSHARE, [USER | REST, 0, 0, 0, 0, 0]).is_err() {
        // Root needs no namespace of users for the others.
        let _ = plain(UNSHARE, [REST, 0, 0, 0, 0, 0]);
    }
}

/// Has the kernel kill this process when the VMM wants it or is gone. By the tether,
/// whoever the VMM's user is by then: to kill by a number or a descriptor, and to be
/// killed for the parent's death, takes rights over this process that a VMM which has
/// given up root has no more. By the parent's death too, for where another process has
/// a copy of the tether's other end.
fn die_with_the_vmm() -> Result<(), Errno> {
    const PR_SET_PDEATHSIG: u64 = 1;
    const PR_SET_DUMPABLE: u64 = 4;
    const SIGKILL: u64 = 9;
    const NO_SUCH_PROCESS: Errno = Errno(3);
    // First: it takes the setting of the parent's death back.
    plain(PRCTL, [PR_SET_DUMPABLE, 0, 0, 0, 0, 0])?;
    hold_tether(SIGKILL)?;
    plain(PRCTL, [PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, 0])?;
    // It may have died before.
    if plain(GETPPID, [0; 6])? != area().parent.get() {
        return Err(NO_SUCH_PROCESS);
    }
    Ok(())
}

/// Has the kernel send this process a signal for whatever comes by the tether.
fn hold_tether(signal: u64) -> Result<(), Errno> {
    const SET_FLAGS: u64 = 4;
    const SET_OWNER: u64 = 8;
    const SET_SIGNAL: u64 = 10;
    const NONBLOCK: u64 = 0x800;
    const ASYNC: u64 = 0x2000;
    const WOULD_BLOCK: Errno = Errno(11);
    const NO_SUCH_PROCESS: Errno = Errno(3);
    let id = plain(GETPID, [0; 6])?;
    for (what, value) in [
        (SET_OWNER, id),
        (SET_SIGNAL, signal),
        (SET_FLAGS, ASYNC | NONBLOCK),
    ] {
        plain(FCNTL, [TETHER_FD as u64, what, value, 0, 0, 0])?;
    }
    // What came before is no signal.
    let mut byte = 0u8;
    let into = core::ptr::from_mut(&mut byte).expose_provenance() as u64;
    // SAFETY: the kernel writes a byte.
    match unsafe { syscall(READ, [TETHER_FD as u64, into, 1, 0, 0, 0]) } {
        Err(WOULD_BLOCK) => Ok(()),
        Err(errno) => Err(errno),
        Ok(_) => Err(NO_SUCH_PROCESS),
    }
}

fn limit() -> Result<(), Errno> {
    const FILE_SIZE: u64 = 1;
    const CORE: u64 = 4;
    const OPEN_FILES: u64 = 7;
    const LOCKED_MEMORY: u64 = 8;
    const QUEUES: u64 = 12;
    // The rulesets of landlock are descriptors.
    const FEW: u64 = 8;
    for (resource, limit) in [
        (FILE_SIZE, 0),
        (CORE, 0),
        (OPEN_FILES, FEW),
        (LOCKED_MEMORY, 0),
        (QUEUES, 0),
    ] {
        let both = [limit, limit];
        let from = both.as_ptr().expose_provenance() as u64;
        // SAFETY: the kernel reads two numbers.
        unsafe { syscall(SETRLIMIT, [resource, from, 0, 0, 0, 0]) }?;
    }
    Ok(())
}

/// What the kernel calls `struct sigaction`.
#[repr(C)]
struct Action {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

unsafe extern "C" {
    /// Ends a signal handler.
    fn restore();
}

global_asm!(
    ".globl restore",
    "restore:",
    "mov eax, {number}",
    "syscall",
    number = const crate::filter::call::RT_SIGRETURN,
);

/// Exceptions and caught system calls go to the handler. What a terminal or a user
/// sends to a whole group of processes is the VMM's to answer, except a stop.
fn catch_signals() -> Result<(), Errno> {
    const SIGKILL: u64 = 9;
    const SIGCHLD: u64 = 17;
    // SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU.
    const JOB_CONTROL: core::ops::RangeInclusive<u64> = 18..=22;
    const SIGINFO: u64 = 4;
    const RESTORER: u64 = 0x0400_0000;
    const ONSTACK: u64 = 0x0800_0000;
    const IGNORE: u64 = 1;
    for signal in 1..=64 {
        if signal == SIGKILL || signal == SIGCHLD || JOB_CONTROL.contains(&signal) {
            continue;
        }
        let caught = trap::SIGNALS.contains(&signal);
        let action = Action {
            handler: if caught {
                (trap::enter as *const ()).expose_provenance() as u64
            } else {
                IGNORE
            },
            flags: SIGINFO | ONSTACK | RESTORER,
            restorer: (restore as *const ()).expose_provenance() as u64,
            mask: 0,
        };
        let from = core::ptr::from_ref(&action).expose_provenance() as u64;
        // SAFETY: the kernel reads the action; handler and restorer are functions of
        // the kinds that it wants.
        unsafe { syscall(RT_SIGACTION, [signal, from, 0, 8, 0, 0]) }?;
    }
    const SIG_SETMASK: u64 = 2;
    let none = 0u64;
    let from = core::ptr::from_ref(&none).expose_provenance() as u64;
    // SAFETY: the kernel reads eight bytes.
    unsafe { syscall(RT_SIGPROCMASK, [SIG_SETMASK, from, 0, 8, 0, 0]) }.map(drop)
}

/// What the kernel calls `stack_t`.
#[repr(C)]
struct SignalStack {
    base: u64,
    flags: u64,
    size: u64,
}

/// Makes this thread able to leave the guest.
fn set_signal_stack(vcpu: usize) -> Result<(), Errno> {
    let stack = SignalStack {
        base: SIGNAL_STACKS.base(vcpu),
        flags: 0,
        size: STACK_SIZE as u64,
    };
    let from = core::ptr::from_ref(&stack).expose_provenance() as u64;
    // SAFETY: the kernel reads the description; the memory is this thread's alone.
    unsafe { syscall(SIGALTSTACK, [from, 0, 0, 0, 0, 0]) }?;
    area().slots[vcpu].thread.set(plain(GETTID, [0; 6])?);
    Ok(())
}

/// No file and no TCP port, where the kernel has landlock.
fn give_up_files() {
    const VERSION: u64 = 1;
    let Ok(version) = plain(LANDLOCK_CREATE_RULESET, [0, 0, VERSION, 0, 0, 0]) else {
        return;
    };
    // Everything that each version can take away: files, ports, other processes.
    let files: u64 = match version {
        0 | 1 => (1 << 13) - 1,
        2 => (1 << 14) - 1,
        3 | 4 => (1 << 15) - 1,
        _ => (1 << 16) - 1,
    };
    let ports = if version >= 4 { 3 } else { 0 };
    let scopes = if version >= 6 { 3 } else { 0 };
    let size = match version {
        0..=3 => 8,
        4 | 5 => 16,
        _ => 24,
    };
    let rules = [files, ports, scopes];
    let from = rules.as_ptr().expose_provenance() as u64;
    // SAFETY: the kernel reads `size` bytes, no more than there are.
    if let Ok(ruleset) = unsafe { syscall(LANDLOCK_CREATE_RULESET, [from, size, 0, 0, 0, 0]) } {
        let _ = plain(LANDLOCK_RESTRICT_SELF, [ruleset, 0, 0, 0, 0, 0]);
        let _ = plain(CLOSE, [ruleset, 0, 0, 0, 0, 0]);
    }
}

unsafe extern "C" {
    /// Starts a thread on that stack, which calls [`thread`] with that vCPU.
    fn start_thread(flags: u64, stack_top: u64, vcpu: usize) -> i64;
}

global_asm!(
    ".globl start_thread",
    "start_thread:",
    "mov r8, rdx",
    "xor edx, edx",
    "xor r10d, r10d",
    "mov eax, {clone}",
    "syscall",
    "test rax, rax",
    "jz 2f",
    "ret",
    "2:",
    "xor ebp, ebp",
    "mov rdi, r8",
    "call {thread}",
    "ud2",
    clone = const CLONE,
    thread = sym thread,
);

/// Starts the threads of all vCPUs but the first, and waits until each needs no more
/// than the filter will leave.
fn start_threads(vcpus: usize) -> Result<(), Errno> {
    // Memory, file system, files, signal handlers, one process, undo lists.
    const FLAGS: u64 = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000;
    for vcpu in 1..vcpus {
        let stack_top = STACKS.base(vcpu) + STACK_SIZE as u64;
        // SAFETY: the stack is that thread's alone.
        let result = unsafe { start_thread(FLAGS, stack_top, vcpu) };
        if result < 0 {
            return Err(Errno(result.unsigned_abs()));
        }
    }
    loop {
        // Acquire: see `Area::started`.
        let started = area().started.load(Ordering::Acquire);
        if started as usize == vcpus - 1 {
            return Ok(());
        }
        sys::futex_wait(&area().started, started, None);
    }
}

extern "C" fn thread(vcpu: usize) -> ! {
    if set_signal_stack(vcpu).is_err() {
        // It cannot fail: the stack is large enough, and not in use.
        sys::exit();
    }
    // Release: see `Area::started`.
    area().started.fetch_add(1, Ordering::Release);
    sys::futex_wake(&area().started);
    enter_guest(vcpu)
}

/// The filter, for all threads at once: none runs guest code before all have it.
fn set_filter() -> Result<(), Errno> {
    const SET_MODE_FILTER: u64 = 1;
    const ALL_THREADS: u64 = 1;
    // What slows speculation down would protect this process from itself.
    const ALLOW_SPECULATION: u64 = 4;
    const BUSY: Errno = Errno(16);

    /// What the kernel calls `struct sock_fprog`.
    #[repr(C)]
    struct Program {
        len: u64,
        instructions: *const Instruction,
    }
    let instructions = filter::program(text(), DOORBELL_FD as u32);
    let program = Program {
        len: instructions.len() as u64,
        instructions: instructions.as_ptr(),
    };
    let from = core::ptr::from_ref(&program).expose_provenance() as u64;
    let flags = ALL_THREADS | ALLOW_SPECULATION;
    // SAFETY: the kernel reads the program, which outlives the call.
    match unsafe { syscall(SECCOMP, [SET_MODE_FILTER, flags, from, 0, 0, 0]) } {
        Ok(0) => Ok(()),
        // A thread that could not have it.
        Ok(_) => Err(BUSY),
        Err(errno) => Err(errno),
    }
}

/// The guest's first instruction, for `enter_guest` to jump to without a register.
static ENTRY: AtomicU64 = AtomicU64::new(0);

/// Waits for the VMM's word, then becomes the vCPU.
fn enter_guest(vcpu: usize) -> ! {
    loop {
        // Acquire pairs with the VMM's Release.
        let stage = area().stage.load(Ordering::Acquire);
        if stage == Stage::Running as u32 {
            break;
        }
        sys::futex_wait(&area().stage, stage, None);
    }
    let start = &area().start;
    // Relaxed: each thread writes the same, and reads its own.
    ENTRY.store(start.entry.get(), Ordering::Relaxed);
    // SAFETY: nothing of this thread's is used any more. The guest has a stack of its
    // own; registers are as PROTOCOL.md, section 1, says.
    unsafe {
        asm!(
            "mov rsp, rax",
            "xorps xmm0, xmm0", "xorps xmm1, xmm1", "xorps xmm2, xmm2", "xorps xmm3, xmm3",
            "xorps xmm4, xmm4", "xorps xmm5, xmm5", "xorps xmm6, xmm6", "xorps xmm7, xmm7",
            "xorps xmm8, xmm8", "xorps xmm9, xmm9", "xorps xmm10, xmm10", "xorps xmm11, xmm11",
            "xorps xmm12, xmm12", "xorps xmm13, xmm13", "xorps xmm14, xmm14", "xorps xmm15, xmm15",
            "xor ebx, ebx", "xor ecx, ecx", "xor edx, edx", "xor ebp, ebp",
            "xor r8d, r8d", "xor r9d, r9d", "xor r10d, r10d", "xor r11d, r11d",
            "xor r12d, r12d", "xor r13d, r13d", "xor r14d, r14d", "xor r15d, r15d",
            "push 2", "popfq",
            "mov eax, 0",
            "jmp qword ptr [rip + {entry}]",
            entry = sym ENTRY,
            in("rax") start.stack_pointers[vcpu].get(),
            in("rdi") start.boot_info.get(),
            in("rsi") vcpu,
            options(noreturn)
        )
    }
}
