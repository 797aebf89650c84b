//! What single instructions come to: the same on each platform, or what
//! ARCHITECTURE.md, "Platforms", says of them.

use super::*;
use arca_stub::layout::{AREA_BASE, STUB_BASE};

/// An instruction, or a few: what it is, and its bytes.
type Named = (&'static str, &'static [u8]);

/// The same report, or none, on every machine.
const ALIKE: &[Named] = &[
    ("syscall", &[0x0f, 0x05]),
    ("rex.w syscall", &[0x48, 0x0f, 0x05]),
    ("data16 syscall", &[0x66, 0x0f, 0x05]),
    ("rep syscall", &[0xf3, 0x0f, 0x05]),
    ("fs syscall", &[0x64, 0x0f, 0x05]),
    ("int 3", &[0xcd, 0x03]),
    ("int3", &[0xcc]),
    ("icebp", &[0xf1]),
    ("into", &[0xce]),
    ("ud0", &[0x0f, 0xff, 0xc0]),
    ("ud1", &[0x0f, 0xb9, 0xc0]),
    ("ud2", &[0x0f, 0x0b]),
    ("hlt", &[0xf4]),
    ("cli", &[0xfa]),
    ("sti", &[0xfb]),
    ("in al, dx", &[0xec]),
    ("in eax, 0x60", &[0xe5, 0x60]),
    ("out dx, al", &[0xee]),
    ("insb", &[0x6c]),
    ("outsb", &[0x6e]),
    ("rdmsr", &[0x0f, 0x32]),
    ("wrmsr", &[0x0f, 0x30]),
    ("rdtsc", &[0x0f, 0x31]),
    ("cpuid", &[0x0f, 0xa2]),
    ("lgdt", &[0x0f, 0x01, 0x54, 0x24, 0xf0]),
    ("lidt", &[0x0f, 0x01, 0x5c, 0x24, 0xf0]),
    ("sgdt", &[0x0f, 0x01, 0x44, 0x24, 0xf0]),
    ("sidt", &[0x0f, 0x01, 0x4c, 0x24, 0xf0]),
    ("smsw eax", &[0x0f, 0x01, 0xe0]),
    ("lmsw ax", &[0x0f, 0x01, 0xf0]),
    ("lldt ax", &[0x0f, 0x00, 0xd0]),
    ("ltr ax", &[0x0f, 0x00, 0xd8]),
    ("invlpg", &[0x0f, 0x01, 0x3c, 0x24]),
    ("clts", &[0x0f, 0x06]),
    ("invd", &[0x0f, 0x08]),
    ("wbinvd", &[0x0f, 0x09]),
    ("swapgs", &[0x0f, 0x01, 0xf8]),
    ("mov rax, cr0", &[0x0f, 0x20, 0xc0]),
    ("mov rax, cr8", &[0x44, 0x0f, 0x20, 0xc0]),
    ("mov rax, dr0", &[0x0f, 0x21, 0xc0]),
    ("xsetbv", &[0x31, 0xc9, 0x0f, 0x01, 0xd1]),
    ("clflush", &[0x0f, 0xae, 0x3c, 0x24]),
    ("clflush of null", &[0x31, 0xc0, 0x0f, 0xae, 0x38]),
    ("prefetch of null", &[0x31, 0xc0, 0x0f, 0x18, 0x08]),
    ("fwait", &[0x9b]),
    ("lock nop", &[0xf0, 0x90]),
    ("mov ss, itself", &[0x8c, 0xd0, 0x8e, 0xd0]),
    ("mov ds, 0", &[0x31, 0xc0, 0x8e, 0xd8]),
    ("mov fs, 0", &[0x31, 0xc0, 0x8e, 0xe0]),
    ("mov ds, 8", &[0xb8, 0x08, 0, 0, 0, 0x8e, 0xd8]),
    ("mov ds, 0x1000", &[0xb8, 0, 0x10, 0, 0, 0x8e, 0xd8]),
    ("fs:[0]", &[0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0]),
    ("gs:[0]", &[0x65, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0]),
    // Flags set by pushfq; or dword [rsp], flag; popfq: then a nop.
    (
        "trap flag",
        &[0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d, 0x90, 0x90],
    ),
    (
        "privilege of ports, then cli",
        &[0x9c, 0x81, 0x0c, 0x24, 0, 0x30, 0, 0, 0x9d, 0x90, 0xfa],
    ),
    (
        "nested task, then ud2",
        &[
            0x9c, 0x81, 0x0c, 0x24, 0, 0x40, 0, 0, 0x9d, 0x90, 0x0f, 0x0b,
        ],
    ),
    // The same, then mov eax, [rsp - 7].
    (
        "alignment check",
        &[
            0x9c, 0x81, 0x0c, 0x24, 0, 0, 4, 0, 0x9d, 0x8b, 0x44, 0x24, 0xf9,
        ],
    ),
    ("divide by zero", &[0x31, 0xd2, 0x31, 0xc9, 0xf7, 0xf1]),
    // mov word [rsp - 16], 0x340; fldcw [rsp - 16]; fld1; fldz; fdivp; fwait
    (
        "division by zero that is not masked, x87",
        &[
            0x66, 0xc7, 0x44, 0x24, 0xf0, 0x40, 0x03, 0xd9, 0x6c, 0x24, 0xf0, 0xd9, 0xe8, 0xd9,
            0xee, 0xde, 0xf9, 0x9b,
        ],
    ),
    // mov dword [rsp - 16], 0; ldmxcsr [rsp - 16]; mov eax, 1; cvtsi2ss xmm0, eax;
    // divss xmm0, xmm1
    (
        "division by zero that is not masked, SSE",
        &[
            0xc7, 0x44, 0x24, 0xf0, 0, 0, 0, 0, 0x0f, 0xae, 0x54, 0x24, 0xf0, 0xb8, 1, 0, 0, 0,
            0xf3, 0x0f, 0x2a, 0xc0, 0xf3, 0x0f, 0x5e, 0xc1,
        ],
    ),
    // mov rsp, 1 << 63; push rax
    (
        "push to an address that is none",
        &[0x48, 0xbc, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x50],
    ),
    (
        "movaps from an odd address",
        &[0x0f, 0x28, 0x44, 0x24, 0x01],
    ),
    // mov rax, 1 << 63; jmp rax, or push rax; ret
    (
        "jump to an address that is none",
        &[0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0xe0],
    ),
    (
        "return to an address that is none",
        &[0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x50, 0xc3],
    ),
    // mov rax, -1 << 31; mov rax, [rax]
    (
        "read of the kernel's memory",
        &[0x48, 0xc7, 0xc0, 0, 0, 0, 0x80, 0x48, 0x8b, 0],
    ),
    ("prefixes without end", &[0x66; 20]),
];

