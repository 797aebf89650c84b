//! A monitor that sleeps, and the handles that want it to end.

use super::{catches, explore, planted};
use arca_shared::notify::request::SleeperRequest;
use arca_shared::sync::{AtomicU32, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

const STOP: u8 = 2;
const ABORT: u8 = 3;

/// An epoll with two edge-triggered sources: each report consumes its edge.
#[derive(Default)]
struct Epoll {
    edges: Mutex<Edges>,
    given: Condvar,
}

#[derive(Clone, Copy, Default)]
struct Edges {
    wake: bool,
    doorbell: bool,
}

impl Epoll {
    fn give(&self, edge: impl FnOnce(&mut Edges)) {
        edge(&mut self.edges.lock().expect("no thread panics with it"));
        self.given.notify_one();
    }

    /// What there is.
    fn poll(&self) -> Edges {
        std::mem::take(&mut *self.edges.lock().expect("no thread panics with it"))
    }

    /// Sleeps until there is something.
    fn wait(&self) -> Edges {
        let mut edges = self.edges.lock().expect("no thread panics with it");
        while !edges.wake && !edges.doorbell {
            edges = self.given.wait(edges).expect("no thread panics with it");
        }
        std::mem::take(&mut *edges)
    }
}

struct Session {
    request: SleeperRequest,
    epoll: Epoll,
    /// What the guest wrote before somebody said that it was gone.
    written: AtomicU32,
}

impl Session {
    fn ask(&self, urgency: u8) {
        let wake = || self.epoll.give(|edges| edges.wake = true);
        if planted("the edge before the request") {
            wake();
            self.request.post(urgency, || {});
        } else {
            self.request.post(urgency, wake);
        }
    }

    /// The monitor's loop: a turn that asks the epoll and leaves more to do, turns
    /// that begin with what ended a sleep, and what is asked of it between each turn and
    /// the sleep after it.
    fn serve(&self) {
        let read_early = planted("a read before the edge is consumed");
        let mut asked = 0;
        let mut reported = None;
        let mut busy = true;
        loop {
            if read_early {
                asked = self.request.posted();
            }
            if read_early && asked == ABORT {
                return;
            }
            let edges = reported.take().unwrap_or_else(|| self.epoll.poll());
            if edges.wake && !read_early {
                asked = self.request.posted();
            }
            if asked >= STOP {
                assert_eq!(self.written.load(Ordering::Relaxed), 1);
            }
            if !read_early && asked == ABORT {
                return;
            }
            if !std::mem::take(&mut busy) {
                reported = Some(self.epoll.wait());
            }
        }
    }
}

/// One handle stops, another aborts, and the guest rings once: the monitor hears the
/// abort. A request that is forgotten is a deadlock, which loom reports. At most 3
/// preemptions.
#[test]
fn what_was_posted_is_heard() {
    explore(3, || {
        let session = Arc::new(Session {
            request: SleeperRequest::default(),
            epoll: Epoll::default(),
            written: AtomicU32::new(0),
        });
        let stops = session.clone();
        let stopper = thread::spawn(move || {
            stops.written.store(1, Ordering::Relaxed);
            stops.ask(STOP);
            stops.ask(ABORT);
        });
        let rings = session.clone();
        let guest = thread::spawn(move || rings.epoll.give(|edges| edges.doorbell = true));
        session.serve();
        stopper.join().expect("the stopper is done");
        guest.join().expect("the guest is done");
    });
}

#[test]
fn planted_in_a_request() {
    let model = "request::what_was_posted_is_heard";
    catches("a read before the edge is consumed", model);
    catches("the edge before the request", model);
}
