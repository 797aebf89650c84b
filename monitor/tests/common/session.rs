//! A session: a peer, and the monitor in a thread of its own.

use super::{ARENA, CountingWaker, Peer, link, until};
use arca_monitor::{Monitor, MonitorConfig, MonitorHandle, SessionEnd};
use std::sync::Arc;
use std::thread::JoinHandle;

/// A session: the peer, and the monitor in a thread of its own.
pub struct Session {
    pub peer: Peer,
    pub handle: MonitorHandle,
    pub waker: Arc<CountingWaker>,
    thread: Option<JoinHandle<SessionEnd>>,
}

impl Session {
    pub fn start() -> Self {
        Self::with(MonitorConfig::default(), ARENA)
    }

    pub fn with(config: MonitorConfig, size: usize) -> Self {
        let (link, arena, waker) = link(size);
        let peer = Peer::new(&link, arena);
        let mut monitor = Monitor::new(link, config).expect("a monitor");
        let handle = monitor.handle();
        let thread = std::thread::spawn(move || monitor.event_loop());
        Self {
            peer,
            handle,
            waker,
            thread: Some(thread),
        }
    }

    /// How the session ends by itself.
    pub fn end(&mut self) -> SessionEnd {
        let thread = self.thread.take().expect("not ended before");
        until("the session's end", || thread.is_finished().then_some(()));
        thread.join().expect("the monitor does not panic")
    }

    /// Stops the session and checks that nothing is left.
    pub fn stop(mut self) {
        self.handle.stop();
        assert_eq!(self.end(), SessionEnd::Stopped);
        let stats = self.handle.stats();
        assert_eq!(
            (stats.pipes_allocated, stats.connections, stats.listeners),
            (0, 0, 0)
        );
    }

    /// Waits until no data pipe is allocated.
    #[track_caller]
    pub fn expect_no_pipes(&self) {
        until("all pipes to be freed", || {
            (self.handle.stats().pipes_allocated == 0).then_some(())
        });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.handle.abort();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
