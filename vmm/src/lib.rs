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
//! A [`Vm`] is built in numbered steps ([`vm`]) and run to an [`ExitStatus`].
//! The VMM is the guest's firmware: the guest runs in ring 3 from its first
//! instruction, takes no interrupts and talks to the VMM through one MMIO page.
//!
//! | module | holds |
//! |---|---|
//! | [`vm`] | [`Vm`] and [`VmHandle`]: building, running and stopping a guest |
//! | [`config`] | [`VmConfig`]: what a guest is built from |
//! | [`error`] | [`StartError`]: why one could not start |
//! | [`status`] | [`ExitStatus`]: how one ended |
//! | [`stats`] | [`VmStats`]: what one did |
//! | [`access`] | the command line's say in what a guest may reach and have |
//! | [`cli`] | the command line, for this crate's command and for others |
//! | [`crash`] | [`CrashReport`]: what a crash looked like |
//! | [`interrupt`] | SIGINT and SIGTERM, turned into an orderly stop |
//! | `image` | the ELF file: checked, then loaded |
//! | `map` | the address space: which range of addresses is what |
//! | `memory` | guest memory: low memory and the arena |
//! | `paging` | page tables, made from the address space |
//! | `tables` | GDT, TSSs, IDT and exception stubs |
//! | `boot` | boot information and arguments |
//! | `clock` | the guest's clock, as the VMM sees it |
//! | `vcpu` | one vCPU: its first state, its thread, its exits |
//! | `mmio` | the MMIO page: which register an access means |
//! | `park` | vCPUs that sleep and are woken |
//! | `uart` | the 16550 and its lines |
//! | `exception` | names of exceptions and meanings of error codes |
//! | `symbols` | functions and lines of the image, by address |
//! | `streams` | standard input, standard output and the log, each with its thread |
//! | `descriptor` | the standard streams that this process inherited |
//! | `logs` | log records from the guest |
//! | `worker` | threads that can be interrupted in a blocking call |
//! | `sandbox` | what the threads that serve a guest may ask of the kernel |
//! | `control` | what the threads of one VM share: the outcome, counters |

pub mod access;
mod boot;
pub mod cli;
mod clock;
pub mod config;
mod control;
pub mod crash;
mod descriptor;
pub mod error;
mod exception;
#[cfg(fuzzing)]
pub mod fuzzing;
mod image;
pub mod interrupt;
mod logs;
mod map;
mod memory;
mod mmio;
mod paging;
mod park;
mod sandbox;
pub mod stats;
pub mod status;
mod streams;
mod symbols;
mod tables;
mod uart;
mod vcpu;
pub mod vm;
mod worker;

#[cfg(test)]
mod machinetest;
#[cfg(test)]
mod testimage;

pub use config::{Image, Input, Output, VmConfig};
pub use crash::CrashReport;
pub use error::{ImageError, StartError};
pub use stats::VmStats;
pub use status::ExitStatus;
pub use vm::{StopReason, Vm, VmHandle};
