//! How a guest image is made.
//!
//! A guest program is an ordinary crate for the host's own target, linked in its
//! own way. Its build script asks for that:
//!
//! ```no_run
//! arca_build::link_programs();
//! ```
//!
//! With the feature `cargo`, commands and tests have the image built:
//!
//! ```no_run
//! # #[cfg(feature = "cargo")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let image = arca_build::image(env!("CARGO_MANIFEST_DIR"), "my-server")?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "cargo"))]
//! # fn main() {}
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `link` | what the linker is told; `link.ld` is the layout |
//! | `package` | the guest programs of a package, and building them |
//! | [`cargo`] | running cargo |
//! | `progress` | what is seen of a build |

mod link;

#[cfg(feature = "cargo")]
pub mod cargo;
#[cfg(feature = "cargo")]
mod package;
#[cfg(feature = "cargo")]
mod progress;

pub use link::link_programs;
#[cfg(feature = "cargo")]
pub use package::{Package, image};
