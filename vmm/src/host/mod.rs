//! The process around a guest.
//!
//! | file | holds |
//! |---|---|
//! | `streams/` | standard input, standard output and the log, each with its thread |
//! | `descriptor.rs` | the standard streams that this process inherited |
//! | `logs.rs` | log records from the guest |
//! | `worker.rs` | threads that can be interrupted in a blocking call |
//! | `trace/` | what happens in a session, written down |
//! | `signals.rs` | SIGINT and SIGTERM, turned into an orderly stop |
//! | `sandbox.rs` | what the threads that serve a guest may ask of the kernel |

pub(crate) mod descriptor;
pub mod logs;
pub mod sandbox;
pub mod signals;
pub mod streams;
pub mod trace;
pub mod worker;
