//! The thread's epoll, and what runs tasks over it.
//!
//! Each socket is registered once, edge-triggered, for both directions, and the
//! event loop remembers for which of them it is ready: a call that would find
//! nothing is not made, and none is made to find out.

use crate::failure::Failure;
use mio::event::{Event, Source};
use mio::{Events, Interest, Poll, Token};
use std::cell::RefCell;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

/// Sockets whose readiness one poll can bring.
const EVENTS: usize = 1024;

thread_local! {
    static EVENT_LOOP: RefCell<Option<EventLoop>> = const { RefCell::new(None) };
}

struct EventLoop {
    poll: Poll,
    events: Events,
    sockets: Vec<Readiness>,
    free: Vec<usize>,
}

/// What is known of a socket.
#[derive(Default)]
struct Readiness {
    input: Direction,
    output: Direction,
}

#[derive(Default)]
struct Direction {
    ready: bool,
    /// The peer is done with this direction: ready for good, for no edge will say
    /// so again.
    ended: bool,
    waiting: Option<Waker>,
}

impl Direction {
    fn set_ready(&mut self, ready: bool, ended: bool, woken: &mut Vec<Waker>) {
        self.ended |= ended;
        if ready || ended {
            self.ready = true;
            woken.extend(self.waiting.take());
        }
    }
}

/// One of a socket's directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What is received.
    In,
    /// What is sent.
    Out,
}

impl EventLoop {
    fn new() -> Result<Self, Failure> {
        Ok(Self {
            poll: Poll::new().map_err(Failure::of("epoll"))?,
            events: Events::with_capacity(EVENTS),
            sockets: Vec::new(),
            free: Vec::new(),
        })
    }

    fn direction(&mut self, number: usize, way: Way) -> Option<&mut Direction> {
        let socket = self.sockets.get_mut(number)?;
        Some(match way {
            Way::In => &mut socket.input,
            Way::Out => &mut socket.output,
        })
    }

    /// Waits for readiness and gives the wakers of those who wait for it.
    fn turn(&mut self, limit: Option<Duration>) -> Result<Vec<Waker>, Failure> {
        match self.poll.poll(&mut self.events, limit) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => result.map_err(Failure::of("epoll"))?,
        }
        let mut woken = Vec::new();
        for event in &self.events {
            if let Some(socket) = self.sockets.get_mut(event.token().0) {
                note(socket, event, &mut woken);
            }
        }
        Ok(woken)
    }
}

fn note(socket: &mut Readiness, event: &Event, woken: &mut Vec<Waker>) {
    let failed = event.is_error();
    let input = failed || event.is_read_closed();
    let output = failed || event.is_write_closed();
    socket.input.set_ready(event.is_readable(), input, woken);
    socket.output.set_ready(event.is_writable(), output, woken);
}

/// Does something with the thread's event loop, which is made at the first use.
fn with<T>(action: impl FnOnce(&mut EventLoop) -> Result<T, Failure>) -> Result<T, Failure> {
    EVENT_LOOP.with_borrow_mut(|event_loop| match event_loop {
        Some(event_loop) => action(event_loop),
        None => action(event_loop.insert(EventLoop::new()?)),
    })
}

/// A socket's place in the event loop of the thread that registered it.
#[derive(Debug)]
pub struct Place(usize);

impl Place {
    /// Registers a socket.
    ///
    /// # Errors
    ///
    /// What epoll_ctl(2) says.
    pub fn register<S: Source>(socket: &mut S, interest: Interest) -> Result<Self, Failure> {
        with(|event_loop| {
            let number = event_loop.free.pop().unwrap_or_else(|| {
                event_loop.sockets.push(Readiness::default());
                event_loop.sockets.len() - 1
            });
            let registered = event_loop
                .poll
                .registry()
                .register(socket, Token(number), interest);
            if let Err(error) = registered {
                event_loop.free.push(number);
                return Err(Failure::of("epoll")(error));
            }
            Ok(Self(number))
        })
    }

    /// Forgets a socket; its place may be another's from then on.
    pub fn deregister<S: Source>(&mut self, socket: &mut S) {
        // A socket that epoll does not know is forgotten already.
        let _ = with(|event_loop| {
            let _ = event_loop.poll.registry().deregister(socket);
            event_loop.sockets[self.0] = Readiness::default();
            event_loop.free.push(self.0);
            Ok(())
        });
    }

    /// Whether a call would find something; if not, the task is woken when one
    /// would.
    pub fn is_ready(&self, way: Way, context: &Context<'_>) -> bool {
        let ready = with(|event_loop| {
            let Some(direction) = event_loop.direction(self.0, way) else {
                return Ok(true);
            };
            if !direction.ready {
                direction.waiting = Some(context.waker().clone());
            }
            Ok(direction.ready)
        });
        // Without an epoll nothing was ever registered.
        ready.unwrap_or(true)
    }

    /// Says that a call took all there was.
    pub fn exhausted(&self, way: Way) {
        // As above.
        let _ = with(|event_loop| {
            if let Some(direction) = event_loop.direction(self.0, way) {
                direction.ready = direction.ended;
            }
            Ok(())
        });
    }
}

/// Whether the future was woken since it was last polled.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        // Relaxed: set and read on one thread.
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `future` to its end on this thread, which sleeps in epoll meanwhile.
///
/// # Panics
///
/// If the thread can have no epoll.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(woken.clone());
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        let limit = woken
            .0
            .swap(false, Ordering::Relaxed)
            .then_some(Duration::ZERO);
        match with(|event_loop| event_loop.turn(limit)) {
            // Woken outside the event loop's borrow: a waker may drop a socket.
            Ok(wakers) => wakers.into_iter().for_each(Waker::wake),
            Err(failure) => panic!("{failure}"),
        }
    }
}
