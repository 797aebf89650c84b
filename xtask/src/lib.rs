//! What a developer of the project types: `cargo xtask COMMAND`.
//!
//! | module | holds |
//! |---|---|
//! | [`build`] | `build`: guest programs, and where their images are |
//! | [`list`] | `list`: the guest programs, and what each does |
//! | [`completions`] | `completions`: scripts for shells |
//! | [`guest`] | the guest programs of this workspace |
//! | [`new`] | `new`: a guest crate of one's own |
//! | [`run`] | `run`: boots a guest program |
//! | `demo` | the host side of the `demo` program |
//! | [`test`] | `test`: proves it end to end |
//! | [`bench`] | `bench`: runs the program that measures |
//! | [`fuzz`] | `fuzz`: runs the fuzz targets |
//! | [`doctor`] | `doctor`: what this machine has of what the project can use |
//! | [`qemu`] | `--qemu`: the same in an emulated machine |
//! | [`built`] | programs that were built elsewhere |
//! | [`root`](mod@root) | where the workspace is |
//! | [`cargo`] | running cargo for the workspace |
//! | [`tool`] | running programs, with what is run shown |

pub mod bench;
pub mod build;
pub mod built;
pub mod cargo;
pub mod completions;
mod demo;
pub mod doctor;
pub mod fuzz;
pub mod guest;
pub mod list;
pub mod new;
pub mod qemu;
pub mod root;
pub mod run;
pub mod test;
pub mod tool;
