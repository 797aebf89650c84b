//! What a developer of the project types: `cargo xtask COMMAND`.
//!
//! | module | holds |
//! |---|---|
//! | [`guest`] | building the guest programs |
//! | [`run`] | `run`: boots a guest program |
//! | `demo` | the host side of the `demo` program |
//! | [`test`] | `test`: proves it end to end |
//! | [`bench`] | `bench`: runs the program that measures |
//! | [`fuzz`] | `fuzz`: runs the fuzz targets |
//! | [`root`](mod@root) | where the workspace is |
//! | [`cargo`] | running cargo, and where it puts what it makes |
//! | `progress` | what is seen of a build |
//! | `tool` | running programs, with what is run shown |

pub mod bench;
pub mod cargo;
mod demo;
pub mod fuzz;
pub mod guest;
mod progress;
pub mod root;
pub mod run;
pub mod test;
mod tool;
