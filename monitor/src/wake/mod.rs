//! When and how the guest is woken.
//!
//! | file | holds |
//! |---|---|
//! | `notifier.rs` | marking slots for the guest and waking a vCPU that sleeps |
//! | `coalescer.rs` | which wakes are held back, and carry what came meanwhile |

pub(crate) mod coalescer;
pub mod notifier;
