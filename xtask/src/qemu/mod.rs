//! An emulated machine with a KVM of its own: the same programs and images behind
//! QEMU's nested AMD virtualisation, on any host.
//!
//! | module | holds |
//! |---|---|
//! | `run` | `run --qemu` |
//! | `test` | `test --qemu` |
//! | `machine` | the QEMU process |
//! | `init` | the machine's first process, which runs what the host asks for |
//! | `control` | what these two say to each other |
//! | `stdin` | standard input, read when the guest asks for it |
//! | `interrupts` | signals |
//! | `console` | what is shown when the machine fails |
//! | `kernel` | which kernel boots |
//! | `package` | that of the distribution, downloaded |
//! | `modules`, `bzimage`, `unpack` | what a kernel comes in |
//! | `initramfs` | the machine's files |
//! | `programs` | what a program needs to run there |

mod bzimage;
mod console;
mod control;
mod init;
mod initramfs;
pub(crate) mod interrupts;
mod kernel;
mod machine;
mod modules;
mod package;
mod programs;
pub(crate) mod run;
pub(crate) mod stdin;
pub(crate) mod test;
mod unpack;

pub use init::init;

use clap::Args;
use std::path::PathBuf;

/// The name of the command that is the machine's init.
pub const INIT: &str = "machine-init";

/// Options of a command that can run in a machine.
#[derive(Args, Clone, Debug)]
pub struct QemuOptions {
    /// Run in a machine that QEMU emulates, with a KVM and a loopback of its own
    #[arg(long)]
    pub qemu: bool,
    /// The machine's kernel (bzImage or ELF, with kvm-amd); by default one in
    /// /boot, or else the distribution's, downloaded
    #[arg(long, value_name = "PATH", requires = "qemu")]
    pub kernel: Option<PathBuf>,
}
