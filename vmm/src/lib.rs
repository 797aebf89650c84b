//! The VMM: a KVM virtual machine for one Arca guest, as a library and a
//! command.
//!
//! ```no_run
//! use arca_vmm::{Image, Vm, VmConfig};
//!
//! let config = VmConfig::new(Image::Path("demo".into()), "demo");
//! let vm = Vm::new(config)?;
//! let status = vm.run();
//! std::process::exit(status.code().into());
//! # Ok::<(), arca_vmm::StartError>(())
//! ```
//!
//! A [`Vm`] is built in numbered steps (`vm/mod.rs`) and run to an [`ExitStatus`].
//! The VMM is the guest's firmware: the guest runs in ring 3 from its first
//! instruction, takes no interrupts and talks to the VMM through one MMIO page.
//!
//! | module | holds |
//! |---|---|
//! | `vm` | [`Vm`] and [`VmHandle`]: from a configuration to an exit status |
//! | `error` | [`StartError`]: why one could not start |
//! | `memory` | what is in guest memory: image, tables, boot information |
//! | `platform` | what carries a vCPU: KVM, and the devices of the MMIO page |
//! | [`crash`] | [`CrashReport`]: what a crash looked like |
//! | `debug` | gdb at the guest |
//! | `host` | the process around a guest: streams, logs, signals, sandbox |
//! | [`cli`] | the command line, for this crate's command and for others |

pub mod cli;
pub mod crash;
mod debug;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod host;
mod memory;
mod platform;
mod vm;

#[cfg(test)]
mod machinetest;
#[cfg(test)]
mod testimage;

pub use crash::CrashReport;
pub use error::{ImageError, StartError};
pub use host::trace::{Trace, TraceFilter};
pub use platform::Platform;
pub use platform::process::Reading;
pub use vm::config::{Image, Input, Output, VmConfig};
pub use vm::stats::VmStats;
pub use vm::status::ExitStatus;
pub use vm::{StopReason, Vm, VmHandle};
