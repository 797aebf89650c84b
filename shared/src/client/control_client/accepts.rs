//! Accepts, and the connections that come before they are asked for.
//!
//! A program that takes connections as they come asks for the next as soon as it has one.
//! With only that one request in flight, each connection costs a round trip to the
//! monitor, and a bunch of them as many as it has members. So requests are sent ahead
//! for such a program. A connection that comes for one of them is kept here, as the
//! kernel's backlog would have kept it, for the next accept. Once something is short
//! that these may have taken, no more are sent ahead in the session.

use super::calls::{CallState, Calls, Retry, Unowned};
use super::{Call, ControlClient};
use crate::client::PipeEnd;
use crate::client::reactor::Moment;
use crate::errno::Errno;
use crate::protocol::frame::Frame;
use crate::protocol::message::{ConnectionReady, Reply, Request};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::task::Waker;
use spin::MutexGuard;

/// Most connections of a listener that are asked for ahead, or kept.
const AHEAD_MAX: usize = 16;
/// With no more than so many of them left, others are asked for, all with one mark.
const AHEAD_LOW: usize = AHEAD_MAX / 2;
/// Most of them on all listeners: a monitor lets 4,096 accepts wait, if its user has not
/// said otherwise.
const AHEAD_MAX_OF_ALL: usize = 512;

/// Whether accepts are sent ahead in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ahead {
    /// None was yet.
    #[default]
    No,
    Yes,
    /// No more: something was short, which those that are ahead or kept may have taken.
    NoMore,
}

/// How old a connection is beside those that are kept for the same listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    Oldest,
    Newest,
}

/// What an open listener has besides the accepts that wait on it.
#[derive(Debug, Default)]
pub(super) struct Accepts {
    /// Connections that were accepted for nobody, oldest first.
    kept: VecDeque<Reply>,
    /// Requests in flight that no accept has made its own, oldest first.
    ahead: VecDeque<u32>,
    /// When the program was last given a connection.
    given: Option<Moment>,
}

impl Accepts {
    /// How many come before another has to be asked for.
    fn left(&self) -> usize {
        self.kept.len() + self.ahead.len()
    }
}

/// Whether a request was refused for want of something that accepts may have taken: places
/// for requests that wait, connections, or the arena.
pub(super) fn is_shortage(reply: &Reply) -> bool {
    match reply {
        Reply::AcceptErr(errno) | Reply::ConnectErr(errno) | Reply::Failed(errno) => {
            matches!(*errno, Errno::EAGAIN | Errno::ENFILE | Errno::ENOBUFS)
        }
        _ => false,
    }
}

/// What an accept begins with.
enum Start {
    /// A connection that was kept.
    Kept(Reply),
    /// A request in flight, which is the accept's own from now on.
    Ahead(u32),
    /// A request that is to be sent.
    Fresh(u32),
}

/// Who gets a connection that was accepted for nobody.
enum Recipient {
    /// The oldest accept that waits. Its own request, of that id, is nobody's now.
    Waiting(u32, Option<Waker>),
    /// The next accept.
    Next,
    /// Nobody: the listener is closed.
    Nobody,
}

impl ControlClient {
    /// Asks for a connection of a listener; the future ends with the reply.
    pub(in crate::client) fn accept(self: &Arc<Self>, listener: u32) -> Call {
        let mut calls = self.calls.lock();
        if calls.ended.is_some() {
            return self.unsent(None);
        }
        let start = calls.begin_accept(listener);
        let ahead = calls.go_ahead(listener, self.reactor.moment());
        let (call, own) = match start {
            Start::Kept(reply) => (self.unsent(Some(reply)), None),
            Start::Ahead(id) => (self.accept_call(&mut calls, id, listener), None),
            Start::Fresh(id) => (self.accept_call(&mut calls, id, listener), Some(id)),
        };
        let request = Request::AcceptFrom {
            listener_id: listener,
        };
        let ids = own.into_iter().chain(ahead);
        self.send_in_order(calls, ids.map(|id| request.to_frame(id)));
        call
    }

    /// Puts a connection that was accepted for nobody to use.
    pub(super) fn hand_over(
        &self,
        mut calls: MutexGuard<'_, Calls>,
        ready: &ConnectionReady,
        reply: Reply,
        age: Age,
    ) {
        let recipient = calls.recipient(ready.listener_id, reply, age);
        drop(calls);
        match recipient {
            Recipient::Waiting(id, waker) => {
                self.send_cancel(id);
                waker.into_iter().for_each(Waker::wake);
            }
            Recipient::Next => {}
            Recipient::Nobody => self.reset(ready),
        }
    }

    /// Closes a connection that nobody has accepted with a reset, as the kernel does with
    /// those in the backlog of a listener that closes.
    fn reset(&self, ready: &ConnectionReady) {
        // A place that cannot be one is the monitor's fault, and nothing is lost with it.
        if let Ok(end) = PipeEnd::join(&self.reactor, ready.pipe) {
            end.abort();
        }
    }

    /// Takes note of a listener that is open.
    pub(in crate::client) fn open_listener(&self, listener: u32) {
        let accepts = Accepts::default();
        self.calls.lock().listeners.insert(listener, accepts);
    }

