//! What a workload needs of the system it runs on.

use crate::PIECE;
use crate::client::exchange::exchange;
use crate::connection::{Connection, Listener};
use crate::failure::{Failure, ended};
use crate::wire::Header;
use alloc::vec;
use alloc::vec::Vec;
use core::future::Future;
use core::net::SocketAddr;
use embedded_io::{Read, Write};

/// A system with clocks and TCP.
///
/// Blocking calls serve one connection at a time, tasks serve many. Connections
/// are used on the thread that opened them.
pub trait Net: Clone {
    /// A connection for blocking calls.
    type Stream: Read + Write;
    /// A listening socket for blocking calls.
    type Listener: Listener<Stream = Self::Stream>;
    /// A connection for tasks.
    type Connection: Connection;

    /// Nanoseconds of a monotonic clock.
    fn now(&self) -> u64;

    /// Nanoseconds since the Unix epoch.
    fn unix_now(&self) -> u64;

    /// Tells the host so many times, without waiting for it, that there is something
    /// to do; gives the nanoseconds that took.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn notify(&self, count: usize) -> Result<u64, Failure>;

    /// Wakes a sleeper on another processor and sleeps until it does the same, so many
    /// times; gives the nanoseconds that took.
    ///
    /// # Errors
    ///
    /// If there is no other processor.
    fn hand_over(&self, count: usize) -> Result<u64, Failure>;

    /// Sleeps until [`Net::now`] says so much or more.
    fn sleep_until(&self, deadline: u64);

    /// Connects.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn connect(&self, address: SocketAddr) -> Result<Self::Stream, Failure>;

    /// Listens.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn listen(&self, address: SocketAddr) -> Result<Self::Listener, Failure>;

    /// Connects, for a task.
    fn open(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = Result<Self::Connection, Failure>> + Send + 'static;

    /// Makes one transfer in both directions at once over a new connection, in
    /// the way that is fastest here, and gives the nanoseconds it took. As two
    /// futures of one task, unless there is a faster one.
    ///
    /// # Errors
    ///
    /// If the connection fails, or bytes are missing at its end.
    fn transfer_both_ways(&self, address: SocketAddr, header: Header) -> Result<u64, Failure> {
        let opened = self.run_all(vec![self.open(address)]).pop();
        let connection = opened.ok_or_else(ended)??;
        let start = self.now();
        let task = async move { exchange(&connection, header, PIECE).await };
        let done = self.run_all(vec![task]).pop();
        done.ok_or_else(ended)??;
        Ok(self.now() - start)
    }

    /// Generates or parses a transfer where its bytes are, in the memory that the system
    /// lends; see [`work`](crate::client::work).
    ///
    /// # Errors
    ///
    /// If the system lends none, or as [`work::copied`](crate::client::work::copied).
    fn work_in_place(&self, _stream: &mut Self::Stream, _header: Header) -> Result<u64, Failure> {
        Err(Failure::new("this system lends no memory"))
    }

    /// Listens, says where, and serves `count` connections, each by a task of its own on
    /// the calling thread. They send small pieces at once (TCP_NODELAY). Gives up with the
    /// first that fails.
    ///
    /// # Errors
    ///
    /// What the system says, or what a task does.
    fn serve_all<F>(
        &self,
        place: SocketAddr,
        count: usize,
        listening: impl FnOnce(SocketAddr),
        task: impl Fn(Self::Connection) -> F,
    ) -> Result<(), Failure>
    where
        F: Future<Output = Result<(), Failure>> + 'static;

    /// Runs all of `tasks` at once, to their ends; the results are in order.
    fn run_all<F>(&self, tasks: Vec<F>) -> Vec<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static;
}
