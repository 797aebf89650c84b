//! vCPUs in a process, where there is no KVM.
//!
//! The guest's code runs natively in a child process that holds nothing but guest
//! memory, at the guest's addresses and with its protections, and can make five system
//! calls (`../../../stub`). The VMM and that process, the stub, share an area in which
//! each vCPU says what it left the guest for. The guest can write all of the stub's
//! memory and of the area: nothing read there is believed.
//!
//! | file | holds |
//! |---|---|
//! | `machine.rs` | [`ProcessMachine`]: guest memory, the plan, the child |
//! | `area.rs` | [`SharedArea`]: the memory shared with the stub |
//! | `child.rs` | the child's life: start, kill, end |
//! | `vcpu.rs` | what its exits are |
//! | `needs.rs` | what it needs of the kernel, and what mends what is lacking |
//! | `frequency.rs` | the time-stamp counter's frequency, measured |

mod area;
mod child;
mod frequency;
mod machine;
pub mod needs;
mod vcpu;

pub use area::SharedArea;
#[cfg(test)]
pub use child::STUB;
pub use frequency::Reading;
pub use machine::ProcessMachine;
