//! The client ends of the workloads.
//!
//! | module | holds |
//! |---|---|
//! | [`transfer`] | bulk data over one connection |
//! | [`exchange`] | a transfer in both directions, as one task |
//! | [`ping`] | round trips over one connection |
//! | [`churn`] | connections that are opened, used once and closed |
//! | [`crowd`] | many connections at once |
//! | [`work`] | bulk data that is generated and parsed |
//! | [`exits`] | no data: notifications, hand-overs and sleeps |

pub mod churn;
pub mod crowd;
pub mod exchange;
pub mod exits;
pub mod ping;
pub mod transfer;
pub mod work;
