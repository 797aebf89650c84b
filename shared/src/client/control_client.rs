//! The control pipe from Arca's side: requests in flight, and their replies.
//!
//! A request is a [`Call`], a future that ends with its reply. Any number may be
//! in flight; the replies come in any order and find their call by request_id.
//! A call that is dropped before its reply is cancelled on the monitor's side
//! too. If its success was already under way, nothing is lost: a connection that
//! was accepted goes to another accept of that listener, or is kept for the next;
//! one that was connected is closed.

use super::PipeEnd;
use crate::client::reactor::{OnReady, Reactor};
use crate::error::Error;
use crate::memory::ShmOffset;
use crate::notify::Slot;
use crate::pipe::PipePlace;
use crate::pipe::{BidirectionalPipe, PipeError, Side};
use crate::protocol::frame::{Frame, Next};
use crate::protocol::message::{ConnectionReady, Reply, Request};
use crate::ring::{ArenaRing, Arm, Consumer, Producer, RingError};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use spin::Mutex;

/// The Arca end of the control pipe.
pub(super) struct ControlClient {
    reactor: Arc<Reactor>,
    slot: Slot,
    sender: Mutex<Sender>,
    receiver: Mutex<Consumer<ArenaRing>>,
    calls: Mutex<Calls>,
}

struct Sender {
    ring: Producer<ArenaRing>,
    /// Frames that found the ring full, oldest first.
    waiting: VecDeque<Frame>,
    last_id: u32,
}

#[derive(Default)]
struct Calls {
    /// Requests whose future is alive.
    live: BTreeMap<u32, CallState>,
    /// Requests whose own reply is still to come, and is nobody's: the future is
    /// gone, or got another's reply.
    abandoned: BTreeSet<u32>,
    /// Listeners that are open.
    listeners: BTreeSet<u32>,
    /// Connections accepted for nobody, by open listener.
    unclaimed: BTreeMap<u32, VecDeque<Reply>>,
    ended: Option<Error>,
}

enum CallState {
    /// The reply is not there; the listener is the one an accept waits on.
    Waiting {
        waker: Option<Waker>,
        listener: Option<u32>,
    },
    Answered(Reply),
}

