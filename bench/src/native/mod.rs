//! [`Net`] over std's sockets for blocking calls, and over epoll for tasks.
//!
//! | module | holds |
//! |---|---|
//! | [`blocking`] | streams and listeners |
//! | [`connection`] | connections for tasks |
//! | [`event_loop`] | the thread's epoll, and what runs tasks over it |

pub mod blocking;
pub mod connection;
pub mod event_loop;

use crate::PIECE;
use crate::client::transfer::{finish, give, take};
use crate::failure::Failure;
use crate::net::Net;
use crate::wire::{Header, payload};
use embedded_io::Write as _;
use futures_util::stream::{FuturesUnordered, StreamExt};
use socket2::SockRef;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// This process's own sockets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Native;

impl Net for Native {
    type Stream = blocking::Stream;
    type Listener = blocking::Listener;
    type Connection = connection::Connection;

    fn now(&self) -> u64 {
        static START: OnceLock<Instant> = OnceLock::new();
        let elapsed = START.get_or_init(Instant::now).elapsed();
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
    }

    fn unix_now(&self) -> u64 {
        // A clock from before 1970 makes nonsense of a measurement, and no harm.
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
        u64::try_from(elapsed.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
    }

    /// By an eventfd.
    fn notify(&self, count: usize) -> Result<u64, Failure> {
        let poll = mio::Poll::new().map_err(Failure::of("epoll"))?;
        let waker = mio::Waker::new(poll.registry(), mio::Token(0));
        let waker = waker.map_err(Failure::of("eventfd"))?;
        let start = self.now();
        for _ in 0..count {
            waker.wake().map_err(Failure::of("notify"))?;
        }
        Ok(self.now() - start)
    }

    /// Between two threads, by a futex.
    fn hand_over(&self, count: usize) -> Result<u64, Failure> {
        let turn = AtomicUsize::new(0);
        // Acquire and Release: who has the turn sees what the other did before.
        let wait = |mine: usize| {
            while turn.load(Ordering::Acquire) < mine {
                thread::park();
            }
        };
        let first = thread::current();
        thread::scope(|scope| {
            let second = scope.spawn(|| {
                for round in 0..count {
                    wait(2 * round + 1);
                    turn.store(2 * round + 2, Ordering::Release);
                    first.unpark();
                }
            });
            let start = self.now();
            for round in 0..count {
                turn.store(2 * round + 1, Ordering::Release);
                second.thread().unpark();
                wait(2 * round + 2);
            }
            Ok(self.now() - start)
        })
    }

    fn sleep_until(&self, deadline: u64) {
        thread::sleep(Duration::from_nanos(deadline.saturating_sub(self.now())));
    }

    fn connect(&self, address: SocketAddr) -> Result<blocking::Stream, Failure> {
        blocking::Stream::connect(address)
    }

    fn listen(&self, address: SocketAddr) -> Result<blocking::Listener, Failure> {
        blocking::Listener::bind(address)
    }

    fn open(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = Result<connection::Connection, Failure>> + Send + 'static {
        connection::Connection::connect(address)
    }

    /// With two threads and blocking calls.
    fn transfer_both_ways(&self, address: SocketAddr, header: Header) -> Result<u64, Failure> {
        let mut stream = blocking::Stream::connect(address)?;
        let mut other = stream.try_clone()?;
        let outgoing = payload(PIECE);
        let mut incoming = payload(PIECE);
        let start = self.now();
        let asked = stream.write_all(&header.to_bytes());
        asked.map_err(Failure::of("write"))?;
        thread::scope(|scope| {
            let giver = scope.spawn(|| give(&mut other, header.up, &outgoing));
            let taken = take(&mut stream, header.down, &mut incoming);
            join(giver).and(taken)
        })?;
        finish(&mut stream, header)?;
        Ok(self.now() - start)
    }

    fn serve_all<F>(
        &self,
        place: SocketAddr,
        count: usize,
        listening: impl FnOnce(SocketAddr),
        task: impl Fn(connection::Connection) -> F,
    ) -> Result<(), Failure>
    where
        F: Future<Output = Result<(), Failure>> + 'static,
    {
        let (socket, address) = connection::bind(place)?;
        // Connections have it from their listener.
        let set = SockRef::from(&socket).set_tcp_nodelay(true);
        set.map_err(Failure::of("TCP_NODELAY"))?;
        let listener = connection::Listener::adopt(socket)?;
        listening(address);
        let mut left = count;
        let mut tasks = FuturesUnordered::new();
        event_loop::block_on(poll_fn(|context| {
            while left > 0
                && let Poll::Ready(accepted) = listener.poll_accept(context)
            {
                tasks.push(task(accepted?));
                left -= 1;
            }
            while let Poll::Ready(Some(ended)) = tasks.poll_next_unpin(context) {
                ended?;
            }
            match left == 0 && tasks.is_empty() {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            }
        }))
    }

    /// On the calling thread.
    fn run_all<F>(&self, tasks: Vec<F>) -> Vec<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let numbered = tasks.into_iter().enumerate();
        let running: FuturesUnordered<_> = numbered
            .map(|(number, task)| async move { (number, task.await) })
            .collect();
        let mut ended: Vec<_> = event_loop::block_on(running.collect());
        ended.sort_unstable_by_key(|&(number, _)| number);
        ended.into_iter().map(|(_, output)| output).collect()
    }
}

/// What a thread came to.
pub(crate) fn join<T>(thread: ScopedJoinHandle<'_, Result<T, Failure>>) -> Result<T, Failure> {
    let gone = |_| Failure::new("a thread panicked");
    thread.join().map_err(gone)?
}
