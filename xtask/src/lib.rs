//! What a developer of the project types: `cargo xtask COMMAND`.
//!
//! | module | holds |
//! |---|---|
//! | [`guest`] | building the guest programs, and where they are |
//! | [`run`] | `run`: boots a guest program |
//! | [`demo`] | the host side of the `demo` program |
//! | [`test`] | `test`: proves it end to end |
//! | [`bench`] | `bench`: the guest beside a native process |
//! | [`fuzz`] | `fuzz`: runs the fuzz targets |
//! | [`tool`] | running cargo, with what is run shown |

pub mod bench;
pub mod demo;
pub mod fuzz;
pub mod guest;
pub mod run;
pub mod test;
pub mod tool;
