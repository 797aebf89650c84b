//! Tests that boot tiny guests under KVM: a few instructions each.

use std::io::Write;
use std::time::{Duration, Instant};

use arca_shared::protocol::boot::{BOOT_MAGIC, INTERFACE_VERSION};
use arca_shared::protocol::layout::{
    ARENA_GVA, BOOT_INFO_BASE, IMAGE_BASE, MMIO_BASE, TABLES_BASE,
};
use arca_shared::protocol::register::{NO_DEADLINE, Register};

use crate::crash::Cause;
use crate::platform::uart::tests::Kept;
use crate::testimage::{DATA, ImageBuilder};
use crate::*;

/// Puts a few instructions together.
#[derive(Clone, Default)]
struct Code(Vec<u8>);

impl Code {
    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// mov rax, value
    fn load(self, value: u64) -> Self {
        self.bytes(&[0x48, 0xb8]).bytes(&value.to_le_bytes())
    }

    /// movabs [address], rax
    fn store(self, address: u64) -> Self {
        self.bytes(&[0x48, 0xa3]).bytes(&address.to_le_bytes())
    }

    /// movabs [address], al
    fn store_byte(self, address: u64) -> Self {
        self.bytes(&[0xa2]).bytes(&address.to_le_bytes())
    }

    /// movabs rax, [address]
    fn fetch(self, address: u64) -> Self {
        self.bytes(&[0x48, 0xa1]).bytes(&address.to_le_bytes())
    }

    /// Writes a register of the MMIO page.
    fn register(self, register: Register, value: u64) -> Self {
        self.load(value).store(register.address())
    }

    fn exit(self, code: u64) -> Self {
        self.register(Register::Exit, code)
    }

    /// Jumps to itself.
    fn spin(self) -> Self {
        self.bytes(&[0xeb, 0xfe])
    }

    /// Leaves the rest to vCPU 0; the others jump over it. `test rsi, rsi; jnz`.
    fn first_only(self, rest: Code) -> Self {
        let len = (rest.0.len() as u32).to_le_bytes();
        self.bytes(&[0x48, 0x85, 0xf6, 0x0f, 0x85])
            .bytes(&len)
            .bytes(&rest.0)
    }

    fn config(self) -> VmConfig {
        let image = ImageBuilder::new(&self.0).data(&[7], 0x4000).build();
        VmConfig {
            low_memory: 16 << 20,
            arena_size: 4 << 20,
            timeout: Some(Duration::from_secs(20)),
            ..VmConfig::new(Image::Bytes(image.into()), "test")
        }
    }

    fn run(self) -> ExitStatus {
        Vm::new(self.config()).expect("starts").run()
    }

    fn crash(self) -> Box<CrashReport> {
        match self.run() {
            ExitStatus::Crashed(report) => report,
            other => panic!("{other}"),
        }
    }
}

fn code() -> Code {
    Code::default()
}

#[test]
fn the_exit_code_is_the_programs() {
    assert_eq!(code().exit(42).run().code(), 42);
    assert_eq!(code().exit(0x1_00).run().code(), 0);
}

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

/// What a driver looks at before it sends, and what comes out.
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
        // movups [MMIO], xmm0, and a jump into the MMIO page
        code().load(MMIO_BASE).bytes(&[0x0f, 0x11, 0x00]),
    ] {
        let report = code.crash();
        assert!(
            matches!(report.cause, Cause::BadAccess { .. } | Cause::Emulation),
            "{report}"
        );
    }
    let report = code().register(Register::Kick, 99).crash();
    assert_eq!(report.cause, Cause::NoSuchVcpu(99));
    // jmp to the MMIO page: whatever KVM makes of it, it ends.
    let report = code().load(MMIO_BASE).bytes(&[0xff, 0xe0]).crash();
    assert_eq!(report.registers.rip, MMIO_BASE, "{report}");
}

