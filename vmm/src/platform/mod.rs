//! What carries a guest, and the devices of the one MMIO page.
//!
//! | file | holds |
//! |---|---|
//! | `choice.rs` | [`Platform`]: which one carries a guest |
//! | `machine.rs` | [`machine::Machine`]: what a platform does |
//! | `vcpu.rs` | [`vcpu::Vcpu`]: one of any platform, its loop, and its exits |
//! | `kvm/` | the machine and its vCPUs under KVM |
//! | `process/` | the machine and its vCPUs in a process |
//! | `park.rs` | vCPUs that sleep and are woken |
//! | `cores.rs` | the cores that vCPUs stay on, and who makes way |
//! | `placement.rs` | on which core a vCPU runs |
//! | `usage.rs` | what its thread has used of a core, and what that says of others |
//! | `inspect.rs` | vCPUs that are looked at while they run |
//! | `uart.rs` | the 16550 and its lines |
//! | `clock.rs` | the guest's clock, as the VMM sees it |

mod choice;
pub mod clock;
mod cores;
pub mod inspect;
pub mod kvm;
pub mod machine;
pub mod park;
mod placement;
pub mod process;
pub mod uart;
mod usage;
pub mod vcpu;

pub use choice::{Chosen, Platform};