/// Hears of the control slot; holds the control weakly, because the reactor,
/// which holds this, is held by the control.
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
            sender: Mutex::new(Sender {
                ring,
                waiting: VecDeque::new(),
                last_id: 0,
            }),
            receiver: Mutex::new(receiver),
            calls: Mutex::default(),
        });
        reactor.register(slot, Arc::new(ControlEvents(Arc::downgrade(&control))));
        Ok(control)
    }

    pub(super) fn reactor(&self) -> &Arc<Reactor> {
        &self.reactor
    }

    /// Sends a request; the future ends with its reply.
    pub(super) fn call(self: &Arc<Self>, request: Request) -> Call {
        let listener = match request {
            Request::AcceptFrom { listener_id } => Some(listener_id),
            _ => None,
        };
        let cancels = matches!(
            request,
            Request::AcceptFrom { .. } | Request::ConnectTo(_) | Request::ConnectName { .. }
        );
        let mut calls = self.calls.lock();
        if calls.ended.is_some() {
            // No id of ours: the first poll finds that all is over.
            return Call::new(self, 0, None);
        }
        if let Some(listener) = listener
            && let Some(reply) = calls.take_unclaimed(listener)
        {
            return Call::new(self, 0, Some(reply));
        }
        let mut sender = self.sender.lock();
        let id = loop {
            let id = sender.last_id.wrapping_add(1).max(1);
            sender.last_id = id;
            if !calls.live.contains_key(&id) && !calls.abandoned.contains(&id) {
                break id;
            }
        };
        let waker = None;
        let state = CallState::Waiting { waker, listener };
        calls.live.insert(id, state);
        drop(calls);
        sender.send(request.to_frame(id));
        drop(sender);
        self.reactor.notify_monitor(self.slot);
        let mut call = Call::new(self, id, None);
        call.cancels = cancels;
        call
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
            drop(receiver);
            if wanted {
                self.reactor.notify_monitor(self.slot);
            }
            match Reply::from_frame(&frame) {
                Ok(reply) => self.answer(frame.request_id, reply),
                Err(_) => self.end(Error::Protocol("a reply is not one that was asked for")),
            }
        }
        let sent = {
            let mut sender = self.sender.lock();
            !sender.waiting.is_empty() && sender.flush()
        };
        if sent {
            self.reactor.notify_monitor(self.slot);
        }
    }

    /// Gives a reply to its call.
    fn answer(&self, id: u32, reply: Reply) {
        let mut calls = self.calls.lock();
        if calls.abandoned.remove(&id) {
            drop(calls);
            self.dispose(reply);
            return;
        }
        // A reply to nothing that was asked is dropped.
        if let Some(state) = calls.live.get_mut(&id) {
            let previous = core::mem::replace(state, CallState::Answered(reply));
            drop(calls);
            if let CallState::Waiting { waker, .. } = previous {
                wake(waker);
            }
        }
    }

    /// Puts a reply that nobody waits for to use, or undoes what it reports.
    fn dispose(&self, reply: Reply) {
        match reply {
            Reply::Accepted { ready, .. } => {
                let mut calls = self.calls.lock();
                if !calls.listeners.contains(&ready.listener_id) {
                    drop(calls);
                    return self.close_unused(&ready);
                }
                let redirected = calls.redirect(ready.listener_id, reply);
                drop(calls);
                if let Some((id, waker)) = redirected {
                    self.send_cancel(id);
                    wake(waker);
                }
            }
            Reply::Connected { ready, .. } => self.close_unused(&ready),
            Reply::Listening { listener_id, .. } => {
                self.send_unanswered(&Request::CloseListener { listener_id })
            }
            _ => {}
        }
    }

    /// Closes a connection that nobody took.
    fn close_unused(&self, ready: &ConnectionReady) {
        drop(PipeEnd::join(&self.reactor, ready.pipe));
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
        let mut sender = self.sender.lock();
        sender.send(request.to_frame(0));
        drop(sender);
        self.reactor.notify_monitor(self.slot);
    }

    /// Takes note of a listener that is open.
    pub(super) fn open_listener(&self, listener: u32) {
        self.calls.lock().listeners.insert(listener);
    }

    /// Closes a listener, and what is kept for it.
    pub(super) fn close_listener(&self, listener: u32) {
        let mut calls = self.calls.lock();
        calls.listeners.remove(&listener);
        let unclaimed = calls.unclaimed.remove(&listener);
        let ended = calls.ended.is_some();
        drop(calls);
        if !ended {
            self.send_unanswered(&Request::CloseListener {
                listener_id: listener,
            });
        }
        for reply in unclaimed.into_iter().flatten() {
            if let Reply::Accepted { ready, .. } = reply {
                self.close_unused(&ready);
            }
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Calls {
    fn take_unclaimed(&mut self, listener: u32) -> Option<Reply> {
        let unclaimed = self.unclaimed.get_mut(&listener)?;
        let reply = unclaimed.pop_front();
        if unclaimed.is_empty() {
            self.unclaimed.remove(&listener);
        }
        reply
    }

    /// Gives an accepted connection whose accept is gone to the oldest other
    /// accept of that listener, which is then abandoned on the monitor's side:
    /// its id, and whom to wake. Kept for the next accept if there is none.
    fn redirect(&mut self, wanted: u32, reply: Reply) -> Option<(u32, Option<Waker>)> {
        let oldest = self.live.iter_mut().find_map(|(&id, state)| match state {
            CallState::Waiting { waker, listener } if *listener == Some(wanted) => {
                let waker = waker.take();
                *state = CallState::Answered(reply);
                Some((id, waker))
            }
            _ => None,
        });
        match oldest {
            Some((id, _)) => {
                self.abandoned.insert(id);
            }
            None => self.unclaimed.entry(wanted).or_default().push_back(reply),
        }
        oldest
    }
}

impl Sender {
    /// Sends a frame, or keeps it until there is room.
    fn send(&mut self, frame: Frame) {
        self.waiting.push_back(frame);
        self.flush();
    }

    /// Sends what waits; says whether anything was sent.
    fn flush(&mut self) -> bool {
        let mut sent = false;
        while let Some(frame) = self.waiting.front() {
            match frame.put(&mut self.ring) {
                Ok(()) => {
                    self.waiting.pop_front();
                    sent = true;
                }
                Err(RingError::WouldBlock) => {
                    if self.ring.arm_room(frame.wire_len()) == Ok(Arm::Armed) {
                        return sent;
                    }
                }
                // The session is over; whoever waits learns it from the reply
                // ring.
                Err(_) => self.waiting.clear(),
            }
        }
        sent
    }
}

/// A request in flight: a future that ends with its reply. Dropping it cancels
/// the request.
pub(super) struct Call {
    control: Arc<ControlClient>,
    id: u32,
    /// Whether the monitor should be told when this is dropped unanswered.
    cancels: bool,
    /// An answer that was there before anything was asked.
    ready: Option<Reply>,
}

impl Call {
    fn new(control: &Arc<ControlClient>, id: u32, ready: Option<Reply>) -> Self {
        Self {
            control: control.clone(),
            id,
            cancels: false,
            ready,
        }
    }

    /// Asks the monitor to give the request up. It is answered all the same: with
    /// its success if that came first, else with ECANCELED.
    pub(super) fn cancel(&self) {
        if self.id != 0 {
            self.control.send_cancel(self.id);
        }
    }
}

impl Future for Call {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(reply) = self.ready.take() {
            return Poll::Ready(Ok(reply));
        }
        let mut calls = self.control.calls.lock();
        let ended = calls.ended;
        match calls.live.get_mut(&self.id) {
            Some(CallState::Answered(reply)) => {
                let reply = *reply;
                calls.live.remove(&self.id);
                Poll::Ready(Ok(reply))
            }
            Some(CallState::Waiting { waker, .. }) => match ended {
                Some(error) => Poll::Ready(Err(error)),
                None => {
                    *waker = Some(context.waker().clone());
                    Poll::Pending
                }
            },
            // Polled again after it was ready.
            None => Poll::Ready(Err(ended.unwrap_or(Error::SessionEnded))),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(reply) = self.ready.take() {
            // Another's connection, taken and not used.
            self.control.dispose(reply);
            return;
        }
        let mut calls = self.control.calls.lock();
        let Some(state) = calls.live.remove(&self.id) else {
            return;
        };
        match state {
            CallState::Answered(reply) => {
                drop(calls);
                self.control.dispose(reply);
            }
            CallState::Waiting { .. } => {
                let ended = calls.ended.is_some();
                calls.abandoned.insert(self.id);
                drop(calls);
                if self.cancels && !ended {
                    self.control.send_cancel(self.id);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
