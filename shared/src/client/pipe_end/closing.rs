//! How the Arca end of a pipe closes its directions.

use super::PipeEnd;
use crate::client::reactor::OnReady;
use crate::errno::Errno;
use crate::ring::{ArenaRing, Close, Consumer};
use alloc::collections::VecDeque;

/// How ends are closed; a later one goes further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    /// As by shutdown(2): what is in ring B is kept for this side.
    Shutdown,
    /// As by close(2).
    Close,
    /// With a reset.
    Abort,
}

impl PipeEnd {
    /// Says that this side writes no more. What was written before still goes
    /// out.
    pub fn close_write(&self) {
        self.close(true, false, Ending::Shutdown);
    }

    /// Says that this side reads no more. What is in the ring can still be read.
    pub fn close_read(&self) {
        self.close(false, true, Ending::Shutdown);
    }

    /// Both of these at once, so that the other side sees no moment between them.
    pub fn close_both(&self) {
        self.close(true, true, Ending::Shutdown);
    }

    /// Closes both directions abortively: the peer's end is reset.
    pub fn abort(&self) {
        self.close(true, true, Ending::Abort);
    }

    /// Closes directions that are open. One that is lent out closes when it is given
    /// back: after the last flag its memory may be another pipe's.
    pub(super) fn close(&self, write: bool, read: bool, ending: Ending) {
        let mut output = self.output.lock();
        let mut input = self.input.lock();
        let write = write && output.ring.is_some() && !output.lending.defers(ending);
        let read = read && input.ring.is_some() && !input.lending.defers(ending);
        if !write && !read {
            return;
        }
        let by = match ending {
            Ending::Shutdown => Close::Shutdown,
            Ending::Close => Close::Connection,
            Ending::Abort => {
                // In header A, which is ours, before the flags.
                match (&output.ring, &input.ring) {
                    (Some(ring), _) => ring.set_errno(Errno::ECONNRESET.0),
                    (None, Some(ring)) => ring.set_peer_errno(Errno::ECONNRESET.0),
                    (None, None) => {}
                }
                Close::Connection
            }
        };
        if (write || output.ring.is_none()) && (read || input.ring.is_none()) {
            // The next flags are the last.
            self.reactor.deregister(self.slot);
        }
        if read && let Some(mut ring) = input.ring.take() {
            if ending == Ending::Shutdown {
                Self::keep(&mut ring, &mut input.left);
            }
            ring.close_by(by);
        }
        if write && let Some(mut ring) = output.ring.take() {
            ring.close_by(by);
        }
        drop((output, input));
        self.notify();
        // Whoever waits for a half that is gone is woken to find it so.
        self.events.ready();
    }

    /// Moves what a ring holds to `left`.
    fn keep(ring: &mut Consumer<ArenaRing>, left: &mut VecDeque<u8>) {
        let mut buffer = [0; 512];
        while let Ok(len) = ring.read(&mut buffer) {
            left.extend(&buffer[..len]);
        }
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let input = self.input.get_mut();
        let unread = match &mut input.ring {
            Some(ring) => ring.available().is_ok_and(|available| available > 0),
            None => !input.left.is_empty(),
        };
        if unread {
            // As Linux does when a socket is closed with bytes unread.
            self.abort();
        } else {
            self.close(true, true, Ending::Close);
        }
    }
}
