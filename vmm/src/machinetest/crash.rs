//! What is a crash, and what its report says.

use super::*;
use crate::crash::Cause;
use crate::platform::uart::tests::Kept;
use crate::testimage::DATA;
use arca_shared::protocol::layout::{BOOT_INFO_BASE, IMAGE_BASE, MMIO_BASE, TABLES_BASE};
use arca_shared::protocol::register::Register;

fn page_fault(report: &CrashReport) -> (u64, u64) {
    match report.cause {
        Cause::Exception {
            vector: 14,
            error_code: Some(code),
            address: Some(address),
        } => (code, address),
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn a_null_pointer_is_reported() {
    let report = code().fetch(8).crash();
    assert_eq!(page_fault(&report), (4, 8));
    assert_eq!(report.summary, "null pointer: read of 0x8");
    assert_eq!(report.registers.rip, IMAGE_BASE);
    assert_eq!(report.code[..3], [0x48, 0xa1, 8]);
    let text = report.to_string();
    assert!(text.contains("page fault (#PF, vector 14)"), "{text}");
    assert!(text.contains("0x8: null page"), "{text}");
}

#[test]
fn a_write_to_text_is_reported() {
    let report = code().store(IMAGE_BASE).crash();
    assert_eq!(page_fault(&report), (7, IMAGE_BASE));
    assert!(report.summary.contains("write to read-only text"));
}

#[test]
fn a_jump_to_data_is_reported() {
    // jmp rax
    let report = code().load(DATA).bytes(&[0xff, 0xe0]).crash();
    assert_eq!(page_fault(&report), (0x15, DATA));
    assert!(report.summary.contains("jump to data"));
}

#[test]
fn a_call_of_null_is_traced_to_its_caller() {
    // xor eax, eax; call rax
    let report = code().bytes(&[0x31, 0xc0, 0xff, 0xd0]).crash();
    assert_eq!(page_fault(&report), (0x14, 0));
    assert!(report.code.is_empty());
    let addresses: Vec<u64> = report.backtrace.iter().map(|frame| frame.address).collect();
    assert_eq!(addresses, [0, IMAGE_BASE + 4]);
}

#[test]
fn a_stack_overflow_is_reported() {
    // push rax; jmp to it
    let report = code().bytes(&[0x50, 0xeb, 0xfd]).crash();
    assert!(
        report.summary.contains("stack overflow"),
        "{}",
        report.summary
    );
    assert_eq!(
        report.address_is.as_deref(),
        Some("guard page of vCPU 0's stack")
    );
}

#[test]
fn memory_of_the_vmm_is_out_of_reach() {
    for address in [TABLES_BASE, TABLES_BASE + 0x3000] {
        let report = code().fetch(address).crash();
        assert_eq!(page_fault(&report), (5, address));
        assert!(report.summary.contains("memory of the VMM"));
    }
    let report = code().store(BOOT_INFO_BASE).crash();
    assert_eq!(page_fault(&report), (7, BOOT_INFO_BASE));
}

#[test]
fn other_exceptions_are_reported() {
    let vector = |code: Code| match code.crash().cause {
        Cause::Exception { vector, .. } => vector,
        other => panic!("{other:?}"),
    };
    assert_eq!(vector(code().bytes(&[0x0f, 0x0b])), 6, "ud2");
    assert_eq!(
        vector(code().bytes(&[0x31, 0xd2, 0x31, 0xc9, 0xf7, 0xf1])),
        0,
        "xor edx, edx; xor ecx, ecx; div ecx"
    );
    assert_eq!(vector(code().bytes(&[0xcc])), 3, "int3");
    assert_eq!(vector(code().bytes(&[0xfa])), 13, "cli");
    assert_eq!(vector(code().fetch(1 << 63)), 13, "not canonical");
}

#[test]
fn a_system_call_is_a_crash_that_says_so() {
    let report = code().load(231).bytes(&[0x0f, 0x05]).exit(0).crash();
    assert_eq!(report.cause, Cause::SystemCall);
    assert_eq!(report.registers.rip, IMAGE_BASE + 12);
    // int 0x80 is no way into this machine's kernel either.
    // A KVM without hardware virtualization has no such instruction; QEMU's emulator
    // counts an entry double in the error code.
    let code = code().load(1).bytes(&[0xcd, 0x80]).exit(0);
    for platform in [tested_platform(), Platform::Process] {
        let report = code.clone().crash_on(platform);
        assert_eq!(report.registers.rip, IMAGE_BASE + 10);
        let text = report.to_string();
        let known = ["IDT entry 128", "invalid opcode", "IDT entry 256"];
        assert!(known.iter().any(|known| text.contains(known)), "{text}");
    }
}

#[test]
fn a_jump_to_where_only_the_hosts_kernel_is_is_a_page_fault() {
    // What the doorbell's fault left behind is not taken for the jump's.
    let address = 0xffff_ffff_ff60_0404;
    let report = code()
        .register(Register::Doorbell, 1)
        .load(address)
        .bytes(&[0xff, 0xe0])
        .crash();
    assert_eq!(page_fault(&report), (0x14, address));
}

#[test]
fn a_panic_is_a_crash() {
    let console = Kept::default();
    let uart = Register::Uart(0).address();
    let code = code()
        .load(u64::from(b'!'))
        .store_byte(uart)
        .load(u64::from(b'\n'))
        .store_byte(uart)
        .load(u64::from(b'?'))
        .store_byte(uart)
        .register(Register::Panic, 1);
    let config = VmConfig {
        console: Box::new(console.clone()),
        ..code.config()
    };
    let status = Vm::new(config).expect("starts").run();
    assert!(matches!(&status, ExitStatus::Crashed(report) if report.cause == Cause::Panic));
    assert_eq!(status.code(), 101);
    assert_eq!(console.text(), "!\n?\n");
}

#[test]
fn meaningless_accesses_are_crashes() {
    for code in [
        code().load(1).store(MMIO_BASE + 0xf00),
        code().load(0).store_byte(Register::Exit.address()),
        code().fetch(Register::Exit.address()),
        code().register(Register::Fault(14), 1),
    ] {
        let report = code.crash();
        assert!(matches!(report.cause, Cause::BadAccess { .. }), "{report}");
    }
    let report = code().register(Register::Kick, 99).crash();
    assert_eq!(report.cause, Cause::NoSuchVcpu(99));
    // Whatever a platform makes of these, it is the end.
    for platform in [tested_platform(), Platform::Process] {
        // movups [MMIO], xmm0
        let vector = code().load(MMIO_BASE).bytes(&[0x0f, 0x11, 0x00]);
        let report = vector.crash_on(platform);
        assert!(
            matches!(report.cause, Cause::BadAccess { .. } | Cause::Emulation),
            "{report}"
        );
        // jmp to the MMIO page
        let jump = code().load(MMIO_BASE).bytes(&[0xff, 0xe0]);
        let report = jump.crash_on(platform);
        assert_eq!(report.registers.rip, MMIO_BASE, "{report}");
    }
}
