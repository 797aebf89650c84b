//! One connection: a socket on one side, a data pipe on the other.
//!
//! # Primer
//!
//! Two streams that know little of each other:
//!
//! ```text
//!             ring A                    socket
//!   Arca ──────────────▶ uplink ──────────────▶ TCP peer
//!        ◀────────────── downlink ◀────────────
//!             ring B
//! ```
//!
//! [`Uplink`] and [`Downlink`] name the states of each, a sentence a state. What
//! takes them from one to the next:
//!
//! | what happens | uplink | downlink |
//! |---|---|---|
//! | Arca closed its writer, ring A is drained | shutdown(Write), close_read(A): Done | |
//! | TCP end of stream | | close_write(B): Done |
//! | Arca closed its reader | | close_write(B), shutdown(Read): Done; what comes later is not delivered |
//! | a send fails | errno, close_read(A): Discarding | reads on, what the kernel still has |
//! | a receive fails | errno, close_read(A): Discarding | close_write(B): Done; the socket is closed |
//! | Arca shut both ends down | drains ring A, then closes the socket in order: Done | close_write(B): Done |
//! | Arca closed the connection | drains ring A, then closes the socket: Done | close_write(B): Done |
//! | ... and bytes are unread, or come | what the socket takes at once is sent, then a reset | Done |
//! | Arca closed an end with an errno in header A | the same: what the socket takes at once, then a reset | Done |
//! | Arca shut down or closed, and the peer takes nothing for the orphan timeout | the socket is closed, what is left dropped: Done | Done |
//! | a cursor that cannot be true | a reset, EPROTO, close_read(A): Done | close_write(B): Done |
//!
//! Two closed ends are not yet a closed connection: after shutdown(Read) and
//! shutdown(Write) a program may let its peer read in peace, and what it has not
//! read itself counts for nothing. [`Leaving`] distinguishes the two.
//!
//! The errno goes to header B, before the flag that reports it, and the first
//! one stays. The region is freed when the socket is closed and all four flags
//! of the pipe are set, and not before: only then does nobody touch it again.
//!
//! Each of the two calls that move data names the ring's own memory, and the
//! cursors move only after it returned: no region is freed, and no room given,
//! while the kernel works on it.

mod downlink;
mod ending;
mod orphan;
mod state;
mod uplink;

pub(crate) use downlink::Downlink;
use ending::Leaving;
use uplink::Burst;
pub(crate) use uplink::Uplink;

use crate::relay::Relay;
use crate::trace::{Direction, TraceKind};
use arca_shared::errno::Errno;
use arca_shared::notify::Slot;
use arca_shared::pipe::BidirectionalPipe;
use arca_shared::pipe::PipeRegion;
use arca_shared::ring::{ArenaRing, Consumer, InvalidCursor, Producer};
use nix::sys::epoll::EpollFlags;
use socket2::Socket;

/// Most bytes that one send moves. Each send wakes the peer and may set a timer of the
/// kernel's, both of which cost as much as copying tens of KiB. It is a quarter of the
/// largest ring, so that the guest goes on writing into the rest; where there are many
/// connections, it is all of a ring, and the guest goes on with another.
const SEND_MAX: usize = 512 << 10;

/// Bytes of its budget that a call costs a connection, however few it moved: whoever
/// gives or takes a byte at a time has no more calls in a turn than others.
const CALL: usize = 4 << 10;

/// What is left of a budget after a call that moved `len` bytes.
fn spent(budget: usize, len: usize) -> usize {
    budget.saturating_sub(len.max(CALL))
}

/// What is left to do after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TurnOutcome {
    /// Nothing until the socket or the pipe changes.
    Idle,
    /// More, as soon as others have had their turn.
    MoreToDo,
    /// Nothing at all: the region can be freed.
    Closed,
}

