//! A channel that closes: its receivers learn that no sender is left, and its senders
//! that no receiver is.

use crate::tasks;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arca_shared::protocol::task_table::Wait;
use core::fmt;
use core::future::poll_fn;
use core::task::{Context, Poll, Waker};
use spin::Mutex;

/// A bounded channel with room for `capacity` values, at least one, from any number of
/// senders to any number of receivers.
#[must_use]
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared(Mutex::new(State {
        values: VecDeque::new(),
        capacity: capacity.max(1),
        senders: 1,
        receivers: 1,
        sending: Vec::new(),
        receiving: Vec::new(),
    })));
    (Sender(shared.clone()), Receiver(shared))
}

/// A value that was not sent, because no receiver is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the channel is closed")]
pub struct SendError<T>(pub T);

/// Why a value was not sent at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<T> {
    /// There is no room.
    #[error("the channel is full")]
    Full(T),
    /// No receiver is left.
    #[error("the channel is closed")]
    Closed(T),
}

/// Why no value was received at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryRecvError {
    /// There is none.
    #[error("the channel is empty")]
    Empty,
    /// There is none, and no sender is left.
    #[error("the channel is closed")]
    Closed,
}

struct Shared<T>(Mutex<State<T>>);

struct State<T> {
    values: VecDeque<T>,
    capacity: usize,
    senders: usize,
    receivers: usize,
    /// Who waits for room, and who for a value. All are woken when there is some: one
    /// that has gone meanwhile would not hand it on.
    sending: Vec<Waker>,
    receiving: Vec<Waker>,
}

/// Adds a waker, unless one for the same task is there.
fn add(wakers: &mut Vec<Waker>, context: &Context<'_>) {
    if !wakers.iter().any(|other| other.will_wake(context.waker())) {
        wakers.push(context.waker().clone());
    }
}

/// Wakes those that a change was for; without the lock, because a waker may come back.
fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

impl<T> Shared<T> {
    fn waits(self: &Arc<Self>) {
        tasks::waits_for(Wait::Lock(Arc::as_ptr(self).addr() as u64));
    }

    /// Sends, or has the waker of `context` woken when there may be room.
    fn send(&self, value: T, context: Option<&Context<'_>>) -> Result<(), TrySendError<T>> {
        let mut state = self.0.lock();
        if state.receivers == 0 {
            return Err(TrySendError::Closed(value));
        }
        if state.values.len() == state.capacity {
            if let Some(context) = context {
                add(&mut state.sending, context);
            }
            return Err(TrySendError::Full(value));
        }
        state.values.push_back(value);
        let receiving = core::mem::take(&mut state.receiving);
        drop(state);
        wake(receiving);
        Ok(())
    }

    /// Receives, or has the waker of `context` woken when there may be something.
    fn receive(&self, context: Option<&Context<'_>>) -> Result<T, TryRecvError> {
        let mut state = self.0.lock();
        match state.values.pop_front() {
            Some(value) => {
                let sending = core::mem::take(&mut state.sending);
                drop(state);
                wake(sending);
                Ok(value)
            }
            None if state.senders == 0 => Err(TryRecvError::Closed),
            None => {
                if let Some(context) = context {
                    add(&mut state.receiving, context);
                }
                Err(TryRecvError::Empty)
            }
        }
    }
}

/// The sending end of a [`channel`]. A clone is another one.
pub struct Sender<T>(Arc<Shared<T>>);

impl<T> Sender<T> {
    /// Sends a value, and waits for room. Dropping the future drops a value that was not
    /// sent.
    ///
    /// # Errors
    ///
    /// The value, if no receiver is left.
    pub async fn send(&self, value: T) -> Result<(), SendError<T>> {
        let mut unsent = Some(value);
        poll_fn(|context| {
            let Some(value) = unsent.take() else {
                return Poll::Ready(Ok(()));
            };
            match self.0.send(value, Some(context)) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(TrySendError::Closed(value)) => Poll::Ready(Err(SendError(value))),
                Err(TrySendError::Full(value)) => {
                    unsent = Some(value);
                    self.0.waits();
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Sends a value if there is room now.
    ///
    /// # Errors
    ///
    /// The value, and why it was not sent.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.0.send(value, None)
    }

    /// Whether no receiver is left.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.0.lock().receivers == 0
    }
}

/// The receiving end of a [`channel`]. A clone is another one: each value goes to one of
/// them.
pub struct Receiver<T>(Arc<Shared<T>>);

impl<T> Receiver<T> {
    /// The next value; `None` when there is none, and no sender is left. Dropping the
    /// future loses none.
    pub async fn recv(&self) -> Option<T> {
        poll_fn(|context| match self.0.receive(Some(context)) {
            Ok(value) => Poll::Ready(Some(value)),
            Err(TryRecvError::Closed) => Poll::Ready(None),
            Err(TryRecvError::Empty) => {
                self.0.waits();
                Poll::Pending
            }
        })
        .await
    }

    /// The next value, if it is there.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.0.receive(None)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.0.lock().senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.0.0.lock().receivers += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.senders -= 1;
        if state.senders == 0 {
            let receiving = core::mem::take(&mut state.receiving);
            drop(state);
            wake(receiving);
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.receivers -= 1;
        if state.receivers == 0 {
            let sending = core::mem::take(&mut state.sending);
            // Nobody will have them.
            let values = core::mem::take(&mut state.values);
            drop(state);
            drop(values);
            wake(sending);
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::rc::Rc;
    use core::future::Future;
    use core::pin::{Pin, pin};

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn values_come_in_order_and_no_more_than_there_is_room_for() {
        let (sender, receiver) = channel(2);
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        assert_eq!((sender.try_send(1), sender.try_send(2)), (Ok(()), Ok(())));
        assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
        assert_eq!(receiver.try_recv(), Ok(1));
        assert_eq!(sender.try_send(3), Ok(()));
        assert_eq!(receiver.clone().try_recv(), Ok(2));
        assert_eq!(receiver.try_recv(), Ok(3));
        let (sender, receiver) = channel(0);
        assert_eq!(sender.try_send(1), Ok(()), "there is always room for one");
        drop(receiver);
        assert_eq!(sender.try_send(2), Err(TrySendError::Closed(2)));
    }

    #[test]
    fn what_was_sent_is_received_before_the_end() {
        let (sender, receiver) = channel(8);
        let other = sender.clone();
        drop(sender);
        assert_eq!(other.try_send(1), Ok(()));
        drop(other);
        assert_eq!(poll(pin!(receiver.recv())), Poll::Ready(Some(1)));
        assert_eq!(poll(pin!(receiver.recv())), Poll::Ready(None));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
    }

    #[test]
    fn a_channel_without_receivers_drops_what_nobody_has() {
        let (sender, receiver) = channel(8);
        let value = Rc::new(());
        assert!(sender.try_send(value.clone()).is_ok());
        drop(receiver.clone());
        assert!(!sender.is_closed());
        drop(receiver);
        assert!(sender.is_closed());
        assert_eq!(Rc::strong_count(&value), 1);
        let unsent = poll(pin!(sender.send(value.clone())));
        assert_eq!(unsent, Poll::Ready(Err(SendError(value))));
    }
}