/// What may be another exception under KVM, where there is no hardware virtualisation or
/// QEMU emulates it: its first line there, where it is not that of a process.
const UNLIKE: &[(&str, &[u8], &str)] = &[
    // A QEMU without KVM makes it a system call in a process.
    ("lock syscall", &[0xf0, 0x0f, 0x05], "invalid opcode"),
    // Linux has switched it on, with `syscall`; in a machine both are off.
    ("sysretq", &[0x48, 0x0f, 0x07], "invalid opcode"),
    ("int 0x80", &[0xcd, 0x80], "invalid opcode"),
    ("int 0x81", &[0xcd, 0x81], "invalid opcode"),
    ("int 0", &[0xcd, 0x00], "invalid opcode"),
    ("int 1", &[0xcd, 0x01], "invalid opcode"),
    ("int 4", &[0xcd, 0x04], "invalid opcode"),
    ("int 14", &[0xcd, 0x0e], "invalid opcode"),
    // mov dword [rsp - 16], 1 << 16; ldmxcsr [rsp - 16]
    (
        LDMXCSR,
        &[
            0xc7, 0x44, 0x24, 0xf0, 0, 0, 1, 0, 0x0f, 0xae, 0x54, 0x24, 0xf0,
        ],
        "invalid opcode",
    ),
];

