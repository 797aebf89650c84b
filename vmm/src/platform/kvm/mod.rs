//! vCPUs under KVM.
//!
//! | file | holds |
//! |---|---|
//! | `setup.rs` | the state that a vCPU starts in |
//! | `vcpu.rs` | one vCPU: its thread, and what happens when it leaves the guest |

mod setup;
pub mod vcpu;

pub use setup::{HostFeatures, Start};
