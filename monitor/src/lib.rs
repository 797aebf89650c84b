//! The monitor: the Linux side of Arca's networking.
//!
//! It owns every socket of a session, serves the requests of the control pipe
//! and relays between sockets and data pipes, in one thread around one epoll.
//! The guest is hostile until proven otherwise: what the monitor decides on, it
//! keeps on its own side, and what it reads from shared memory it reads once
//! and checks before use.
//!
//! Where to find what:
//!
//! | module | holds |
//! |---|---|
//! | `error` | why a session could not begin |
//! | [`link`] | the shared memory of a session, before a monitor serves it |
//! | [`monitor`] | the monitor and its event loop |
//! | `connection` | the state machine of one connection |
//! | `listener` | listening sockets and the accepts that wait on them |
//! | `control_pipe` | the control pipe |
//! | `resolver` | host names: a session's questions, and the threads of the process that ask them |
//! | `options` | socket options |
//! | [`policy`] | what the guest may reach |
//! | [`config`] | configuration and limits |
//! | [`sizing`] | how large data pipes are |
//! | `regions` | the regions of data pipes |
//! | [`standard`] | standard input, output and log |
//! | [`handle`] | the monitor as other threads see it |
//! | [`stats`] | what is counted |
//! | `deadline` | moments in the future |
//! | [`wake`] | when and how the guest is woken |
//! | [`violation`] | rules whose breach ends a session |
//! | `table` | ids with a generation |
//! | `relay` | what every connection needs for its turn |
//! | `poller` | the epoll |
//! | `sys` | the system calls of the relay |

pub mod config;
mod connection;
mod control_pipe;
mod deadline;
mod error;
pub mod handle;
pub mod link;
mod listener;
pub mod monitor;
mod options;
pub mod policy;
mod poller;
mod regions;
mod relay;
mod resolver;
pub mod sizing;
pub mod standard;
pub mod stats;
mod sys;
mod table;
#[cfg(test)]
mod testing;
pub mod violation;
pub mod wake;

pub use config::{Limits, MonitorConfig};
pub use error::{LinkError, MonitorError};
pub use handle::MonitorHandle;
pub use link::Link;
pub use monitor::{Dispatch, Monitor, Progress, SessionEnd, Undelivered};
pub use policy::{PolicyConfig, PolicyError, Rule, RuleError};
pub use sizing::PipeSizes;
pub use standard::{StandardHandle, StandardPipe};
pub use stats::MonitorStats;
pub use violation::Violation;
pub use wake::notifier::VcpuWaker;
