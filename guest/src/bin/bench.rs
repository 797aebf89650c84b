//! `bench [ADDRESS]`: the guest's end of `cargo xtask bench`. Reads commands from
//! standard input, a line each, does what they say and answers with what was
//! measured; see the crate `arca_bench`.
//!
//! With ADDRESS, connects there before anything else.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec::Vec;
use arca_bench::client::work::{generate, parse};
use arca_bench::wire::Header;
use arca_bench::{Connection, Failure, Listener, Net, session};
use arca_guest::net::{self, AsyncTcpStream, SocketAddr, TcpListener, TcpStream};
use arca_guest::process::{ExitCode, exit};
use arca_guest::stdio::stdin;
use arca_guest::time::{since_boot_ns, since_unix_epoch};
use arca_guest::{args, block_on, boot, eprintln, println, registers, spawn, spawn_local, vcpu};
use core::future::Future;
use core::hint;
use core::sync::atomic::{AtomicUsize, Ordering};

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

/// Whose turn it is of two vCPUs.
struct Turn {
    number: AtomicUsize,
    /// The second of them, once it is there.
    second: AtomicUsize,
}

impl Turn {
    /// Gives the turn of that number to a vCPU.
    fn pass(&self, number: usize, vcpu: usize) {
        // Release: pairs with the Acquire in `wait`.
        self.number.store(number, Ordering::Release);
        registers::kick(vcpu);
    }

    /// Sleeps until the turn of that number has come. A kick that comes before the
    /// park ends it.
    fn wait(&self, number: usize) {
        while self.number.load(Ordering::Acquire) < number {
            registers::park(None);
        }
    }
}

/// A listening socket.
struct GuestListener(TcpListener);

/// A connection for tasks.
struct GuestConnection(AsyncTcpStream);

impl Net for Guest {
    type Stream = TcpStream;
    type Listener = GuestListener;
    type Connection = GuestConnection;

    fn now(&self) -> u64 {
        since_boot_ns()
    }

    fn unix_now(&self) -> u64 {
        since_unix_epoch().as_nanos() as u64
    }

    /// By the doorbell.
    fn notify(&self, count: usize) -> Result<u64, Failure> {
        let start = self.now();
        for _ in 0..count {
            registers::ring_doorbell();
        }
        Ok(self.now() - start)
    }

    /// Between two vCPUs, by kicks.
    fn hand_over(&self, count: usize) -> Result<u64, Failure> {
        if boot::info().vcpus < 2 {
            return Err(Failure::new("handing over takes two vCPUs"));
        }
        let turn = Arc::new(Turn {
            number: AtomicUsize::new(0),
            second: AtomicUsize::new(usize::MAX),
        });
        let first = vcpu::current();
        let their = Arc::clone(&turn);
        // This vCPU goes nowhere before the task runs: it is another one that runs it.
        let task = spawn(async move {
            their.second.store(vcpu::current(), Ordering::Release);
            for round in 0..count {
                their.wait(2 * round + 1);
                their.pass(2 * round + 2, first);
            }
        });
        // Acquire: pairs with the Release of the task.
        let second = loop {
            match turn.second.load(Ordering::Acquire) {
                usize::MAX => hint::spin_loop(),
                second => break second,
            }
        };
        let start = self.now();
        for round in 0..count {
            turn.pass(2 * round + 1, second);
            turn.wait(2 * round + 2);
        }
        let took = self.now() - start;
        block_on(task);
        Ok(took)
    }

    fn sleep_until(&self, deadline: u64) {
        while self.now() < deadline {
            registers::park(Some(deadline));
        }
    }

    fn connect(&self, address: SocketAddr) -> Result<TcpStream, Failure> {
        net::connect(address).map_err(Failure::of("connect"))
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

    fn work_in_place(&self, stream: &mut TcpStream, header: Header) -> Result<u64, Failure> {
        let mut left = header.up;
        while left > 0 {
            let put = stream.write_with(|room| {
                let len = left.min(room.len() as u64) as usize;
                generate(&mut room[..len]);
                len
            });
            left -= put.map_err(Failure::of("write"))? as u64;
        }
        let (mut left, mut seen) = (header.down, 0);
        while left > 0 {
            let bytes = stream.fill_buf().map_err(Failure::of("read"))?;
            let len = left.min(bytes.len() as u64) as usize;
            if len == 0 {
                return Err(Failure::new("the connection ended early"));
            }
            seen += parse(&bytes[..len]);
            stream.consume(len);
            left -= len as u64;
        }
        Ok(seen)
    }

    fn serve_all<F>(
        &self,
        place: SocketAddr,
        count: usize,
        listening: impl FnOnce(SocketAddr),
        task: impl Fn(GuestConnection) -> F,
    ) -> Result<(), Failure>
    where
        F: Future<Output = Result<(), Failure>> + 'static,
    {
        let listener = net::bind(place).map_err(Failure::of("listen"))?;
        let set = listener.set_nodelay(true);
        set.map_err(Failure::of("TCP_NODELAY"))?;
        listening(listener.local_addr());
        block_on(async {
            let mut running = Vec::new();
            for _ in 0..count {
                let accepted = listener.accept_async().await;
                let (stream, _) = accepted.map_err(Failure::of("accept"))?;
                let connection = GuestConnection(stream.into_async());
                running.push(spawn_local(task(connection)));
            }
            for task in running {
                task.await?;
            }
            Ok(())
        })
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

impl Listener for GuestListener {
    type Stream = TcpStream;

    fn address(&self) -> SocketAddr {
        self.0.local_addr()
    }

    fn accept(&self) -> Result<TcpStream, Failure> {
        let (stream, _) = self.0.accept().map_err(Failure::of("accept"))?;
        Ok(stream)
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