/// What depends on the processor, its kernel or who made it, under KVM or in a process:
/// the program goes on or crashes, and that is all.
const OF_THE_MACHINE: &[Named] = &[
    ("sysenter", &[0x0f, 0x34]),
    ("sysexit", &[0x0f, 0x35]),
    ("rex.w int 0x80", &[0x48, 0xcd, 0x80]),
    (
        "trap flag, then syscall",
        &[0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d, 0x0f, 0x05],
    ),
    ("rdpmc", &[0x0f, 0x33]),
    ("rdtscp", &[0x0f, 0x01, 0xf9]),
    ("rdpid", &[0xf3, 0x0f, 0xc7, 0xf8]),
    ("rdpru", &[0x31, 0xc9, 0x0f, 0x01, 0xfd]),
    ("sldt eax", &[0x0f, 0x00, 0xc0]),
    ("str eax", &[0x0f, 0x00, 0xc8]),
    ("xgetbv", &[0x31, 0xc9, 0x0f, 0x01, 0xd0]),
    ("rdfsbase", &[0xf3, 0x48, 0x0f, 0xae, 0xc0]),
    ("wrfsbase", &[0xf3, 0x48, 0x0f, 0xae, 0xd0]),
    ("wrgsbase", &[0xf3, 0x48, 0x0f, 0xae, 0xd8]),
    ("rdpkru", &[0x31, 0xc9, 0x0f, 0x01, 0xee]),
    (
        "wrpkru",
        &[0x31, 0xc0, 0x31, 0xc9, 0x31, 0xd2, 0x0f, 0x01, 0xef],
    ),
    ("monitor", &[0x0f, 0x01, 0xc8]),
    ("mwait", &[0x0f, 0x01, 0xc9]),
    // mov rax, rsp; xor ecx, ecx; xor edx, edx
    (
        "monitorx",
        &[0x48, 0x89, 0xe0, 0x31, 0xc9, 0x31, 0xd2, 0x0f, 0x01, 0xfa],
    ),
    ("umonitor", &[0xf3, 0x0f, 0xae, 0xf0]),
    ("vmcall", &[0x0f, 0x01, 0xc1]),
    ("vmmcall", &[0x0f, 0x01, 0xd9]),
    ("vmlaunch", &[0x0f, 0x01, 0xc2]),
    ("vmrun", &[0x0f, 0x01, 0xd8]),
    ("stgi", &[0x0f, 0x01, 0xdc]),
    ("rdrand", &[0x48, 0x0f, 0xc7, 0xf0]),
    ("xbegin", &[0xc7, 0xf8, 0, 0, 0, 0]),
    ("tilezero", &[0xc4, 0xe2, 0x7b, 0x49, 0xc0]),
    ("enqcmd", &[0xf2, 0x0f, 0x38, 0xf8, 0x04, 0x24]),
    ("lar of 0x33", &[0xb9, 0x33, 0, 0, 0, 0x0f, 0x02, 0xc1]),
    // push 0x23; lea rax, [rip + 3]; push rax; retfq; int 0x80
    (
        FAR_RETURN,
        &[
            0x6a, 0x23, 0x48, 0x8d, 0x05, 3, 0, 0, 0, 0x50, 0x48, 0xcb, 0xcd, 0x80,
        ],
    ),
    ("mov ds, 0x1b", &[0xb8, 0x1b, 0, 0, 0, 0x8e, 0xd8]),
    ("mov ds, 0x2b", &[0xb8, 0x2b, 0, 0, 0, 0x8e, 0xd8]),
    ("mov fs, 0x63", &[0xb8, 0x63, 0, 0, 0, 0x8e, 0xe0]),
];

