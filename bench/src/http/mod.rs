//! HTTP: a server on picoserve, and what loads it.
//!
//! | module | holds |
//! |---|---|
//! | [`server`] | answers the requests of a connection |
//! | [`socket`] | a [`Connection`](crate::Connection) as picoserve wants it |
//! | [`load`] | the clients |

#[cfg(feature = "std")]
pub mod load;
pub mod server;
mod socket;

/// What `GET /` is answered with.
pub const GREETING: &str = "hello from Arca\n";
