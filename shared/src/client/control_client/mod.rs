//! The control pipe from Arca's side: requests in flight, and their replies.
//!
//! A request is a [`Call`], a future that ends with its reply. Any number may be
//! in flight; the replies come in any order and find their call by request_id.
//! A call that is dropped before its reply is cancelled on the monitor's side
//! too. If its success was already under way, nothing is lost: a connection that
//! was accepted goes to another accept of that listener, or is kept for the next;
//! one that was connected is closed.

mod accepts;
mod call;
mod calls;
mod options;
mod sender;

pub(super) use call::Call;

use super::PipeEnd;
use crate::client::reactor::{OnReady, Reactor};
use crate::errno::Errno;
use crate::error::Error;
use crate::memory::ShmOffset;
use crate::notify::Slot;
use crate::pipe::{BidirectionalPipe, PipeError, PipePlace, Side};
use crate::protocol::frame::{Frame, Next};
use crate::protocol::message::{Reply, Request};
use crate::ring::{ArenaRing, Consumer};
use accepts::Age;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use calls::{CallState, Calls};
use core::task::Waker;
use sender::Sender;
use spin::{Mutex, MutexGuard};

/// The Arca end of the control pipe.
pub(super) struct ControlClient {
    reactor: Arc<Reactor>,
    slot: Slot,
    sender: Mutex<Sender>,
    receiver: Mutex<Consumer<ArenaRing>>,
    calls: Mutex<Calls>,
}

/// Takes replies when the control slot is ready. It holds the client weakly, because
/// the reactor, which holds this, is held by the client.
struct ControlEvents(Weak<ControlClient>);

impl OnReady for ControlEvents {
    fn ready(&self) {
        if let Some(control) = self.0.upgrade() {
            control.receive();
        }
    }
}

impl ControlClient {
    pub(super) fn join(reactor: &Arc<Reactor>, place: PipePlace) -> Result<Arc<Self>, PipeError> {
        let pipe = BidirectionalPipe::join(reactor.arena(), place, Side::A)?;
        let slot = Slot::from(ShmOffset(place.shm_offset));
        let (ring, mut receiver) = pipe.into_split();
        // Replies are always waited for. What is found, be it an invalid cursor, is
        // dealt with when the reactor first reports the slot.
        let _ = receiver.arm_data(0);
        let control = Arc::new(Self {
            reactor: reactor.clone(),
            slot,
            sender: Mutex::new(Sender::new(ring)),
            receiver: Mutex::new(receiver),
            calls: Mutex::default(),
        });
        reactor.register(slot, Arc::new(ControlEvents(Arc::downgrade(&control))));
        Ok(control)
    }

    pub(super) fn reactor(&self) -> &Arc<Reactor> {
        &self.reactor
    }

    /// Sends a request whose reply nobody waits for.
    pub(super) fn post(self: &Arc<Self>, request: Request) {
        drop(self.call(request));
    }

    /// Takes the replies that are there and sends what waits for room.
    fn receive(&self) {
        loop {
            let mut receiver = self.receiver.lock();
            let frame = match Frame::take_or_arm(&mut receiver) {
                Ok(Next::Frame(frame)) => frame,
                Ok(Next::Armed) => break,
                Ok(Next::End) => {
                    drop(receiver);
                    self.end(Error::SessionEnded);
                    break;
                }
                Err(_) => {
                    drop(receiver);
                    self.end(Error::Protocol("a reply frame is malformed"));
                    break;
                }
            };
            // The monitor may wait for room in the reply ring.
            let wanted = receiver.should_notify_room(1);
            // Before others take a reply: they are given in the order of the ring.
            let calls = self.calls.lock();
            drop(receiver);
            match Reply::from_frame(&frame) {
                Ok(reply) => self.answer(calls, frame.request_id, reply),
                Err(_) => {
                    drop(calls);
                    self.end(Error::Protocol("a reply is not one that was asked for"));
                }
            }
            if wanted {
                self.reactor.notify_monitor(self.slot);
            }
        }
        let mut sender = self.sender.lock();
        if !sender.is_idle() {
            let sent = sender.flush();
            drop(sender);
            match sent {
                Ok(true) => self.reactor.notify_monitor(self.slot),
                Ok(false) => {}
                Err(invalid) => self.end(invalid.into()),
            }
        }
    }