/// What epoll said about the socket and no call has contradicted since.
#[derive(Clone, Copy, Debug)]
struct Readiness {
    readable: bool,
    writable: bool,
    /// Epoll says when the socket takes more again: it is asked to only once a socket
    /// was full, because most never are.
    watched_for_room: bool,
    /// The peer has ended its stream or sent urgent data, or there is an error:
    /// a short read does not mean that nothing is left to learn.
    read_until_eof: bool,
    /// There is an error.
    failed: bool,
}

/// A connection.
pub(crate) struct Connection {
    id: u32,
    slot: Slot,
    /// None once it is closed, which may be long before Arca closes the pipe.
    socket: Option<Socket>,
    uplink: Uplink,
    downlink: Downlink,
    /// Ring A, toward TCP.
    from_arca: Consumer<ArenaRing>,
    /// Ring B, toward Arca.
    to_arca: Producer<ArenaRing>,
    ready: Readiness,
    /// What is being sent in a row.
    burst: Burst,
    /// An errno is in header B.
    has_errno: bool,
    leaving: Leaving,
    /// The end of the peer's stream was received: nothing is unread, and nothing more
    /// comes.
    peer_ended: bool,
    /// The kernel gives the peer up if it takes nothing for long.
    bounded: bool,
    /// Arca broke a rule of the pipe: its cursors are not read again.
    protocol_error: bool,
    /// Arca is gone: both ends count as closed by it.
    orphaned: bool,
    /// It waits in the monitor's queue.
    pub(crate) queued: bool,
    /// SO_LINGER as Arca set it, in the encoding of the wire. It is not given
    /// to the kernel, whose close would then block the monitor.
    pub(crate) linger: u64,
    /// Last: the rings above lie in it.
    region: PipeRegion,
}

impl Connection {
    /// Joins a connected socket and a fresh pipe, which lies in `region`. `eager`:
    /// there may be something to read already; else epoll says when there is.
    pub(crate) fn new(
        id: u32,
        socket: Socket,
        pipe: BidirectionalPipe,
        region: PipeRegion,
        eager: bool,
    ) -> Self {
        let slot = Slot::from(pipe.shm_offset());
        let (to_arca, from_arca) = pipe.into_split();
        Self {
            id,
            slot,
            socket: Some(socket),
            uplink: Uplink::Open,
            downlink: Downlink::Open,
            from_arca,
            to_arca,
            // A fresh socket can be written to.
            ready: Readiness {
                readable: eager,
                writable: true,
                watched_for_room: false,
                read_until_eof: false,
                failed: false,
            },
            burst: Burst::default(),
            has_errno: false,
            leaving: Leaving::No,
            peer_ended: false,
            bounded: false,
            protocol_error: false,
            orphaned: false,
            queued: false,
            linger: 0,
            region,
        }
    }

    pub(crate) fn slot(&self) -> Slot {
        self.slot
    }

    /// The socket, while it is open.
    pub(crate) fn socket(&self) -> Option<&Socket> {
        self.socket.as_ref()
    }

    /// Takes note of what epoll reports.
    pub(crate) fn on_events(&mut self, events: EpollFlags) {
        let ended = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        let failed = EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        self.ready.readable |= events.intersects(EpollFlags::EPOLLIN | ended);
        self.ready.writable |= events.intersects(EpollFlags::EPOLLOUT | failed);
        self.ready.read_until_eof |= events.intersects(EpollFlags::EPOLLPRI | ended);
        self.ready.failed |= events.contains(EpollFlags::EPOLLERR);
    }

    /// The socket, if it is full for the first time: epoll is to say when it takes
    /// more.
    pub(crate) fn newly_full(&mut self) -> Option<&Socket> {
        if self.ready.writable || self.ready.watched_for_room {
            return None;
        }
        self.ready.watched_for_room = self.socket.is_some();
        self.socket.as_ref()
    }

    /// Says that nobody will say when the socket takes more: it is to be tried.
    pub(crate) fn assume_room(&mut self) {
        self.ready.writable = true;
        self.ready.watched_for_room = false;
    }

