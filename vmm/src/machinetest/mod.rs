//! Tests that boot tiny guests: a few instructions each.
//!
//! They run on the platform that ARCA_PLATFORM names, by default on the one that a
//! guest has by default. What a crash looks like is compared with what it looks like in
//! a process, which every machine has.

mod calls;
mod crash;
mod instructions;
mod run;
mod start;

use crate::testimage::ImageBuilder;
use crate::*;
use arca_shared::protocol::register::Register;
use std::time::Duration;

/// Puts a few instructions together.
#[derive(Clone, Default)]
pub struct Code(Vec<u8>);

impl Code {
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// mov rax, value
    pub fn load(self, value: u64) -> Self {
        self.bytes(&[0x48, 0xb8]).bytes(&value.to_le_bytes())
    }

    /// movabs [address], rax
    pub fn store(self, address: u64) -> Self {
        self.bytes(&[0x48, 0xa3]).bytes(&address.to_le_bytes())
    }

    /// movabs [address], al
    pub fn store_byte(self, address: u64) -> Self {
        self.bytes(&[0xa2]).bytes(&address.to_le_bytes())
    }

    /// movabs rax, [address]
    pub fn fetch(self, address: u64) -> Self {
        self.bytes(&[0x48, 0xa1]).bytes(&address.to_le_bytes())
    }

    /// Writes a register of the MMIO page.
    pub fn register(self, register: Register, value: u64) -> Self {
        self.load(value).store(register.address())
    }

    pub fn exit(self, code: u64) -> Self {
        self.register(Register::Exit, code)
    }

    /// Jumps to itself.
    pub fn spin(self) -> Self {
        self.bytes(&[0xeb, 0xfe])
    }

    /// Leaves the rest to vCPU 0; the others jump over it. `test rsi, rsi; jnz`.
    pub fn first_only(self, rest: Code) -> Self {
        let len = (rest.0.len() as u32).to_le_bytes();
        self.bytes(&[0x48, 0x85, 0xf6, 0x0f, 0x85])
            .bytes(&len)
            .bytes(&rest.0)
    }

    pub fn config(self) -> VmConfig {
        let image = ImageBuilder::new(&self.0).data(&[7], 0x4000).build();
        VmConfig {
            low_memory: 16 << 20,
            arena_size: 4 << 20,
            platform: tested_platform(),
            timeout: Some(Duration::from_secs(20)),
            ..VmConfig::new(Image::Bytes(image.into()), "test")
        }
    }

    pub fn run(self) -> ExitStatus {
        Vm::new(self.config()).expect("starts").run()
    }

    /// What its crash looks like, on every platform.
    #[track_caller]
    pub fn crash(self) -> Box<CrashReport> {
        let report = self.clone().crash_on(tested_platform());
        let in_process = self.crash_on(Platform::Process);
        assert_eq!(report.to_string(), in_process.to_string());
        report
    }

    #[track_caller]
    pub fn crash_on(self, platform: Platform) -> Box<CrashReport> {
        let config = VmConfig {
            platform,
            ..self.config()
        };
        match Vm::new(config).expect("starts").run() {
            ExitStatus::Crashed(report) => report,
            other => panic!("{other}"),
        }
    }
}

/// The platform that the tests are run for.
pub fn tested_platform() -> Platform {
    match std::env::var(cli::PLATFORM) {
        Ok(name) => name.parse().expect("a platform's name"),
        Err(_) => Platform::Auto,
    }
}

pub fn code() -> Code {
    Code::default()
}
