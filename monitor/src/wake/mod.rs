//! When and how either side is woken: every decision about marks, wakes and polling
//! is made here.
//!
//! | file | holds |
//! |---|---|
//! | `policy.rs` | every threshold, with its reason |
//! | `notifier.rs` | marking slots for the guest, and waking a vCPU that sleeps |
//! | `coalescer.rs` | which wakes are deferred, and carry what comes meanwhile |
//! | `busy_poll.rs` | the monitor's poll for a guest's answer before it sleeps |
//! | `doorbells.rs` | whether the guest may defer a doorbell, so that the monitor looks by itself |
//! | `polling_mode.rs` | sessions whose peer neither marks nor rings |
//!
//! The monitor's thread goes through the coalescer. A thread of a standard pipe has
//! no later moment to send a deferred wake in, because it blocks next; it calls
//! [`notifier::GuestNotifier::mark_and_wake`].

pub(crate) mod busy_poll;
pub(crate) mod coalescer;
pub(crate) mod doorbells;
pub(crate) mod notifier;
pub(crate) mod policy;
pub(crate) mod polling_mode;
