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
//! | `monitor` | the monitor: its event loop, what each request does, the end of a session |
//! | `requests` | the control pipe, and the requests that wait for their reply |
//! | `listeners` | listening sockets, and the connections that come in on them |
//! | `connects` | the connections that go out, and the host names that they need |
//! | `connections` | all connections: table, slots, queue, the regions of their pipes, and what of these is filled in ahead |
//! | `connection` | the state machine of one |
//! | `wake` | when and how either side is woken |
//! | `standard` | standard input, output and log |
//! | `signals` | signals that the program of the guest waits for |
//! | `policy` | what the guest may reach |
//!
//! What they share:
//!
//! | file | holds |
//! |---|---|
//! | `link` | the shared memory of a session, before a monitor serves it |
//! | `handle` | the monitor as other threads see it |
//! | `config` | configuration and limits |
//! | `stats` | what is counted |
//! | `state` | what is open, for a person to read |
//! | `trace` | what happens, for a thread that writes it down |
//! | `error`, `violation` | why a session could not begin; the rules whose breach ends it |
//! | `relay` | what every connection needs for its turn |
//! | `poller` | the epoll |
//! | `table` | ids with a generation |
//! | `options`, `sys` | socket options; the system calls of the relay |
//! | `pacing` | the connections that are sent without pacing |
//! | `deadline` | moments in the future |

mod config;
mod connection;
mod connections;
mod connects;
mod deadline;
mod error;
mod handle;
mod link;
mod listeners;
mod monitor;
mod options;
mod pacing;
mod policy;
mod poller;
mod relay;
mod requests;
mod signals;
mod standard;
mod state;
mod stats;
mod sys;
mod table;
#[cfg(test)]
mod testing;
pub mod trace;
mod violation;
mod wake;

pub use config::{Limits, MonitorConfig, ORPHAN_TIMEOUT};
pub use connections::Undelivered;
pub use connections::sizing::PipeSizes;
pub use error::{LinkError, MonitorError};
pub use handle::MonitorHandle;
pub use link::Link;
pub use monitor::{Dispatch, Monitor, Progress, SessionEnd};
pub use options::kernel_options;
pub use policy::{PolicyConfig, PolicyError, Rule, RuleError};
pub use standard::{StandardHandle, StandardPipe};
pub use state::{
    ConnectState, ConnectionState, Described, DirectionState, ListenerState, SessionState,
};
pub use stats::MonitorStats;
pub use violation::Violation;
pub use wake::notifier::VcpuWaker;