    /// Gives a reply to its call.
    fn answer<'a>(&'a self, mut calls: MutexGuard<'a, Calls>, id: u32, reply: Reply) {
        let is_unowned = calls.take_unowned(id);
        if accepts::is_shortage(&reply) {
            let mut frames = calls.fall_back();
            let again = calls.retry(id, &reply);
            let is_retried = again.is_some();
            frames.extend(again);
            if !frames.is_empty() {
                self.send_in_order(calls, frames);
                if is_retried {
                    return;
                }
                calls = self.calls.lock();
            }
        }
        if is_unowned {
            return self.dispose(calls, reply, Age::Newest);
        }
        // A reply to nothing that was asked is dropped.
        if let Some(state) = calls.live.get_mut(&id) {
            let previous = core::mem::replace(state, CallState::Answered(reply));
            drop(calls);
            if let CallState::Waiting { waker, .. } = previous {
                waker.into_iter().for_each(Waker::wake);
            }
        }
    }

    /// Puts a reply that nobody waits for to use, or undoes what it reports. `age`: that
    /// of a connection beside those that are kept.
    fn dispose(&self, mut calls: MutexGuard<'_, Calls>, reply: Reply, age: Age) {
        match reply {
            Reply::Accepted { ready, .. } => self.hand_over(calls, &ready, reply, age),
            Reply::Connected { ready, .. } => {
                drop(calls);
                drop(PipeEnd::join(&self.reactor, ready.pipe));
            }
            Reply::Listening { listener_id, .. } => {
                drop(calls);
                self.send_unanswered(&Request::CloseListener { listener_id });
            }
            // For the next that waits for it.
            Reply::SignalCame { signal } => {
                calls.signals |= 1u32.checked_shl(signal.into()).unwrap_or(0);
            }
            _ => {}
        }
    }

    /// Ends every call, now and from now on.
    fn end(&self, error: Error) {
        let mut calls = self.calls.lock();
        calls.ended.get_or_insert(error);
        let waiting = calls.live.values_mut().filter_map(|state| match state {
            CallState::Waiting { waker, .. } => waker.take(),
            CallState::Answered(_) => None,
        });
        let wakers: Vec<Waker> = waiting.collect();
        drop(calls);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn send_cancel(&self, id: u32) {
        self.send_unanswered(&Request::Cancel { request_id: id });
    }

    /// Sends a request whose reply says nothing that matters: it carries id 0,
    /// which no call of ours has.
    fn send_unanswered(&self, request: &Request) {
        self.send(self.sender.lock(), [request.to_frame(0)]);
    }

    /// Sends frames, and lets go of the calls: frames lie in the ring in the order in
    /// which their ids were given.
    fn send_in_order(&self, calls: MutexGuard<'_, Calls>, frames: impl IntoIterator<Item = Frame>) {
        let sender = self.sender.lock();
        drop(calls);
        self.send(sender, frames);
    }

    fn send(&self, mut sender: MutexGuard<'_, Sender>, frames: impl IntoIterator<Item = Frame>) {
        let mut frames = frames.into_iter().peekable();
        if frames.peek().is_none() {
            return;
        }
        let sent = frames.try_for_each(|frame| sender.send(frame));
        drop(sender);
        match sent {
            Ok(()) => self.reactor.notify_monitor(self.slot),
            Err(invalid) => self.end(invalid.into()),
        }
    }
}

/// The error of a reply that does not belong to its request.
pub(super) fn unexpected(reply: &Reply) -> Error {
    match reply {
        Reply::Unsupported { .. } => Errno::ENOSYS.into(),
        Reply::Failed(errno) => (*errno).into(),
        _ => Error::Protocol("a reply does not belong to its request"),
    }
}

#[cfg(test)]
mod tests;