    /// Closes a listener, and what is kept for it.
    pub(in crate::client) fn close_listener(&self, listener: u32) {
        let mut calls = self.calls.lock();
        let accepts = calls.listeners.remove(&listener);
        let ended = calls.ended.is_some();
        drop(calls);
        if !ended {
            self.send_unanswered(&Request::CloseListener {
                listener_id: listener,
            });
        }
        for reply in accepts.into_iter().flat_map(|accepts| accepts.kept) {
            if let Reply::Accepted { ready, .. } = reply {
                self.reset(&ready);
            }
        }
    }
}

impl Calls {
    /// Begins an accept on a listener.
    fn begin_accept(&mut self, listener: u32) -> Start {
        let mut id = None;
        if let Some(accepts) = self.listeners.get_mut(&listener) {
            if let Some(reply) = accepts.kept.pop_front() {
                return Start::Kept(reply);
            }
            id = accepts.ahead.pop_front();
        }
        match id {
            Some(id) => {
                self.unowned.remove(&id);
                Start::Ahead(id)
            }
            None => Start::Fresh(self.fresh_id()),
        }
    }

    /// Ids of accepts that are now to be sent ahead of a program that has just begun one.
    ///
    /// There are some if the program has waited for nothing since it was given the last
    /// connection: it takes them as they come. One that serves a connection before it
    /// accepts the next has no use for others meanwhile, and leaves them to the kernel.
    fn go_ahead(&mut self, listener: u32, now: Moment) -> Vec<u32> {
        let Some(accepts) = self.listeners.get(&listener) else {
            return Vec::new();
        };
        let left = accepts.left();
        if accepts.given != Some(now) || left > AHEAD_LOW || self.ahead == Ahead::NoMore {
            return Vec::new();
        }
        self.ahead = Ahead::Yes;
        let of_all: usize = self.listeners.values().map(Accepts::left).sum();
        let more = (AHEAD_MAX - left).min(AHEAD_MAX_OF_ALL.saturating_sub(of_all));
        let ids = (0..more).map(|_| {
            let id = self.fresh_id();
            self.unowned.insert(id, Unowned::Ahead(listener));
            id
        });
        let ids: Vec<u32> = ids.collect();
        if let Some(accepts) = self.listeners.get_mut(&listener) {
            accepts.ahead.extend(&ids);
        }
        ids
    }

    /// Takes note that the program is given a connection.
    pub(super) fn given(&mut self, reply: &Reply, now: Moment) {
        if let Reply::Accepted { ready, .. } = reply
            && let Some(accepts) = self.listeners.get_mut(&ready.listener_id)
        {
            accepts.given = Some(now);
        }
    }

    /// Takes a request out of those whose reply is no future's, because it has come;
    /// whether it was one.
    pub(super) fn take_unowned(&mut self, id: u32) -> bool {
        let unowned = self.unowned.remove(&id);
        if let Some(Unowned::Ahead(listener)) = unowned
            && let Some(accepts) = self.listeners.get_mut(&listener)
        {
            accepts.ahead.retain(|&ahead| ahead != id);
        }
        unowned.is_some()
    }

    /// Sends no more accepts ahead, because something is short: the frames that give up
    /// those in flight, if this is the first time.
    pub(super) fn fall_back(&mut self) -> Vec<Frame> {
        if self.ahead != Ahead::Yes {
            return Vec::new();
        }
        self.ahead = Ahead::NoMore;
        for state in self.live.values_mut() {
            if let CallState::Waiting { retry, .. } = state
                && *retry == Retry::No
            {
                *retry = Retry::Once;
            }
        }
        let mut cancels = Vec::new();
        for accepts in self.listeners.values_mut() {
            for request_id in accepts.ahead.drain(..) {
                self.unowned.insert(request_id, Unowned::Abandoned);
                cancels.push(Request::Cancel { request_id }.to_frame(0));
            }
        }
        cancels
    }

    /// The frame that asks once more for an accept which was refused: while it was in
    /// flight, those ahead had its place.
    pub(super) fn retry(&mut self, id: u32, reply: &Reply) -> Option<Frame> {
        let Some(CallState::Waiting {
            listener: Some(listener_id),
            retry,
            ..
        }) = self.live.get_mut(&id)
        else {
            return None;
        };
        let refused = matches!(reply, Reply::AcceptErr(Errno::EAGAIN));
        if !refused || *retry != Retry::Once {
            return None;
        }
        *retry = Retry::No;
        let listener_id = *listener_id;
        Some(Request::AcceptFrom { listener_id }.to_frame(id))
    }

    /// Decides who gets a connection that was accepted for nobody.
    fn recipient(&mut self, wanted: u32, reply: Reply, age: Age) -> Recipient {
        let Some(accepts) = self.listeners.get_mut(&wanted) else {
            return Recipient::Nobody;
        };
        let oldest = self.live.iter_mut().find_map(|(&id, state)| match state {
            CallState::Waiting {
                waker, listener, ..
            } if *listener == Some(wanted) => {
                let waker = waker.take();
                *state = CallState::Answered(reply);
                Some((id, waker))
            }
            _ => None,
        });
        match oldest {
            Some((id, waker)) => {
                self.unowned.insert(id, Unowned::Abandoned);
                Recipient::Waiting(id, waker)
            }
            None => {
                match age {
                    Age::Oldest => accepts.kept.push_front(reply),
                    Age::Newest => accepts.kept.push_back(reply),
                }
                Recipient::Next
            }
        }
    }
}
