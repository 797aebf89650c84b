//! Many connections at once, each served by a task of its own.

use crate::PIECE;
use crate::client::exchange::exchange;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::net::Net;
use crate::reply::{Outcome, spread};
use crate::wire::{Header, payload};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Connections that are being opened at any one time.
const OPENING: usize = 64;
/// What the buffers of all connections may take together, in bytes.
const BUFFERS: usize = 16 << 20;
/// What one of them has at least.
const LEAST_PIECE: usize = 16 << 10;

/// Connections that stay open between commands.
pub struct Crowd<N: Net> {
    net: N,
    connections: Vec<Arc<N::Connection>>,
}

impl<N: Net + Send + 'static> Crowd<N> {
    /// None yet.
    pub fn new(net: N) -> Self {
        Self {
            net,
            connections: Vec::new(),
        }
    }

    /// Opens `count` more.
    ///
    /// # Errors
    ///
    /// If one cannot be opened; those that could are open.
    pub fn open(&mut self, address: SocketAddr, count: usize) -> Result<(), Failure> {
        let lanes = count.min(OPENING);
        let tasks = (0..lanes).map(|lane| {
            let net = self.net.clone();
            // The lanes' shares add up to `count`.
            let share = (count + lane) / lanes;
            async move {
                let mut opened = Vec::with_capacity(share);
                for _ in 0..share {
                    match net.open(address).await {
                        Ok(connection) => opened.push(Arc::new(connection)),
                        Err(failure) => return (opened, Err(failure)),
                    }
                }
                (opened, Ok(()))
            }
        });
        let mut result = Ok(());
        for (opened, ended) in self.net.run_all(tasks.collect()) {
            self.connections.extend(opened);
            result = result.and(ended);
        }
        result
    }

    /// Makes `count` round trips of `size` bytes on each. Gives `ns` for all of them, and
    /// of the times of each `p50_ns`, `p99_ns` and `max_ns`.
    ///
    /// # Errors
    ///
    /// If one fails.
    pub fn exchange(&self, size: usize, count: usize) -> Result<Outcome, Failure> {
        let start = self.net.now();
        let times = self.each(|connection| {
            let net = self.net.clone();
            async move {
                let message = payload(size);
                // With room to spare, so that a read that takes all there is can be
                // told from one that was cut short.
                let mut answer = payload(size + 1);
                let mut times = Vec::with_capacity(count);
                let mut last = net.now();
                for _ in 0..count {
                    connection.write_all(&message).await?;
                    let mut len = 0;
                    while len < size {
                        match connection.read(&mut answer[len..]).await? {
                            0 => return Err(crate::failure::ended()),
                            count => len += count,
                        }
                    }
                    let now = net.now();
                    times.push(now - last);
                    last = now;
                }
                Ok(times)
            }
        })?;
        let took = self.net.now() - start;
        Ok(spread(times.concat(), Outcome::default().with("ns", took)))
    }

    /// Makes the same transfer on each.
    ///
    /// # Errors
    ///
    /// If one fails.
    pub fn transfer(&self, header: Header) -> Result<(), Failure> {
        let share = BUFFERS / self.connections.len().max(1);
        let piece = share.clamp(LEAST_PIECE, PIECE);
        let task = |connection: Arc<N::Connection>| async move {
            exchange(&*connection, header, piece).await
        };
        self.each(task).map(drop)
    }

    /// Closes all.
    pub fn close(&mut self) {
        self.connections.clear();
    }

    fn each<F, T>(&self, task: impl Fn(Arc<N::Connection>) -> F) -> Result<Vec<T>, Failure>
    where
        F: Future<Output = Result<T, Failure>> + Send + 'static,
        T: Send + 'static,
    {
        let tasks = self.connections.iter().map(|one| task(one.clone()));
        let results = self.net.run_all(tasks.collect());
        results.into_iter().collect()
    }
}