/// What QEMU's own processor (7.2) has wrong: the first does nothing; at the second it
/// reads the stack as ring 0 does, for which Linux kills the process.
const NOT_EMULATED: [&str; 2] = [LDMXCSR, FAR_RETURN];
const LDMXCSR: &str = "ldmxcsr of bits that are none";
const FAR_RETURN: &str = "far return to what is 32-bit code under Linux";

/// How a guest of these instructions ends.
fn end(code: Code, platform: Platform) -> ExitStatus {
    let config = VmConfig {
        platform,
        ..code.exit(0).config()
    };
    Vm::new(config).expect("starts").run()
}

fn told(bytes: &[u8], platform: Platform) -> String {
    match end(code().bytes(bytes), platform) {
        ExitStatus::Crashed(report) => report.to_string(),
        other => other.to_string(),
    }
}

#[test]
fn instructions_come_to_the_same() {
    let differ = |(name, bytes): &Named| {
        let (here, process) = both(bytes);
        (here != process).then(|| format!("{name}: {here}\nin a process: {process}\n"))
    };
    let differing: Vec<_> = ALIKE.iter().filter_map(differ).collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn instructions_that_kvm_takes_otherwise_are_crashes_all_the_same() {
    let differ = |(name, bytes, other): &(&str, &[u8], &str)| {
        let (here, process) = both(bytes);
        let crashed = process.starts_with("guest crashed on vCPU 0: ");
        // Of such an interrupt QEMU's processor has the kind of exception right, and
        // neither the address nor the error code.
        let kind = |report: &str| report.lines().next().map(str::to_owned);
        let alike = here == process || is_emulated() && kind(&here) == kind(&process);
        let as_known = alike || kind(&here).is_some_and(|kind| kind.ends_with(other));
        (!crashed || !as_known).then(|| format!("{name}: {here}\nin a process: {process}\n"))
    };
    let cases = UNLIKE.iter().filter(|(name, ..)| !is_wrong_here(name));
    let differing: Vec<_> = cases.filter_map(differ).collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// What an instruction comes to on the tested platform, and in a process.
fn both(bytes: &[u8]) -> (String, String) {
    (
        told(bytes, tested_platform()),
        told(bytes, Platform::Process),
    )
}

/// Whether it is not to be tried on this processor.
fn is_wrong_here(name: &str) -> bool {
    is_emulated() && NOT_EMULATED.contains(&name)
}

/// Whether this runs on QEMU's own processor.
fn is_emulated() -> bool {
    // Of a virtual machine, this leaf has the name of its maker.
    let leaf = std::arch::x86_64::__cpuid(0x4000_0000);
    let name = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes);
    name.concat() == b"TCGTCGTCGTCG"
}

#[test]
fn instructions_of_the_machine_harm_nobody_else() {
    let cases = OF_THE_MACHINE.iter();
    for (name, bytes) in cases.filter(|(name, _)| !is_wrong_here(name)) {
        for platform in [tested_platform(), Platform::Process] {
            match end(code().bytes(bytes), platform) {
                ExitStatus::Exited(0) | ExitStatus::Crashed(_) => {}
                other => panic!("{name} on {platform}: {other}"),
            }
        }
    }
}

#[test]
fn only_a_process_has_the_stub_in_its_address_space() {
    for address in [STUB_BASE, AREA_BASE] {
        let code = code().fetch(address);
        let in_process = end(code.clone(), Platform::Process);
        assert!(matches!(in_process, ExitStatus::Exited(0)), "{in_process}");
        if tested_platform().resolve() == Platform::Kvm {
            let here = end(code, Platform::Kvm);
            assert!(matches!(here, ExitStatus::Crashed(_)), "{here}");
        }
    }
}
