//! What carries a vCPU: the hypervisor, and the devices of the one MMIO page.
//!
//! | file | holds |
//! |---|---|
//! | `machine.rs` | [`machine::Machine`]: what a platform does |
//! | `vcpu.rs` | [`vcpu::Vcpu`]: one of any platform, its loop, and its exits |
//! | `kvm/` | the machine and its vCPUs under KVM |
//! | `park.rs` | vCPUs that sleep and are woken |
//! | `inspect.rs` | vCPUs that are looked at while they run |
//! | `uart.rs` | the 16550 and its lines |
//! | `clock.rs` | the guest's clock, as the VMM sees it |

pub mod clock;
pub mod inspect;
pub mod kvm;
pub mod machine;
pub mod park;
pub mod uart;
pub mod vcpu;
