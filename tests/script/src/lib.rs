//! A small language of socket operations. A script is told line by line to a
//! program, which does what a line says and answers with what it saw. The same
//! interpreter runs in a guest and in a native process, over whatever implements
//! [`System`]: so that what is the same can be told from what is not.
//!
//! | module | holds |
//! |---|---|
//! | [`op`] | the operations, and how a line says them |
//! | [`data`] | bytes to send, and what is said of bytes that came |
//! | [`system`] | what the interpreter needs of the system it runs on |
//! | [`interpreter`] | the interpreter |
//! | `transfer` | the operations that move bytes |
//! | [`native`] | [`System`] over std's sockets |

#![cfg_attr(not(any(test, feature = "std")), no_std)]

extern crate alloc;

pub mod data;
pub mod interpreter;
#[cfg(feature = "std")]
pub mod native;
pub mod op;
pub mod system;
mod transfer;

pub use data::{Data, noise};
pub use interpreter::Interpreter;
pub use op::{How, Op, Seen};
pub use system::{Failure, Listener, Made, Outcome, Stream, System};
