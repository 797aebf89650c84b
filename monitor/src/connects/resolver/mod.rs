//! Resolving host names, off the relay's thread.
//!
//! The threads that do it are the process's (`pool.rs`); a session has its share of
//! them, and a limit on the names that it asks for at a time. What they find comes
//! back over a channel, and an eventfd wakes the event loop.

mod pool;

pub(crate) use pool::News;

use crate::link::new_eventfd;
use nix::sys::eventfd::EventFd;
use pool::{Job, Member, POOL, Pool, Report};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

/// The resolver of a session.
pub(crate) struct Resolver {
    member: Member,
    news: Receiver<News>,
    eventfd: Arc<EventFd>,
    /// Names asked for and not yet taken back.
    open: usize,
    limit: usize,
}

impl Resolver {
    /// A resolver for at most `limit` names at a time. To be made by a thread that
    /// may start others.
    pub(crate) fn new(limit: usize) -> io::Result<Self> {
        Self::with(&POOL, limit)
    }

    fn with(pool: &'static Pool, limit: usize) -> io::Result<Self> {
        let (sender, news) = channel();
        let eventfd = Arc::new(new_eventfd()?);
        let member = pool.join(Report {
            news: sender,
            eventfd: Arc::downgrade(&eventfd),
        })?;
        Ok(Self {
            member,
            news,
            eventfd,
            open: 0,
            limit,
        })
    }

    /// The eventfd that is signalled when there is news.
    pub(crate) fn eventfd(&self) -> &EventFd {
        &self.eventfd
    }

    /// Whether one more name may be asked for.
    pub(crate) fn has_room(&self) -> bool {
        self.open < self.limit
    }

    /// Asks for the addresses of a name; `false` if too many are asked for.
    pub(crate) fn ask(&mut self, connect: u32, name: &str, port: u16) -> bool {
        if !self.has_room() {
            return false;
        }
        self.open += 1;
        self.member.ask(Job {
            connect,
            name: name.to_owned(),
            port,
        });
        true
    }

    /// Takes a piece of news, if there is one.
    pub(crate) fn take(&mut self) -> Option<News> {
        let news = self.news.try_recv().ok()?;
        if let News::Resolved { .. } = news {
            self.open -= 1;
        }
        Some(news)
    }
}

