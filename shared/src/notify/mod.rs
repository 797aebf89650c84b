//! Notification: how each side learns that the other did something, without
//! polling for ever and without spurious wake-ups.
//!
//! | module | holds |
//! |---|---|
//! | `ready_set` | [`ReadySet`]: for each direction, one bit for each pipe in which something happened |
//! | `sleeper` | [`Sleeper`]: the flag by which the monitor, or a vCPU, says that it goes to sleep |
//! | `area` | [`NotifyArea`]: where both lie in the arena |
//! | [`request`] | what other threads of the host ask of a monitor that may sleep |
//!
//! # The handshake
//!
//! ```text
//!   sender                             receiver
//!   publish the ring change            set the sleep flag
//!   mark leaf, then summary            fence (SeqCst)
//!   fence (SeqCst)                     check the summary once more
//!   sleep flag set? swap it to awake,  empty: sleep
//!     and wake whoever it was          else: clear the flag, go on
//! ```
//!
//! One of the two fences is first. If it is the sender's, the receiver's check
//! finds the mark; if it is the receiver's, the sender finds the flag set. Only
//! the sender whose swap cleared the flag wakes, so a sleep costs one wake.
//!
//! A sender may defer the wake, and so carry several marks with one: it looks at the flag
//! after each mark, and swaps it later.
//!
//! Where several may sleep, the sender wakes one of them, whichever it finds first.
//! That one is then answerable for all that was published: before it goes on with
//! what it waited for, it checks whether anything is left, and hands the wake on.
//!
//! A receiver clears summary, then leaf, and then reads the rings: a mark that
//! comes after the clearing sets the bits again, one that came before is acted on.

mod area;
mod ready_set;
pub mod request;
mod sleeper;

pub use area::{Counter, NotifyArea};
pub use ready_set::{ReadySet, Slot};
pub use sleeper::{Sleeper, SleeperState};

/// Two doorbells in less than this are a burst, in nanoseconds. A sleeper of Arca's may
/// defer one only for what it marks before this has passed since it rang the last but one.
/// A monitor that has heard two in twice that time before it sleeps looks for marks by
/// itself after a while (PROTOCOL.md, section 10).
pub const DOORBELL_BURST: u64 = 1_000_000;

#[cfg(all(test, not(loom)))]
mod tests;
