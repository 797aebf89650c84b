//! The threads that resolve host names, for every session of the process.
//!
//! The system's resolver blocks, for seconds where a name server does not answer,
//! and cannot be interrupted: a thread in it outlives the session that asked. So
//! the threads are the process's, at most [`MAX_THREADS`] of them, and with them
//! the descriptors that the system's resolver holds.
//!
//! A session takes a thread only while it has fewer than are free. One with names
//! that nobody answers takes half of them, the next a quarter, and so on: there is
//! one left for a session that has none, up to the fourth such neighbour. Sessions
//! take turns; the names that a session still waits for when it ends are dropped.
//!
//! A thread that takes a name first sees to it that another one waits, and starts
//! it if need be: whoever asks may be in a sandbox that lets it start none, and its
//! threads would be in the same sandbox. The first is started with a session
//! ([`Pool::join`]). With the last session those that wait end; one that is in the
//! system's resolver ends after it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::Sender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;

use nix::sys::eventfd::EventFd;

/// Most threads, whatever the number of sessions.
pub(crate) const MAX_THREADS: usize = 16;

/// A name to resolve.
pub(crate) struct Job {
    /// The connect that asked.
    pub(crate) connect: u32,
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// What a session receives.
pub(crate) enum News {
    /// What became of a name.
    Resolved {
        /// The connect that asked.
        connect: u32,
        /// The addresses found; none if the name is unknown.
        addresses: Vec<SocketAddr>,
    },
    /// No further thread could be started: names wait for those there are.
    NoThread(io::Error),
}

/// Where a session receives it. The descriptor is open only while the session is: a
/// thread that is still in the system's resolver then holds it no more.
#[derive(Clone)]
pub(crate) struct Report {
    pub(crate) news: Sender<News>,
    pub(crate) eventfd: Weak<EventFd>,
}

impl Report {
    fn send(&self, news: News) {
        // A session that has ended receives nothing, and needs nothing.
        if let Some(eventfd) = self.eventfd.upgrade()
            && self.news.send(news).is_ok()
        {
            // It fails only if the counter is full, and then it is signalled already.
            let _ = eventfd.write(1);
        }
    }
}

/// What a thread does.
type Work = Box<dyn FnOnce() + Send>;

/// What the pool asks of the host: other things in tests.
#[derive(Clone, Copy)]
pub(crate) struct Host {
    /// The addresses of a name; blocks.
    pub(crate) resolve: fn(&str, u16) -> io::Result<Vec<SocketAddr>>,
    /// Starts a thread.
    pub(crate) start: fn(Work) -> io::Result<JoinHandle<()>>,
}

/// The threads, and what they are to do.
pub(crate) struct Pool {
    host: Host,
    state: Mutex<State>,
    /// There may be a job for a thread that waits, or it is to end.
    changed: Condvar,
}

/// The pool of the process.
pub(crate) static POOL: Pool = Pool::new(Host {
    resolve: |name, port| Ok((name, port).to_socket_addrs()?.collect()),
    start: |body| {
        let thread = std::thread::Builder::new().name("arca-resolver".into());
        thread.spawn(body)
    },
});

struct State {
    /// Those that ask, whose turn is next first.
    sessions: VecDeque<Session>,
    next_session: u64,
    threads: BTreeMap<u64, Thread>,
    next_thread: u64,
    /// Threads that have a name to resolve.
    busy: usize,
}

struct Session {
    id: u64,
    jobs: VecDeque<Job>,
    /// Threads that work for it.
    busy: usize,
    report: Report,
}

/// A thread of the pool. One that is not listed any more is to end.
#[derive(Default)]
struct Thread {
    /// None until whoever starts it has it in hand.
    handle: Option<JoinHandle<()>>,
    busy: bool,
}

/// A session's place in the pool, which it leaves when this is dropped.
pub(crate) struct Member {
    pool: &'static Pool,
    id: u64,
}

impl Member {
    /// Asks for the addresses of a name.
    pub(crate) fn ask(&self, job: Job) {
        let mut state = self.pool.lock();
        let session = state.sessions.iter_mut().find(|s| s.id == self.id);
        if let Some(session) = session {
            session.jobs.push_back(job);
        }
        drop(state);
        self.pool.changed.notify_one();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        for thread in self.pool.leave(self.id) {
            // It waits, and ends when it wakes up. It has not panicked.
            let _ = thread.join();
        }
    }
}

impl Pool {
    pub(crate) const fn new(host: Host) -> Self {
        Self {
            host,
            state: Mutex::new(State {
                sessions: VecDeque::new(),
                next_session: 0,
                threads: BTreeMap::new(),
                next_thread: 0,
                busy: 0,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody panics between taking it and leaving it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a session, whose thread calls this before it is in a sandbox.
    ///
    /// # Errors
    ///
    /// If the pool has no thread, and the host none for it.
    pub(crate) fn join(&'static self, report: Report) -> io::Result<Member> {
        let mut state = self.lock();
        let id = state.next_session;
        state.next_session += 1;
        state.sessions.push_back(Session {
            id,
            jobs: VecDeque::new(),
            busy: 0,
            report,
        });
        drop(state);
        let member = Member { pool: self, id };
        match self.keep_one_waiting() {
            Err(error) if self.lock().threads.is_empty() => Err(error),
            // Those there are will do.
            _ => Ok(member),
        }
    }

    /// Ends a session; those threads that have nothing left to wait for.
    fn leave(&self, id: u64) -> Vec<JoinHandle<()>> {
        let mut state = self.lock();
        state.sessions.retain(|session| session.id != id);
        if !state.sessions.is_empty() {
            return Vec::new();
        }
        let threads = std::mem::take(&mut state.threads);
        let (busy, idle): (BTreeMap<_, _>, _) = threads.into_iter().partition(|(_, t)| t.busy);
        state.threads = busy;
        drop(state);
        self.changed.notify_all();
        idle.into_values().filter_map(|t| t.handle).collect()
    }

    /// Starts a thread if none waits and there may be one more.
    fn keep_one_waiting(&'static self) -> io::Result<()> {
        let mut state = self.lock();
        let waiting = state.threads.len() > state.busy;
        if waiting || state.threads.len() >= MAX_THREADS {
            return Ok(());
        }
        let id = state.next_thread;
        state.next_thread += 1;
        state.threads.insert(id, Thread::default());
        drop(state);
        // Without the lock: the event loop of a session may want it.
        let started = (self.host.start)(Box::new(move || self.serve(id)));
        let mut state = self.lock();
        match (started, state.threads.get_mut(&id)) {
            (Ok(handle), Some(thread)) => thread.handle = Some(handle),
            // It is to end already, and does so by itself.
            (Ok(_), None) => {}
            (Err(error), _) => {
                state.threads.remove(&id);
                return Err(error);
            }
        }
        Ok(())
    }

    /// What a thread does.
    fn serve(&'static self, id: u64) {
        while let Some((session, report, job)) = self.next(id) {
            if let Err(error) = self.keep_one_waiting() {
                report.send(News::NoThread(error));
            }
            let addresses = (self.host.resolve)(&job.name, job.port);
            report.send(News::Resolved {
                connect: job.connect,
                addresses: addresses.unwrap_or_default(),
            });
            self.done(id, session);
        }
    }

    /// Waits for a job; `None` at the end.
    fn next(&self, id: u64) -> Option<(u64, Report, Job)> {
        let mut state = self.lock();
        loop {
            if !state.threads.contains_key(&id) {
                return None;
            }
            if let Some(taken) = state.take(id) {
                if state.has_job() {
                    self.changed.notify_one();
                }
                return Some(taken);
            }
            if state.sessions.is_empty() {
                state.threads.remove(&id);
                return None;
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, id: u64, session: u64) {
        let mut state = self.lock();
        state.busy -= 1;
        if let Some(thread) = state.threads.get_mut(&id) {
            thread.busy = false;
        }
        let session = state.sessions.iter_mut().find(|s| s.id == session);
        if let Some(session) = session {
            session.busy -= 1;
        }
    }
}

impl State {
    /// Whose turn it is: the first session that has a job, and fewer threads than
    /// are free.
    fn turn(&self) -> Option<usize> {
        let free = MAX_THREADS - self.busy;
        let may = |session: &Session| !session.jobs.is_empty() && session.busy < free;
        self.sessions.iter().position(may)
    }

    fn has_job(&self) -> bool {
        self.turn().is_some()
    }

    /// Takes a job for a thread.
    fn take(&mut self, thread: u64) -> Option<(u64, Report, Job)> {
        let mut session = self.sessions.remove(self.turn()?)?;
        let job = session.jobs.pop_front();
        session.busy += usize::from(job.is_some());
        let (id, report) = (session.id, session.report.clone());
        self.sessions.push_back(session);
        let job = job?;
        self.busy += 1;
        if let Some(thread) = self.threads.get_mut(&thread) {
            thread.busy = true;
        }
        Some((id, report, job))
    }
}
