//! One request in flight.

use super::ControlClient;
use super::accepts::Age;
use super::calls::{CallState, Calls, Retry, Unowned};
use crate::error::Error;
use crate::protocol::message::{Reply, Request};
use crate::protocol::task_table::Wait;
use alloc::sync::Arc;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

/// A request in flight: a future that ends with its reply. Dropping it cancels
/// the request.
pub(in crate::client) struct Call {
    control: Arc<ControlClient>,
    id: u32,
    /// What whoever polls it waits for.
    wait: Wait,
    /// Whether it is cancelled on the monitor's side when this is dropped unanswered.
    cancels: bool,
    /// An answer that was there before anything was asked.
    ready: Option<Reply>,
}

impl ControlClient {
    /// Sends a request; the future ends with its reply. An accept has
    /// [`ControlClient::accept`].
    pub(in crate::client) fn call(self: &Arc<Self>, request: Request) -> Call {
        let wait = match request {
            Request::ConnectTo(_) | Request::ConnectName { .. } => Wait::Connect,
            _ => Wait::Reply(request.code()),
        };
        let cancels = matches!(
            request,
            Request::ConnectTo(_)
                | Request::ConnectName { .. }
                | Request::Resolve { .. }
                | Request::AwaitSignal { .. }
        );
        let mut calls = self.calls.lock();
        if calls.ended.is_some() {
            return self.unsent(None);
        }
        if let Request::AwaitSignal { signals } = request
            && let Some(signal) = calls.take_signal(signals)
        {
            return self.unsent(Some(Reply::SignalCame { signal }));
        }
        let id = calls.fresh_id();
        calls.live.insert(id, CallState::waiting(None));
        self.send_in_order(calls, [request.to_frame(id)]);
        Call {
            control: self.clone(),
            id,
            wait,
            cancels,
            ready: None,
        }
    }

    /// A call whose request, an accept on that listener, is in flight or about to be sent.
    pub(super) fn accept_call(self: &Arc<Self>, calls: &mut Calls, id: u32, listener: u32) -> Call {
        calls.live.insert(id, CallState::waiting(Some(listener)));
        Call {
            control: self.clone(),
            id,
            wait: Wait::Accept(listener),
            cancels: true,
            ready: None,
        }
    }

    /// A call that needs no request: its answer is there, or the session is over.
    pub(super) fn unsent(self: &Arc<Self>, ready: Option<Reply>) -> Call {
        Call {
            control: self.clone(),
            // No request in flight has it: without an answer the first poll finds
            // that all is over.
            id: 0,
            wait: Wait::Connect,
            cancels: false,
            ready,
        }
    }
}

impl Call {
    /// Asks the monitor to give the request up. It is answered all the same: with
    /// its success if that came first, else with ECANCELED.
    pub(in crate::client) fn cancel(&self) {
        if self.id == 0 {
            return;
        }
        let mut calls = self.control.calls.lock();
        if let Some(CallState::Waiting { retry, .. }) = calls.live.get_mut(&self.id) {
            *retry = Retry::Never;
        }
        drop(calls);
        self.control.send_cancel(self.id);
    }
}

impl Future for Call {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ready = self.ready.take();
        let mut calls = self.control.calls.lock();
        if let Some(reply) = ready {
            calls.given(&reply, self.control.reactor.moment());
            return Poll::Ready(Ok(reply));
        }
        let ended = calls.ended;
        match calls.live.get_mut(&self.id) {
            Some(CallState::Answered(reply)) => {
                let reply = *reply;
                calls.live.remove(&self.id);
                calls.given(&reply, self.control.reactor.moment());
                Poll::Ready(Ok(reply))
            }
            Some(CallState::Waiting { waker, .. }) => match ended {
                Some(error) => Poll::Ready(Err(error)),
                None => {
                    *waker = Some(context.waker().clone());
                    drop(calls);
                    self.control.reactor.hal().waits_for(self.wait);
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
        let ready = self.ready.take();
        let mut calls = self.control.calls.lock();
        if let Some(reply) = ready {
            // One that was kept, taken and not used.
            return self.control.dispose(calls, reply, Age::Oldest);
        }
        let Some(state) = calls.live.remove(&self.id) else {
            return;
        };
        match state {
            CallState::Answered(reply) => self.control.dispose(calls, reply, Age::Oldest),
            CallState::Waiting { .. } => {
                let ended = calls.ended.is_some();
                calls.unowned.insert(self.id, Unowned::Abandoned);
                drop(calls);
                if self.cancels && !ended {
                    self.control.send_cancel(self.id);
                }
            }
        }
    }
}
