//! Requests: those that the control pipe brings, and those that wait for their reply.

pub(crate) mod control_pipe;

use crate::stats::MonitorStats;
use crate::violation::Violation;
use crate::wake::coalescer::WakeCoalescer;
use arca_shared::notify::Slot;
use arca_shared::protocol::frame::Frame;
use arca_shared::protocol::message::Reply;
use control_pipe::ControlPipe;
use std::collections::BTreeMap;

/// A request that waits for its reply: its request_id, and a number of our own,
/// because a peer may use a request_id twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket {
    request_id: u32,
    sequence: u64,
}

impl Ticket {
    /// Arca's number for the request.
    pub(crate) fn request_id(self) -> u32 {
        self.request_id
    }
}

/// What a waiting request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// A connection on that listener.
    Accept(u32),
    /// The outcome of that connect.
    Connect(u32),
    /// The addresses that the resolver finds for that connect, which goes no further.
    Resolve(u32),
    /// A signal.
    Signal,
}

/// The requests of a session.
pub(crate) struct Requests {
    pipe: ControlPipe,
    /// The control pipe may have something to do.
    ready: bool,
    waiting: BTreeMap<Ticket, Waiting>,
    /// Most requests that may wait: their replies fit the ring.
    limit: usize,
    next_sequence: u64,
}

impl Requests {
    /// `limit`: most requests that may wait.
    pub(crate) fn new(mut pipe: ControlPipe, limit: usize) -> Self {
        // Room is left for the replies of those that do not wait.
        let limit = pipe.max_replies().saturating_sub(2).min(limit);
        Self {
            pipe,
            ready: true,
            waiting: BTreeMap::new(),
            limit,
            next_sequence: 0,
        }
    }

    /// The slot of the control pipe.
    pub(crate) fn slot(&self) -> Slot {
        self.pipe.slot()
    }

    /// Takes note of a mark on the control pipe.
    pub(crate) fn mark_ready(&mut self) {
        self.ready = true;
    }

    /// Whether the control pipe may have something to do.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Takes the next request; see [`ControlPipe::next_frame`].
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, Violation> {
        let frame = self.pipe.next_frame(self.waiting.len())?;
        self.ready = frame.is_some();
        Ok(frame)
    }

    /// Whether Arca has left the session; see [`ControlPipe::is_left`].
    pub(crate) fn is_left(&self) -> bool {
        self.pipe.is_left()
    }

    /// Replies to a request that does not wait.
    pub(crate) fn reply(
        &mut self,
        request_id: u32,
        reply: &Reply,
        stats: &mut MonitorStats,
    ) -> Result<(), Violation> {
        stats.frames_out += 1;
        self.pipe.put(request_id, reply)
    }

    /// Replies to a request that has waited.
    pub(crate) fn answer(
        &mut self,
        ticket: Ticket,
        reply: &Reply,
        stats: &mut MonitorStats,
    ) -> Result<(), Violation> {
        self.waiting.remove(&ticket);
        self.reply(ticket.request_id, reply, stats)
    }

    /// Notifies the guest of what changed in the control pipe.
    pub(crate) fn notify(&mut self, wakes: &mut WakeCoalescer) {
        self.pipe.notify(wakes);
    }

    /// Says that the session is over: no request is taken and no reply comes.
    pub(crate) fn close(&mut self, wakes: &mut WakeCoalescer) {
        self.pipe.close(wakes);
    }

    /// Requests that wait.
    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// Whether one more request may wait.
    pub(crate) fn may_wait(&self) -> bool {
        self.waiting.len() < self.limit
    }

    /// A ticket for a request that may have to wait.
    pub(crate) fn ticket(&mut self, request_id: u32) -> Ticket {
        self.next_sequence += 1;
        Ticket {
            request_id,
            sequence: self.next_sequence,
        }
    }

    /// Says what a request waits for.
    pub(crate) fn wait(&mut self, ticket: Ticket, waiting: Waiting) {
        self.waiting.insert(ticket, waiting);
    }

    /// Whether that request still waits.
    pub(crate) fn is_waiting(&self, ticket: Ticket) -> bool {
        self.waiting.contains_key(&ticket)
    }

    /// The oldest request of that request_id that waits.
    pub(crate) fn oldest(&self, request_id: u32) -> Option<(Ticket, Waiting)> {
        let from = |sequence| Ticket {
            request_id,
            sequence,
        };
        let mut range = self.waiting.range(from(0)..=from(u64::MAX));
        range.next().map(|(&ticket, &waiting)| (ticket, waiting))
    }

    /// Forgets all that wait: the session is over.
    pub(crate) fn forget_waiting(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test_arena;
    use arca_shared::memory::BuddyAllocator;
    use arca_shared::pipe::{BidirectionalPipe, PipeRegion, RingSize, Side};
    use arca_shared::protocol::frame::HEADER_LEN;

    /// Capacity of the rings, in bytes.
    const CAPACITY: usize = 4072;

    /// Requests of which so many may wait, if their replies fit the ring.
    fn requests(limit: usize) -> Requests {
        let allocator = BuddyAllocator::new(test_arena(1 << 20));
        let size = RingSize::new(CAPACITY as u64).expect("a size");
        let region = PipeRegion::allocate(&allocator, size).expect("room");
        let pipe = BidirectionalPipe::join(allocator.arena(), region.place(), Side::B);
        Requests::new(ControlPipe::new(pipe.expect("ours"), region), limit)
    }

    #[test]
    fn no_more_may_wait_than_their_replies_and_two_others_fit() {
        let replies = CAPACITY / (HEADER_LEN + Reply::MAX_PAYLOAD);
        for (limit, wanted) in [(0, 0), (3, 3), (usize::MAX, replies - 2)] {
            let mut requests = requests(limit);
            let mut count = 0;
            while requests.may_wait() && count <= replies {
                let ticket = requests.ticket(7);
                requests.wait(ticket, Waiting::Accept(1));
                count += 1;
            }
            assert_eq!(count, wanted, "{limit}");
        }
    }

    #[test]
    fn a_request_waits_until_it_is_answered_and_the_oldest_is_found() {
        let mut requests = requests(10);
        let tickets = [7, 8, 7].map(|request_id| {
            let ticket = requests.ticket(request_id);
            assert!(!requests.is_waiting(ticket));
            requests.wait(ticket, Waiting::Accept(request_id));
            ticket
        });
        let oldest = |requests: &Requests| requests.oldest(7).map(|(ticket, _)| ticket);
        let mut stats = MonitorStats::default();
        assert_eq!(oldest(&requests), Some(tickets[0]));
        let reply = Reply::Done;
        requests
            .answer(tickets[0], &reply, &mut stats)
            .expect("room");
        assert_eq!(oldest(&requests), Some(tickets[2]));
        let waiting = tickets.map(|ticket| requests.is_waiting(ticket));
        assert_eq!((waiting, stats.frames_out), ([false, true, true], 1));
        requests.forget_waiting();
        assert_eq!(oldest(&requests), None);
        assert!(!requests.is_waiting(tickets[1]));
    }
}