#[cfg(test)]
mod tests {
    use super::pool::{Host, MAX_THREADS};
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Condvar, Mutex};
    use std::time::{Duration, Instant};

    /// No test waits longer for anything.
    const DEADLINE: Duration = Duration::from_secs(20);

    /// Polls until something is as wanted.
    #[track_caller]
    fn until(what: &str, mut look: impl FnMut() -> bool) {
        let end = Instant::now() + DEADLINE;
        while !look() {
            assert!(Instant::now() < end, "waited too long for {what}");
            std::thread::yield_now();
        }
    }

    /// Makes a pool whose host resolves what does not start with `dead`, and those only
    /// once they are released.
    macro_rules! pool {
        ($pool:ident, $released:ident, $running:ident) => {
            static $released: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
            static $running: AtomicUsize = AtomicUsize::new(0);
            let $pool = &*Box::leak(Box::new(Pool::new(Host {
                resolve: |name, port| {
                    if name.starts_with("dead") {
                        let (released, changed) = &$released;
                        let mut released = released.lock().expect("not poisoned");
                        while !*released {
                            released = changed.wait(released).expect("not poisoned");
                        }
                    }
                    Ok(vec![([127, 0, 0, 1], port).into()])
                },
                start: |body| {
                    $running.fetch_add(1, Ordering::SeqCst);
                    let thread = std::thread::Builder::new();
                    thread.spawn(move || {
                        body();
                        $running.fetch_sub(1, Ordering::SeqCst);
                    })
                },
            })));
        };
    }

    fn release((released, changed): &(Mutex<bool>, Condvar)) {
        *released.lock().expect("not poisoned") = true;
        changed.notify_all();
    }

    /// Whether a name of that session is resolved.
    fn resolves(resolver: &mut Resolver) {
        assert!(resolver.ask(7, "alive", 80), "it has room");
        let mut found = None;
        until("a name", || {
            found = resolver.take();
            found.is_some()
        });
        match found {
            Some(News::Resolved { connect, addresses }) => {
                assert_eq!((connect, addresses.len()), (7, 1));
            }
            _ => panic!("no other news"),
        }
    }

    #[test]
    fn the_threads_of_all_sessions_are_bounded_and_end() {
        pool!(pool, RELEASED, RUNNING);
        let running = || RUNNING.load(Ordering::SeqCst);
        let descriptors = || std::fs::read_dir("/proc/self/fd").expect("proc").count();
        let before = descriptors();
        for _ in 0..100 {
            let mut resolver = Resolver::with(pool, 64).expect("a thread, or one of others");
            for connect in 0..64 {
                assert!(resolver.ask(connect, "dead", 80));
            }
            assert!(!resolver.ask(64, "dead", 80), "past the limit");
            // Those that nobody answers stay: one too many would stay too. One that the
            // pool has let go may still be on its way out.
            until("no thread too many", || running() <= MAX_THREADS);
        }
        // One for each session would be a hundred; other tests have a few.
        assert!(descriptors() < before + 50, "{} {before}", descriptors());
        release(&RELEASED);
        until("the end of all threads", || running() == 0);
        // Nobody is left, and the next session has a thread all the same.
        let mut resolver = Resolver::with(pool, 1).expect("a thread");
        resolves(&mut resolver);
        drop(resolver);
        until("the end of all threads", || running() == 0);
    }

    #[test]
    fn names_that_nobody_answers_starve_no_other_session() {
        pool!(pool, RELEASED, RUNNING);
        let running = || RUNNING.load(Ordering::SeqCst);
        let mut stuck = Vec::new();
        for _ in 0..4 {
            let mut resolver = Resolver::with(pool, 256).expect("a thread");
            for connect in 0..256 {
                assert!(resolver.ask(connect, "dead", 80));
            }
            let mut other = Resolver::with(pool, 1).expect("a thread");
            resolves(&mut other);
            stuck.push(resolver);
        }
        assert!(running() <= MAX_THREADS, "{}", running());
        // Those of sessions that are gone are not looked up any more.
        drop(stuck);
        release(&RELEASED);
        until("the end of all threads", || running() == 0);
    }

    #[test]
    fn a_second_name_does_not_wait_for_the_first() {
        pool!(pool, RELEASED, RUNNING);
        let mut resolver = Resolver::with(pool, 256).expect("a thread");
        for connect in 0..MAX_THREADS / 2 - 1 {
            assert!(resolver.ask(connect as u32, "dead", 80));
        }
        resolves(&mut resolver);
        release(&RELEASED);
        drop(resolver);
        until("the end of all threads", || {
            RUNNING.load(Ordering::SeqCst) == 0
        });
    }

    #[test]
    fn without_threads_names_wait_and_the_session_hears_of_it() {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let pool = &*Box::leak(Box::new(Pool::new(Host {
            resolve: |_, port| Ok(vec![([127, 0, 0, 1], port).into()]),
            start: |body| match STARTED.fetch_add(1, Ordering::SeqCst) {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                1 => std::thread::Builder::new().spawn(body),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            },
        })));
        assert!(Resolver::with(pool, 4).is_err(), "no thread at all");
        let mut resolver = Resolver::with(pool, 4).expect("a thread");
        for _ in 0..100 {
            assert!(resolver.ask(1, "alive", 80));
            let (mut resolved, mut without) = (0, 0);
            until("an answer", || {
                match resolver.take() {
                    Some(News::Resolved { .. }) => resolved += 1,
                    Some(News::NoThread(_)) => without += 1,
                    None => {}
                }
                (resolved, without) == (1, 1)
            });
        }
    }
}