#[test]
fn a_park_ends_at_its_deadline() {
    let started = Instant::now();
    let vm = Vm::new(code().register(Register::Park, 50_000_000).exit(0).config()).expect("starts");
    let handle = vm.handle();
    assert!(vm.run().success());
    let elapsed = started.elapsed();
    assert!(elapsed >= Duration::from_millis(50), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    let stats = handle.stats();
    assert_eq!((stats.parks, stats.sleeps), (1, 1));
    let past = Vm::new(code().register(Register::Park, 0).exit(0).config()).expect("starts");
    let handle = past.handle();
    assert!(past.run().success());
    assert_eq!(handle.stats().sleeps, 0);
}

#[test]
fn a_kick_wakes_another_vcpu() {
    // vCPU 1 sleeps until vCPU 0 kicks it, then ends the guest; vCPU 0 sleeps
    // for ever.
    let first = code()
        .register(Register::Kick, 1)
        .register(Register::Park, NO_DEADLINE)
        .spin();
    let code = code()
        .first_only(first)
        .register(Register::Park, NO_DEADLINE)
        .exit(9);
    let config = VmConfig {
        vcpus: 2,
        ..code.config()
    };
    let vm = Vm::new(config).expect("starts");
    let handle = vm.handle();
    assert_eq!(vm.run().code(), 9);
    assert_eq!(handle.stats().kicks, 1);
}

#[test]
fn the_doorbell_does_not_leave_the_kernel() {
    let mut ringing = code();
    for _ in 0..100 {
        ringing = ringing.register(Register::Doorbell, 1);
    }
    let vm = Vm::new(ringing.exit(0).config()).expect("starts");
    let handle = vm.handle();
    assert!(vm.run().success());
    assert_eq!(handle.stats().vcpu_exits, 1);
}

#[test]
fn a_guest_that_spins_is_stopped() {
    let config = VmConfig {
        timeout: Some(Duration::from_millis(50)),
        ..code().spin().config()
    };
    let started = Instant::now();
    let status = Vm::new(config).expect("starts").run();
    assert_eq!(status.code(), 124);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_guest_is_stopped_from_another_thread() {
    for code in [
        code().spin(),
        code().register(Register::Park, NO_DEADLINE).spin(),
        // Exits to the VMM all the time.
        code()
            .register(Register::Park, 0)
            .bytes(&[0xeb, (256 - 22) as u8]),
    ] {
        let config = VmConfig {
            vcpus: 2,
            ..code.config()
        };
        let vm = Vm::new(config).expect("starts");
        let handle = vm.handle();
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            handle.stop(StopReason::Signal(15));
        });
        assert_eq!(vm.run().code(), 143);
        stopper.join().expect("no panic");
    }
}

#[test]
fn two_guests_run_at_the_same_time() {
    let threads: Vec<_> = (0..4u8)
        .map(|n| std::thread::spawn(move || code().exit(n.into()).run().code()))
        .collect();
    for (n, thread) in threads.into_iter().enumerate() {
        assert_eq!(usize::from(thread.join().expect("no panic")), n);
    }
}

#[test]
fn input_that_never_comes_does_not_hold_the_guest_up() {
    let (reader, _writer) = std::io::pipe().expect("pipe");
    let config = VmConfig {
        stdin: Input::Reader(Box::new(reader)),
        ..code().exit(3).config()
    };
    let started = Instant::now();
    assert_eq!(Vm::new(config).expect("starts").run().code(), 3);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_console_that_nobody_reads_does_not_hold_the_end_up() {
    let (_reader, mut writer) = std::io::pipe().expect("pipe");
    writer.write_all(&[0; 64 << 10]).expect("room");
    let uart = Register::Uart(0).address();
    let unfinished = code().load(u64::from(b'?')).store_byte(uart);
    let config = VmConfig {
        console: Box::new(writer),
        ..unfinished.exit(7).config()
    };
    let (ended, ending) = std::sync::mpsc::channel();
    let vm = Vm::new(config).expect("starts");
    std::thread::spawn(move || ended.send(vm.run().code()));
    assert_eq!(ending.recv_timeout(Duration::from_secs(60)), Ok(7));
}

#[test]
fn what_cannot_start_says_so() {
    let start = |config: VmConfig| {
        let error = Vm::new(config).err().expect("refused");
        error::in_one_line(&error)
    };
    let config = || code().exit(0).config();
    let text = start(VmConfig {
        vcpus: 0,
        ..config()
    });
    assert_eq!(text, "0 vCPUs are not possible: give it 1 to 16");
    let text = start(VmConfig {
        args: vec!["x".repeat(1 << 20)],
        ..config()
    });
    assert!(text.contains("arguments take"), "{text}");
    let text = start(VmConfig {
        image: Image::Bytes((*b"garbage").into()),
        ..config()
    });
    assert!(text.contains("not a 64-bit x86 ELF file"), "{text}");
    let text = start(VmConfig {
        arena_size: 5,
        ..config()
    });
    assert!(text.contains("arena of 5 bytes"), "{text}");
}
