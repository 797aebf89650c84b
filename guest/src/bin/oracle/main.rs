//! `oracle [tasks]`: does what a script says (crate `arca_script`): reads
//! operations from standard input, a line each, and answers each with a line.
//!
//! With `tasks`, every operation that may wait is a task of its own and uses the
//! asynchronous calls; else it is done with the blocking ones. What goes on while
//! others are done is a task either way.

#![no_std]
#![no_main]

extern crate alloc;

mod stream;

use alloc::sync::Arc;
use arca_guest::net::{Errno, Error, SocketAddr, TcpListener, TcpStream, connect, connect_host};
use arca_guest::runtime::session;
use arca_guest::select::{Either, select};
use arca_guest::stdio::stdin;
use arca_guest::sync::Signal;
use arca_guest::time::Duration;
use arca_guest::{JoinHandle, args, block_on, println, sleep, spawn};
use arca_script::{Failure, Interpreter, Listener, Outcome, System};
use arca_shared::client::{OwnedReadHalf, OwnedWriteHalf};
use arca_shared::protocol::message::SocketOption;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use stream::GuestStream;

arca_guest::entry!(main);

/// How long the others run before a condition is checked again.
const PAUSE: Duration = Duration::from_micros(100);

fn main() {
    let tasks = args().nth(1) == Some("tasks");
    let mut interpreter = Interpreter::new(Guest { tasks });
    let mut lines = stdin().lines();
    while let Some(Ok(line)) = lines.next() {
        println!("{}", interpreter.run(&line));
    }
}

/// The guest's sockets; `tasks` is the program's argument.
#[derive(Clone, Copy)]
struct Guest {
    tasks: bool,
}

/// A job, whether it waits, and what gives it up. Not the task is cancelled, but
/// the operation dropped: so that an outcome that comes meanwhile is not lost.
struct Job {
    task: JoinHandle<Option<Outcome<Guest>>>,
    waits: Arc<AtomicBool>,
    cancel: Arc<Signal<()>>,
}

/// A listener, and whether its calls are the asynchronous ones.
#[derive(Clone)]
struct GuestListener {
    listener: Arc<TcpListener>,
    tasks: bool,
    limited: Arc<AtomicBool>,
}

fn checked<T>(result: Result<T, Error>) -> Result<T, Failure> {
    result.map_err(Failure::from)
}

impl Guest {
    fn stream(self, stream: TcpStream) -> GuestStream {
        GuestStream::new(stream, self.tasks)
    }
}

impl System for Guest {
    type Stream = GuestStream;
    type Listener = GuestListener;
    type Reader = OwnedReadHalf;
    type Writer = OwnedWriteHalf;
    type Job = Job;

    fn for_job(&self) -> Self {
        Self { tasks: true }
    }

    async fn connect(
        &self,
        to: SocketAddr,
        within: Option<Duration>,
    ) -> Result<GuestStream, Failure> {
        let session = session();
        let connected = match (within, self.tasks) {
            (Some(within), true) if !within.is_zero() => {
                let connect = session.connect_async(to);
                session.timeout(within, connect).await
            }
            (Some(within), _) => session.connect_timeout(to, within),
            (None, true) => session.connect_async(to).await,
            (None, false) => connect(to),
        };
        checked(connected).map(|stream| self.stream(stream))
    }

    async fn connect_name(&self, host: &str, port: u16) -> Result<GuestStream, Failure> {
        let connected = match self.tasks {
            true => session().connect_name_async(host, port).await,
            false => connect_host(host, port),
        };
        checked(connected).map(|stream| self.stream(stream))
    }

    fn bind(&self, at: SocketAddr) -> Result<GuestListener, Failure> {
        let listener = checked(session().bind(at))?;
        Ok(GuestListener {
            listener: Arc::new(listener),
            tasks: self.tasks,
            limited: Arc::default(),
        })
    }

    fn run(&self, op: impl Future<Output = Outcome<Self>> + Send + 'static) -> Outcome<Self> {
        match self.tasks {
            true => block_on(spawn(op)),
            false => block_on(op),
        }
    }

    fn block<T>(&self, future: impl Future<Output = T>) -> T {
        block_on(future)
    }

    fn start(&self, op: impl Future<Output = Outcome<Self>> + Send + 'static) -> Job {
        let waits = Arc::new(AtomicBool::new(false));
        let cancel = Arc::new(Signal::new());
        let (told, cancelled) = (waits.clone(), cancel.clone());
        let task = spawn(async move {
            let mut op = pin!(op);
            let op = poll_fn(|context| {
                // Release, here and below: what the operation did before is seen
                // by whoever finds that it waits.
                told.store(false, Ordering::Release);
                let poll = op.as_mut().poll(context);
                told.store(poll.is_pending(), Ordering::Release);
                poll
            });
            // Where both are ready, the operation wins.
            match select(op, cancelled.wait()).await {
                Either::First(outcome) => Some(outcome),
                Either::Second(()) => None,
            }
        });
        Job {
            task,
            waits,
            cancel,
        }
    }

    fn waits(&self, job: &Job) -> bool {
        job.waits.load(Ordering::Acquire)
    }

    fn is_done(&self, job: &Job) -> bool {
        job.task.is_finished()
    }

    fn finish(&self, job: Job) -> Outcome<Self> {
        match block_on(job.task) {
            Some(outcome) => outcome,
            None => unreachable!("nobody has cancelled it"),
        }
    }

    fn cancel(&self, job: Job) -> Result<Option<Outcome<Self>>, Failure> {
        job.cancel.signal(());
        Ok(block_on(job.task))
    }

    fn pause(&self) {
        block_on(sleep(PAUSE));
    }
}

impl Listener for GuestListener {
    type System = Guest;

    fn for_job(&self) -> Self {
        let tasks = true;
        Self {
            tasks,
            ..self.clone()
        }
    }

    async fn accept(&self) -> Result<(GuestStream, SocketAddr), Failure> {
        let accepted = match self.tasks && !self.limited.load(Ordering::Relaxed) {
            true => self.listener.accept_async().await,
            false => self.listener.accept(),
        };
        let (stream, peer) = checked(accepted)?;
        let tasks = self.tasks;
        Ok((Guest { tasks }.stream(stream), peer))
    }

    fn incoming(&self) -> Result<GuestStream, Failure> {
        let tasks = self.tasks;
        match self.listener.incoming().next() {
            Some(stream) => checked(stream).map(|stream| Guest { tasks }.stream(stream)),
            None => Err(Failure::Other("connections come without end")),
        }
    }

    fn local(&self) -> Result<SocketAddr, Failure> {
        Ok(self.listener.local_addr())
    }

    fn set_nonblocking(&self, on: bool) -> Result<(), Failure> {
        self.limited.store(on, Ordering::Relaxed);
        self.listener.set_nonblocking(on);
        Ok(())
    }

    fn ttl(&self, set: Option<u32>) -> Result<u32, Failure> {
        if let Some(hops) = set {
            checked(self.listener.set_ttl(hops))?;
        }
        checked(self.listener.ttl())
    }

    fn take_error(&self) -> Result<Option<Errno>, Failure> {
        let error = checked(self.listener.take_error())?;
        Ok(error.and_then(|error| error.errno()))
    }

    fn set_option(&self, _option: SocketOption, _value: u64) -> Result<(), Failure> {
        Err(Failure::Other("not a call of listeners"))
    }
}
