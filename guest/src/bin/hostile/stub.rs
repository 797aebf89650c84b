//! Attacks on what shares the address space with a guest that runs in a process: the
//! stub. In a machine nothing is there, and each is a crash.

use crate::Attack;
use arca_guest::registers;
use core::arch::asm;

/// The stub's program and, behind it, its memory.
const STUB: u64 = 0x6000_0000_0000;
/// The memory that it shares with the VMM.
const AREA: u64 = 0x6100_0000_0000;
/// Bytes of either that are there for sure.
const LEN: u64 = 0x4000;

fn pointer(address: u64) -> *mut u64 {
    core::ptr::with_exposed_provenance_mut(address as usize)
}

/// Writes over the area, and over the stub's own memory.
pub fn scribble(attack: &mut Attack) -> u64 {
    let mut written = 0;
    while attack.goes_on() {
        let random = &mut attack.random;
        // Behind the program is where the stub has its stacks.
        let base = if random.below(4) == 0 {
            STUB + LEN
        } else {
            AREA
        };
        let place = base + 8 * random.below(LEN / 8);
        let value = random.telling(64);
        // SAFETY: not kept, on purpose: it is the stub's memory, or none.
        unsafe { pointer(place).write_volatile(value) };
        written += 1;
        if written % 64 == 0 {
            // Leaves the guest by way of what it has written over.
            registers::park(Some(0));
        }
    }
    written
}

/// Jumps to the stub's system call by which signal handlers return, with a frame of its
/// own making on the stack.
pub fn forge(attack: &mut Attack) -> u64 {
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    const SIGRETURN: u64 = 15;
    let text = pointer(STUB).cast::<u8>();
    let call = (0..LEN as usize - 1).find(|&at| {
        // SAFETY: not kept, on purpose: it is the stub's memory, or none.
        let byte = |at| unsafe { text.add(at).read_volatile() };
        [byte(at), byte(at + 1)] == SYSCALL
    });
    let call = STUB + call.unwrap_or(0) as u64;
    let mut frame = [0u64; 128];
    for word in &mut frame {
        *word = attack.random.telling(STUB);
    }
    // Some of them with what makes the kernel take the rest: the code segment of
    // 64-bit or 32-bit programs, a stack segment, an instruction that is there.
    let here = scribble as fn(&mut Attack) -> u64 as *const ();
    frame[21] = here.addr() as u64;
    frame[23] = if attack.random.below(2) == 0 {
        0x002b_0000_0000_0033
    } else {
        0x002b_0000_0000_0023
    };
    // No floating-point state.
    frame[28] = 0;
    // SAFETY: not kept, on purpose: nothing goes on after it.
    unsafe {
        asm!(
            "mov rsp, {frame}",
            "jmp {call}",
            frame = in(reg) frame.as_mut_ptr(),
            call = in(reg) call,
            in("rax") SIGRETURN,
            options(noreturn)
        )
    }
}
