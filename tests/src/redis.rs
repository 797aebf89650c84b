//! A Redis server on loopback.

use crate::guest::deadline;
use crate::local::free_port;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A Redis server that keeps nothing; stopped when dropped.
pub struct Redis {
    process: Child,
    port: u16,
}

impl Redis {
    /// Starts one; `None` where there is none to be had.
    ///
    /// # Panics
    ///
    /// If it does not answer by the deadline.
    #[must_use]
    pub fn start() -> Option<Self> {
        let port = free_port();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let Ok(process) = command.spawn() else {
            crate::skip("redis-server is missing");
            return None;
        };
        let redis = Self { process, port };
        let end = Instant::now() + deadline();
        while !redis.answers() {
            assert!(Instant::now() < end, "redis-server does not answer");
            thread::park_timeout(Duration::from_millis(5));
        }
        Some(redis)
    }

    /// The port of loopback where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    fn answers(&self) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        TcpStream::connect(address).is_ok_and(|mut stream| {
            let mut answer = [0; 7];
            stream.write_all(b"PING\r\n").is_ok()
                && stream.read_exact(&mut answer).is_ok()
                && answer == *b"+PONG\r\n"
        })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
