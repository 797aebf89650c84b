//! vCPUs under KVM.
//!
//! | file | holds |
//! |---|---|
//! | `machine.rs` | [`KvmMachine`]: memory, doorbell, and what vCPUs are made from |
//! | `setup.rs` | the state that a vCPU starts in |
//! | `vcpu.rs` | `KvmVcpu`: what its exits are |

mod machine;
mod setup;
mod vcpu;

pub use machine::{KvmMachine, OpenKvm};

use crate::error::StartError;
use nix::libc;

/// Repeats a request to KVM for as long as signals interrupt it: making a
/// machine is given up where one is pending.
fn uninterrupted<T>(
    mut request: impl FnMut() -> Result<T, kvm_ioctls::Error>,
) -> Result<T, kvm_ioctls::Error> {
    loop {
        match request() {
            Err(error) if error.errno() == libc::EINTR => {}
            result => return result,
        }
    }
}

fn kvm_failed(action: &'static str) -> impl Fn(kvm_ioctls::Error) -> StartError {
    move |error| StartError::Kvm {
        action,
        source: error.into(),
    }
}
