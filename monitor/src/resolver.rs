//! Resolving host names, off the relay's thread.
//!
//! The system's resolver blocks, for seconds where a name server does not
//! answer. A few threads, started as they are needed, call it; what they find
//! comes back over a channel, and an eventfd tells the event loop.

use crate::link::new_eventfd;
use nix::sys::eventfd::EventFd;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

/// Most threads: so many names whose servers do not answer hold up the next.
const MAX_THREADS: usize = 8;

/// A name to resolve.
struct Job {
    attempt: u32,
    name: String,
    port: u16,
}

/// What became of a name.
pub(crate) struct Resolved {
    /// The attempt to connect that asked.
    pub(crate) attempt: u32,
    /// The addresses found; none if the name is unknown.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// The resolver's threads.
pub(crate) struct Resolver {
    /// None only while dropped: that ends the threads.
    jobs: Option<Sender<Job>>,
    queue: Arc<Mutex<Receiver<Job>>>,
    results: Receiver<Resolved>,
    report: Sender<Resolved>,
    done: Arc<EventFd>,
    threads: Vec<JoinHandle<()>>,
    /// Names asked for and not yet taken back.
    open: usize,
    limit: usize,
}

impl Resolver {
    pub(crate) fn new(limit: usize) -> io::Result<Self> {
        let (jobs, queue) = channel();
        let (report, results) = channel();
        Ok(Self {
            jobs: Some(jobs),
            queue: Arc::new(Mutex::new(queue)),
            results,
            report,
            done: Arc::new(new_eventfd()?),
            threads: Vec::new(),
            open: 0,
            limit,
        })
    }

    /// The eventfd that tells of results.
    pub(crate) fn done(&self) -> &EventFd {
        &self.done
    }

    /// Whether one more name may be asked for.
    pub(crate) fn has_room(&self) -> bool {
        self.open < self.limit
    }

    /// Asks for the addresses of a name. `false`: no thread could be started.
    pub(crate) fn ask(&mut self, attempt: u32, name: &str, port: u16) -> bool {
        if self.open >= self.threads.len() && self.threads.len() < MAX_THREADS {
            self.start_thread();
        }
        let Some(jobs) = self.jobs.as_ref().filter(|_| !self.threads.is_empty()) else {
            return false;
        };
        let name = name.to_owned();
        self.open += 1;
        jobs.send(Job {
            attempt,
            name,
            port,
        })
        .is_ok()
    }

    fn start_thread(&mut self) {
        let queue = Arc::clone(&self.queue);
        let report = self.report.clone();
        let done = Arc::downgrade(&self.done);
        let work = move || serve(&queue, &report, &done);
        let builder = std::thread::Builder::new().name("arca-resolver".into());
        match builder.spawn(work) {
            Ok(thread) => self.threads.push(thread),
            Err(error) => log::warn!("cannot start a resolver thread: {error}"),
        }
    }

    /// Takes a result, if there is one.
    pub(crate) fn take(&mut self) -> Option<Resolved> {
        match self.results.try_recv() {
            Ok(resolved) => {
                self.open -= 1;
                Some(resolved)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }
}

/// A thread's work: one name after the other, until the resolver is dropped.
fn serve(queue: &Mutex<Receiver<Job>>, report: &Sender<Resolved>, done: &Weak<EventFd>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else {
            return;
        };
        let addresses = (job.name.as_str(), job.port).to_socket_addrs();
        let resolved = Resolved {
            attempt: job.attempt,
            addresses: addresses.map(Iterator::collect).unwrap_or_default(),
        };
        // Only an upgraded reference keeps the descriptor open, and only here.
        let Some(done) = done.upgrade() else {
            return;
        };
        if report.send(resolved).is_err() || done.write(1).is_err() {
            return;
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.jobs = None;
        // A thread with a name to resolve may be in the system's resolver for a
        // long time: it ends by itself, and holds nothing of ours.
        if self.open == 0 {
            for thread in self.threads.drain(..) {
                // A panic there was already reported.
                let _ = thread.join();
            }
        }
    }
}
