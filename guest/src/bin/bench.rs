//! `bench [ADDRESS]`: the guest's end of `cargo xtask bench`. Reads commands from
//! standard input, a line each, does what they say and answers with what was
//! measured; see the crate `arca_bench`.
//!
//! With ADDRESS, connects there before anything else.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use arca_bench::{Connection, Failure, Listener, Net, Stream, session};
use arca_guest::net::{self, AsyncTcpStream, SocketAddr, TcpListener, TcpStream};
use arca_guest::process::{ExitCode, exit};
use arca_guest::stdio::stdin;
use arca_guest::time::{since_boot_ns, since_unix_epoch};
use arca_guest::{args, block_on, eprintln, println, spawn};
use core::future::Future;

arca_guest::entry!(main);

fn main() -> Result<(), Failure> {
    let began = Guest.unix_now();
    let mut args = args().skip(1);
    let first = args.next().map(str::parse::<SocketAddr>);
    let (None | Some(Ok(_)), None) = (&first, args.next()) else {
        eprintln!("usage: bench [ADDRESS]");
        exit(ExitCode(2));
    };
    let mut lines = stdin().lines();
    session::serve(
        &Guest,
        began,
        first.and_then(Result::ok),
        || lines.next()?.ok(),
        |line| println!("{line}"),
    )
}

/// The guest's clocks and sockets.
#[derive(Clone, Copy)]
struct Guest;

/// A connection for blocking calls.
struct GuestStream(TcpStream);

/// A listening socket.
struct GuestListener(TcpListener);

/// A connection for tasks.
struct GuestConnection(AsyncTcpStream);

impl Net for Guest {
    type Stream = GuestStream;
    type Listener = GuestListener;
    type Connection = GuestConnection;

    fn now(&self) -> u64 {
        since_boot_ns()
    }

    fn unix_now(&self) -> u64 {
        since_unix_epoch().as_nanos() as u64
    }

    fn connect(&self, address: SocketAddr) -> Result<GuestStream, Failure> {
        let stream = net::connect(address).map_err(Failure::of("connect"))?;
        Ok(GuestStream(stream))
    }

    fn listen(&self, address: SocketAddr) -> Result<GuestListener, Failure> {
        let listener = net::bind(address).map_err(Failure::of("listen"))?;
        Ok(GuestListener(listener))
    }

    fn open(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = Result<GuestConnection, Failure>> + Send + 'static {
        GuestConnection::open(address)
    }

    /// As tasks, on all vCPUs.
    fn run_all<F>(&self, tasks: Vec<F>) -> Vec<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let running: Vec<_> = tasks.into_iter().map(spawn).collect();
        block_on(async {
            let mut ended = Vec::with_capacity(running.len());
            for task in running {
                ended.push(task.await);
            }
            ended
        })
    }
}

impl GuestConnection {
    async fn open(address: SocketAddr) -> Result<GuestConnection, Failure> {
        let stream = net::connect_async(address).await;
        Ok(GuestConnection(stream.map_err(Failure::of("connect"))?))
    }
}

impl Stream for GuestStream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        self.0.read(buffer).map_err(Failure::of("read"))
    }

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.write_all(bytes).map_err(Failure::of("write"))
    }
}

impl Listener for GuestListener {
    type Stream = GuestStream;

    fn address(&self) -> SocketAddr {
        self.0.local_addr()
    }

    fn accept(&self) -> Result<GuestStream, Failure> {
        let (stream, _) = self.0.accept().map_err(Failure::of("accept"))?;
        Ok(GuestStream(stream))
    }
}

impl Connection for GuestConnection {
    async fn read(&self, buffer: &mut [u8]) -> Result<usize, Failure> {
        self.0.read(buffer).await.map_err(Failure::of("read"))
    }

    async fn write(&self, bytes: &[u8]) -> Result<usize, Failure> {
        self.0.write(bytes).await.map_err(Failure::of("write"))
    }
}
