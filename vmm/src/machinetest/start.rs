//! What a program finds: registers, memory, and the UART.

use super::*;
use crate::platform::uart::tests::Kept;
use crate::testimage::DATA;
use arca_shared::protocol::boot::{BOOT_MAGIC, INTERFACE_VERSION};
use arca_shared::protocol::layout::ARENA_GVA;
use arca_shared::protocol::register::Register;

/// PROTOCOL.md, section 1: whatever is not as it says leaves a bit in rax.
#[test]
fn a_vcpu_starts_as_the_protocol_says() {
    let status = code()
        // or rax, with each general register but rdi and rsp; rsi is the index.
        .bytes(&[0x48, 0x09, 0xd8, 0x48, 0x09, 0xc8, 0x48, 0x09, 0xd0])
        .bytes(&[0x48, 0x09, 0xf0, 0x48, 0x09, 0xe8])
        .bytes(&[0x4c, 0x09, 0xc0, 0x4c, 0x09, 0xc8, 0x4c, 0x09, 0xd0])
        .bytes(&[0x4c, 0x09, 0xd8, 0x4c, 0x09, 0xe0, 0x4c, 0x09, 0xe8])
        .bytes(&[0x4c, 0x09, 0xf0, 0x4c, 0x09, 0xf8])
        // or rax, [rsp]; lea rcx, [rsp + 8]; and ecx, 0xfff; or rax, rcx
        .bytes(&[0x48, 0x0b, 0x04, 0x24, 0x48, 0x8d, 0x4c, 0x24, 0x08])
        .bytes(&[0x81, 0xe1, 0xff, 0x0f, 0x00, 0x00, 0x48, 0x09, 0xc8])
        // stmxcsr [rsp - 8]; mov ecx, [rsp - 8]; xor ecx, 0x1f80; or rax, rcx
        .bytes(&[0x0f, 0xae, 0x5c, 0x24, 0xf8, 0x8b, 0x4c, 0x24, 0xf8])
        .bytes(&[0x81, 0xf1, 0x80, 0x1f, 0x00, 0x00, 0x48, 0x09, 0xc8])
        // fnstcw [rsp - 8]; movzx ecx, word [rsp - 8]; xor ecx, 0x37f; or rax, rcx
        .bytes(&[0xd9, 0x7c, 0x24, 0xf8, 0x0f, 0xb7, 0x4c, 0x24, 0xf8])
        .bytes(&[0x81, 0xf1, 0x7f, 0x03, 0x00, 0x00, 0x48, 0x09, 0xc8])
        // movmskps ecx, xmm15: a register of zeros; or rax, rcx
        .bytes(&[0x41, 0x0f, 0x50, 0xcf, 0x48, 0x09, 0xc8])
        // pushfq; pop rcx; and ecx, 0x400, the direction; or rax, rcx
        .bytes(&[
            0x9c, 0x59, 0x81, 0xe1, 0x00, 0x04, 0x00, 0x00, 0x48, 0x09, 0xc8,
        ])
        // test rax, rax; setne al
        .bytes(&[0x48, 0x85, 0xc0, 0x0f, 0x95, 0xc0, 0x0f, 0xb6, 0xc0])
        .store(Register::Exit.address())
        .spin()
        .run();
    assert_eq!(status.code(), 0);
}

/// What a driver reads before it sends, and what comes out.
#[test]
fn a_byte_to_the_uart_needs_no_driver() {
    let console = Kept::default();
    let uart = Register::Uart(0).address();
    // The line status: ready.
    let status = code()
        .bytes(&[0xa0])
        .bytes(&(uart + 5).to_le_bytes()) // movabs al, [uart + 5]
        .bytes(&[0x88, 0xc3]) // mov bl, al
        .load(b'h'.into())
        .store_byte(uart)
        .load(b'i'.into())
        .store_byte(uart)
        .load(b'\n'.into())
        .store_byte(uart)
        .bytes(&[0x0f, 0xb6, 0xc3]) // movzx eax, bl
        .store(Register::Exit.address());
    let config = VmConfig {
        console: Box::new(console.clone()),
        ..status.config()
    };
    let status = Vm::new(config).expect("starts").run();
    assert_eq!((status.code(), &*console.text()), (0x60, "hi\n"));
}

#[test]
fn memory_is_as_the_map_says() {
    // Data, stack, arena and boot information are there; each value read ends
    // up in the sum that is the exit code.
    let status = code()
        .fetch(DATA)
        .store(ARENA_GVA + 0x10_0000)
        .bytes(&[0x50]) // push rax
        .fetch(ARENA_GVA + 0x10_0000)
        .bytes(&[0x59, 0x01, 0xc8]) // pop rcx; add eax, ecx
        .bytes(&[0x03, 0x47, 0x08]) // add eax, [rdi + 8]: the version
        .store(Register::Exit.address())
        .run();
    assert_eq!(u32::from(status.code()), 7 + 7 + INTERFACE_VERSION);
    let magic = code()
        .load(BOOT_MAGIC)
        .bytes(&[0x48, 0x3b, 0x07, 0x0f, 0x94, 0xc0]) // cmp rax, [rdi]; sete al
        .store(Register::Exit.address())
        .run();
    assert_eq!(magic.code(), 1);
}

#[test]
fn vector_registers_work() {
    // vxorps ymm0, ymm0, ymm0; vmovups [rsp - 64], ymm0
    let avx = [0xc5, 0xfc, 0x57, 0xc0, 0xc5, 0xfc, 0x11, 0x44, 0x24, 0xc0];
    let sse = [0x0f, 0x57, 0xc0, 0x0f, 0x11, 0x44, 0x24, 0xc0];
    let code = if std::arch::is_x86_feature_detected!("avx") {
        code().bytes(&avx)
    } else {
        code().bytes(&sse)
    };
    assert_eq!(code.exit(5).run().code(), 5);
}