    /// Says that Arca is gone.
    pub(crate) fn orphan(&mut self) {
        self.orphaned = true;
    }

    /// Bytes that Arca wrote and TCP has not taken.
    pub(crate) fn undelivered(&mut self) -> usize {
        match self.uplink {
            Uplink::Open => self.from_arca.available().unwrap_or(0),
            Uplink::Discarding | Uplink::Done => 0,
        }
    }

    /// Moves what can be moved, within the budget.
    pub(crate) fn run(&mut self, relay: &mut Relay) -> TurnOutcome {
        match self.relay(relay) {
            Ok(true) => return TurnOutcome::MoreToDo,
            Ok(false) => {}
            Err(invalid) => self.fail_protocol(invalid, relay),
        }
        if self.is_over() {
            TurnOutcome::Closed
        } else {
            TurnOutcome::Idle
        }
    }

    fn relay(&mut self, relay: &mut Relay) -> Result<bool, InvalidCursor> {
        if self.protocol_error {
            return Ok(false);
        }
        if self.wants_abort() {
            self.abort(relay)?;
        } else if self.is_left() {
            self.leave(relay)?;
        }
        self.check_orphan(relay);
        let down = self.run_downlink(relay)?;
        let up = self.run_uplink(relay)?;
        self.prefault(relay)?;
        self.check_error(relay);
        Ok(down | up)
    }

    /// Has the pages filled in that Arca comes to next.
    fn prefault(&mut self, relay: &mut Relay) -> Result<(), InvalidCursor> {
        let Some(prefault) = &mut relay.prefault else {
            return Ok(());
        };
        let [a, b] = self.region.rings();
        if self.uplink == Uplink::Open {
            let pending = self.from_arca.available()? as u64;
            let written = self.from_arca.taken() + pending;
            relay.stats.prefaulted += prefault.ahead(a, written);
        }
        relay.stats.prefaulted += prefault.ahead(b, self.to_arca.written());
        Ok(())
    }

    /// Whether Arca was seen to have closed both of its ends.
    fn has_left(&self) -> bool {
        self.leaving != Leaving::No
    }

    /// Whether Arca writes no more.
    fn writer_gone(&mut self) -> bool {
        self.orphaned || self.from_arca.is_writer_closed()
    }

    /// Whether Arca reads no more.
    fn reader_gone(&mut self) -> bool {
        self.orphaned || self.to_arca.is_reader_closed()
    }

    /// Whether socket and pipe are closed by everyone.
    fn is_over(&mut self) -> bool {
        self.socket.is_none()
            && self.uplink == Uplink::Done
            && self.downlink == Downlink::Done
            && self.writer_gone()
            && self.reader_gone()
    }

    /// Keeps the first errno, where Arca finds it.
    fn store_errno(&mut self, errno: Errno, relay: &mut Relay) {
        if !self.has_errno {
            self.has_errno = true;
            self.to_arca.set_errno(errno.0);
            relay.stats.reset += 1;
            relay.trace(|| TraceKind::Reset {
                id: self.id,
                by: Direction::Down,
                errno: Some(errno),
            });
        }
    }

    /// Closes ring A's reading end.
    fn close_read(&mut self, relay: &mut Relay) {
        if !self.from_arca.is_closed() {
            self.from_arca.close();
            relay.wakes.notify(self.slot);
        }
    }

    /// Closes ring B's writing end.
    fn close_write(&mut self, relay: &mut Relay) {
        self.downlink = Downlink::Done;
        if !self.to_arca.is_closed() {
            self.to_arca.close();
            relay.wakes.notify(self.slot);
        }
    }

    /// Takes the connection apart, to free its region: what went through its rings
    /// is what was touched, unless Arca broke a rule.
    pub(crate) fn into_region(mut self) -> PipeRegion {
        if !self.protocol_error {
            let (a, b) = (self.from_arca.taken(), self.to_arca.written());
            self.region.set_touched(a, b);
        }
        self.region
    }
}

#[cfg(test)]
mod tests;
