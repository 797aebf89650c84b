//! Resolving host names, off the relay's thread.
//!
//! The system's resolver blocks, for seconds where a name server does not
//! answer. A few threads call it; what they find comes back over a channel, and
//! an eventfd tells the event loop. Each thread starts the next when there is
//! more to do than threads wait: the event loop's thread may be one that a
//! sandbox lets start none, and its threads would be in the same sandbox.

use crate::link::new_eventfd;
use nix::sys::eventfd::EventFd;
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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

/// The resolver of a session.
pub(crate) struct Resolver {
    shared: Arc<Shared>,
    results: Receiver<Resolved>,
    done: Arc<EventFd>,
    /// Names asked for and not yet taken back.
    open: usize,
    limit: usize,
}

/// What the event loop and the threads share.
struct Shared {
    state: Mutex<State>,
    /// There is a job, or the end has come.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: Vec<JoinHandle<()>>,
    /// Threads that have a name to resolve.
    busy: usize,
    ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody panics between taking it and leaving it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a thread reports with. The descriptor is open only while the session
/// is: a thread that is still in the system's resolver then holds it no more.
#[derive(Clone)]
struct Report {
    results: Sender<Resolved>,
    done: std::sync::Weak<EventFd>,
}

impl Resolver {
    /// A resolver for at most `limit` names at a time, with its first thread.
    pub(crate) fn new(limit: usize) -> io::Result<Self> {
        let (sender, results) = channel();
        let done = Arc::new(new_eventfd()?);
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let report = Report {
            results: sender,
            done: Arc::downgrade(&done),
        };
        start_thread(&shared, &mut shared.lock(), &report)?;
        Ok(Self {
            shared,
            results,
            done,
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

    /// Asks for the addresses of a name; `false` if too many are asked for.
    pub(crate) fn ask(&mut self, attempt: u32, name: &str, port: u16) -> bool {
        if !self.has_room() {
            return false;
        }
        self.open += 1;
        self.shared.lock().jobs.push_back(Job {
            attempt,
            name: name.to_owned(),
            port,
        });
        self.shared.changed.notify_one();
        true
    }

    /// Takes a result, if there is one.
    pub(crate) fn take(&mut self) -> Option<Resolved> {
        let resolved = self.results.try_recv().ok()?;
        self.open -= 1;
        Some(resolved)
    }
}

fn start_thread(shared: &Arc<Shared>, state: &mut State, report: &Report) -> io::Result<()> {
    let (work, report) = (Arc::clone(shared), report.clone());
    let builder = std::thread::Builder::new().name("arca-resolver".into());
    let thread = builder.spawn(move || serve(&work, &report))?;
    state.threads.push(thread);
    Ok(())
}

/// A thread's work: one name after the other, until the resolver is dropped.
fn serve(shared: &Arc<Shared>, report: &Report) {
    while let Some(job) = next(shared, report) {
        let addresses = (job.name.as_str(), job.port).to_socket_addrs();
        let resolved = Resolved {
            attempt: job.attempt,
            addresses: addresses.map(Iterator::collect).unwrap_or_default(),
        };
        shared.lock().busy -= 1;
        let Some(done) = report.done.upgrade() else {
            return;
        };
        if report.results.send(resolved).is_err() || done.write(1).is_err() {
            return;
        }
    }
}

/// Waits for a job; `None` at the end.
fn next(shared: &Arc<Shared>, report: &Report) -> Option<Job> {
    let mut state = shared.lock();
    while state.jobs.is_empty() && !state.ended {
        state = shared
            .changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
    }
    if state.ended {
        return None;
    }
    let job = state.jobs.pop_front()?;
    state.busy += 1;
    let threads = state.threads.len();
    if !state.jobs.is_empty() && state.busy == threads && threads < MAX_THREADS {
        // Where no further thread can be had, the names wait for those there are.
        if let Err(error) = start_thread(shared, &mut state, report) {
            log::warn!("cannot start a resolver thread: {error}");
        }
    }
    Some(job)
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.ended = true;
        state.jobs.clear();
        let threads = std::mem::take(&mut state.threads);
        // A thread with a name to resolve may be in the system's resolver for a
        // long time: it ends by itself, and holds nothing of ours.
        let all_idle = state.busy == 0;
        drop(state);
        self.shared.changed.notify_all();
        for thread in threads.into_iter().filter(|_| all_idle) {
            // A panic there was already reported.
            let _ = thread.join();
        }
    }
}
