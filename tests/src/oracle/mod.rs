//! The differential oracle: a script of socket operations is run by this
//! process with std's sockets, and by a guest, and both must see the same.
//!
//! | module | holds |
//! |---|---|
//! | [`case`](mod@case) | a script, and the differences that are expected |
//! | [`actor`] | who does what a script says: a native thread, or a guest |
//! | [`run`](mod@run) | one run of a script, and what was seen |
//! | [`compare`] | many runs of both kinds, compared |
//!
//! The scripts are in the folder `cases`, and their operations in the crate
//! `arca_script`. In each, `arca` is the side that is compared, and `host` its
//! peer, which is always native. Nothing waits for time to pass: a script says
//! what must have been seen before it goes on.

pub mod actor;
pub mod case;
pub mod compare;
pub mod run;

pub use actor::{Actor, GuestActor, NativeActor};
pub use case::{Case, Step, parse};
pub use compare::check;
pub use run::run;
