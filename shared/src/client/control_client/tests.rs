//! Tests of calls and their replies, against a monitor that the test plays.

mod accepts;

use super::*;
use crate::errno::Errno;
use crate::protocol::message::{Target, code};
use crate::ring::{Arm, RingHeader};
use crate::testing::hal::{Event, TestHal, Wakes};
use crate::testing::peer::{LOCAL, Peer, REMOTE, address};
use core::sync::atomic::Ordering;
use core::task::Poll;

type Answer = Result<Reply, Error>;

fn join(peer: &Peer) -> Arc<ControlClient> {
    ControlClient::join(&peer.reactor, peer.control).expect("a place")
}

/// A peer and the control of its session.
fn control() -> (Arc<Peer>, Arc<ControlClient>) {
    let peer = Peer::simple();
    let control = join(&peer);
    (peer, control)
}

fn accept() -> Request {
    Request::AcceptFrom { listener_id: 5 }
}

/// A request that is not cancelled when its call is dropped.
fn ask() -> Request {
    Request::Addresses(Target::Listener(5))
}

fn poll(call: &mut Call) -> Poll<Answer> {
    Arc::new(Wakes::default()).poll(call)
}

fn value(call: &mut Call) -> u64 {
    match poll(call) {
        Poll::Ready(Ok(Reply::OptionValue(value))) => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn replies_are_always_waited_for() {
    let (peer, _control) = control();
    assert!(peer.with_control(|end| end.outgoing().should_notify_data()));
}

#[test]
fn a_request_is_sent_and_marked() {
    let (peer, control) = control();
    let _call = control.call(ask());
    assert_eq!(peer.requests(), [(1, ask())]);
    assert!(peer.was_marked(peer.control));
    control.post(ask());
    assert_eq!(peer.requests(), [(2, ask())]);
    assert!(peer.was_marked(peer.control));
}

#[test]
fn replies_find_their_calls_in_any_order() {
    let (peer, control) = control();
    let mut calls: Vec<_> = (0..3).map(|_| control.call(ask())).collect();
    let wakes: Vec<_> = calls
        .iter_mut()
        .map(|call| {
            let wakes = Arc::new(Wakes::default());
            assert!(wakes.poll(call).is_pending());
            wakes
        })
        .collect();
    // One that nobody asked for is dropped.
    for id in [9, 0, 3, 1, 2] {
        peer.reply(id, Reply::OptionValue(id.into()));
    }
    assert!(peer.reactor.turn());
    for (index, call) in calls.iter_mut().enumerate() {
        assert_eq!(wakes[index].count(), 1);
        assert_eq!(value(call), index as u64 + 1);
    }
    assert_eq!(poll(&mut calls[0]), Poll::Ready(Err(Error::SessionEnded)));
    // More replies are waited for.
    assert!(peer.with_control(|end| end.outgoing().should_notify_data()));
    drop(calls);
    assert_eq!(peer.requests().len(), 3, "and nothing is cancelled");
}

#[test]
fn a_reply_comes_through_to_who_blocks() {
    let (peer, control) = control();
    let other = peer.clone();
    peer.hal.while_parked(move || {
        assert_eq!(other.request(), (1, ask()));
        other.reply(1, Reply::OptionValue(7));
    });
    let call = control.call(ask());
    assert_eq!(peer.reactor.block_on(call), Ok(Reply::OptionValue(7)));
    assert_eq!(peer.hal.events(), [Event::Park(None), Event::Kick(0)]);
}

#[test]
fn a_number_in_use_is_not_used_again() {
    let (peer, control) = control();
    let live = control.call(ask());
    control.post(ask());
    let third = control.call(ask());
    assert_eq!(peer.requests().len(), 3);
    control.calls.lock().last_id = u32::MAX - 1;
    let _calls = [control.call(ask()), control.call(ask())];
    // Neither 0, nor the one alive, nor the one whose reply is still to come.
    let ids: Vec<_> = peer.requests().iter().map(|request| request.0).collect();
    assert_eq!(ids, [u32::MAX, 4]);
    drop((live, third));
}

/// The requests that follow when a call of `request` is dropped.
fn dropped(request: Request) -> Vec<(u32, Request)> {
    let (peer, control) = control();
    let call = match request {
        Request::AcceptFrom { listener_id } => control.accept(listener_id),
        other => control.call(other),
    };
    assert_eq!(peer.requests(), [(1, request)]);
    peer.take_marks();
    drop(call);
    let requests = peer.requests();
    assert_eq!(peer.take_marks().len(), requests.len());
    requests
}

#[test]
fn a_call_that_waits_for_others_is_cancelled_when_dropped() {
    let name = crate::protocol::message::Name::new("host").expect("a name");
    for request in [
        accept(),
        Request::ConnectTo(address(REMOTE)),
        Request::ConnectName { port: 1, name },
        Request::Resolve { port: 1, name },
        Request::AwaitSignal { signals: 2 },
    ] {
        let cancel = Request::Cancel { request_id: 1 };
        assert_eq!(dropped(request), [(0, cancel)]);
    }
    for request in [ask(), Request::CloseListener { listener_id: 5 }] {
        assert_eq!(dropped(request), []);
    }
}

#[test]
fn a_signal_that_came_for_nobody_is_the_next_ones() {
    let (peer, control) = control();
    let wait = Request::AwaitSignal {
        signals: 1 << 1 | 1 << 15,
    };
    drop(control.call(wait));
    assert_eq!(
        peer.requests().len(),
        2,
        "the wait, and that it is given up"
    );
    peer.reply(1, Reply::SignalCame { signal: 15 });
    peer.reactor.turn();
    let mut other = control.call(Request::AwaitSignal { signals: 1 << 1 });
    assert_eq!(peer.requests().len(), 1);
    assert!(poll(&mut other).is_pending());
    let mut next = control.call(wait);
    assert_eq!(peer.requests(), []);
    assert_eq!(
        poll(&mut next),
        Poll::Ready(Ok(Reply::SignalCame { signal: 15 }))
    );
    // Taken, and not used, it is there again.
    drop(control.call(wait));
    peer.requests();
    peer.reply(3, Reply::SignalCame { signal: 1 });
    peer.reactor.turn();
    drop(control.call(wait));
    let mut last = control.call(wait);
    assert_eq!(
        poll(&mut last),
        Poll::Ready(Ok(Reply::SignalCame { signal: 1 }))
    );
}

#[test]
fn a_call_may_be_given_up_and_is_still_answered() {
    let (peer, control) = control();
    let mut call = control.accept(5);
    peer.requests();
    peer.take_marks();
    call.cancel();
    let cancel = Request::Cancel { request_id: 1 };
    assert_eq!(peer.requests(), [(0, cancel)]);
    assert!(peer.was_marked(peer.control));
    assert!(poll(&mut call).is_pending());
    peer.reply(1, Reply::AcceptErr(Errno::ECANCELED));
    peer.reactor.turn();
    assert_eq!(
        poll(&mut call),
        Poll::Ready(Ok(Reply::AcceptErr(Errno::ECANCELED)))
    );
}

/// Whether both flags of a pipe are set from Arca's side, in order.
fn is_closed(end: &mut BidirectionalPipe) -> bool {
    let flags = (end.is_peer_read_closed(), end.is_peer_write_closed());
    assert_eq!(flags.0, flags.1);
    assert_eq!(end.incoming().errno(), 0);
    flags.0
}

#[test]
fn a_connection_that_nobody_waits_for_is_closed() {
    for answered_first in [true, false] {
        let (peer, control) = control();
        let (place, mut end) = peer.pipe(64);
        let mut call = control.call(Request::ConnectTo(address(REMOTE)));
        assert!(poll(&mut call).is_pending());
        if answered_first {
            peer.reply(1, Peer::connected(place));
            peer.reactor.turn();
            assert!(!is_closed(&mut end));
            drop(call);
        } else {
            drop(call);
            peer.reply(1, Peer::connected(place));
            peer.reactor.turn();
        }
        assert!(is_closed(&mut end));
    }
}

#[test]
fn a_listener_that_nobody_waits_for_is_closed() {
    let (peer, control) = control();
    let (address, backlog) = (address(LOCAL), 0);
    control.post(Request::ListenAt { address, backlog });
    peer.requests();
    let (listener_id, local) = (8, address);
    peer.reply(1, Reply::Listening { listener_id, local });
    peer.reactor.turn();
    let close = Request::CloseListener { listener_id };
    assert_eq!(peer.requests(), [(0, close)]);
}

#[test]
fn a_reply_without_consequences_needs_nobody() {
    let (peer, control) = control();
    control.post(ask());
    peer.requests();
    peer.reply(1, Reply::Done);
    peer.reactor.turn();
    assert_eq!(peer.requests(), []);
    // Its number is free again.
    control.calls.lock().last_id = 0;
    control.post(ask());
    assert_eq!(peer.request().0, 1);
}

/// What every call says, one that waited and one made later, after `end`.
fn ended(end: impl FnOnce(&Arc<Peer>)) -> Error {
    let (peer, control) = control();
    let mut call = control.accept(5);
    let wakes = Arc::new(Wakes::default());
    assert!(wakes.poll(&mut call).is_pending());
    peer.requests();
    end(&peer);
    peer.signal(peer.control);
    peer.reactor.turn();
    assert_eq!(wakes.count(), 1);
    let Poll::Ready(Err(error)) = poll(&mut call) else {
        panic!("the session has ended");
    };
    let mut later = control.accept(5);
    assert_eq!(poll(&mut later), Poll::Ready(Err(error)));
    later.cancel();
    control.open_listener(5);
    control.close_listener(5);
    drop((call, later));
    assert_eq!(peer.requests(), [], "nobody is asked any more");
    error
}

#[test]
fn a_session_that_ends_ends_every_call() {
    let error = ended(|peer| peer.with_control(BidirectionalPipe::close_write));
    assert_eq!(error, Error::SessionEnded);
}

#[test]
fn a_frame_that_is_too_long_ends_the_session() {
    let error = ended(|peer| {
        let header = [code::DONE, 1, 1, 0, 0, 0, 0];
        peer.with_control(|end| end.write(&header)).expect("room");
    });
    assert_eq!(error, Error::Protocol("a reply frame is malformed"));
}

#[test]
fn a_reply_of_no_known_type_ends_the_session() {
    let error = ended(|peer| {
        let frame = [200, 0, 0, 1, 0, 0, 0];
        peer.with_control(|end| end.write(&frame)).expect("room");
    });
    assert_eq!(
        error,
        Error::Protocol("a reply is not one that was asked for")
    );
}

#[test]
fn the_first_reason_for_the_end_stays() {
    let error = ended(|peer| {
        let frame = [200, 0, 0, 1, 0, 0, 0];
        peer.with_control(|end| {
            end.write(&frame).expect("room");
            end.close_write();
        });
    });
    assert_eq!(
        error,
        Error::Protocol("a reply is not one that was asked for")
    );
}

#[test]
fn an_answer_that_was_there_before_the_end_is_given() {
    let (peer, control) = control();
    let mut call = control.call(ask());
    peer.reply(1, Reply::OptionValue(7));
    peer.with_control(BidirectionalPipe::close_write);
    peer.reactor.turn();
    assert_eq!(value(&mut call), 7);
}

#[test]
fn a_monitor_that_waits_for_room_is_notified() {
    let (peer, control) = control();
    let mut call = control.call(ask());
    peer.take_marks();
    peer.reply(1, Reply::OptionValue(7));
    peer.with_control(|end| {
        let replies = end.outgoing();
        assert_eq!(replies.arm_room(replies.capacity()), Ok(Arm::Armed));
    });
    peer.reactor.turn();
    assert!(peer.was_marked(peer.control));
    assert_eq!(value(&mut call), 7);
    let _call = control.call(ask());
    peer.take_marks();
    peer.reply(2, Reply::OptionValue(7));
    peer.reactor.turn();
    assert_eq!(peer.take_marks(), [], "it does not wait now");
}

/// A peer with control rings of 40 bytes, which three frames of 12 fill.
fn narrow() -> (Arc<Peer>, Arc<ControlClient>) {
    let peer = Peer::new(TestHal::default(), 1, 40);
    let control = join(&peer);
    (peer, control)
}

fn ids(peer: &Peer) -> Vec<u32> {
    let requests = peer.requests();
    requests.iter().map(|request| request.0).collect()
}

#[test]
fn requests_wait_for_room_and_keep_their_order() {
    let (peer, control) = narrow();
    let _calls: Vec<_> = (0..5).map(|_| control.call(ask())).collect();
    // The monitor is asked to say when there is room.
    assert!(peer.with_control(|end| !end.incoming().should_notify_room(5)));
    assert_eq!(ids(&peer), [1, 2, 3]);
    assert!(peer.with_control(|end| end.incoming().should_notify_room(5)));
    peer.take_marks();
    peer.signal(peer.control);
    peer.reactor.turn();
    assert!(peer.was_marked(peer.control));
    assert_eq!(ids(&peer), [4, 5]);
    peer.signal(peer.control);
    peer.reactor.turn();
    assert_eq!(peer.take_marks(), [], "nothing more to send");
}

#[test]
fn requests_that_still_find_no_room_go_on_waiting() {
    let (peer, control) = narrow();
    let _calls: Vec<_> = (0..5).map(|_| control.call(ask())).collect();
    peer.take_marks();
    peer.signal(peer.control);
    peer.reactor.turn();
    assert_eq!(peer.take_marks(), [], "nothing was sent");
    // A frame that waits is not overtaken by one that comes now.
    assert!(peer.with_control(|end| end.read(&mut [0; 12])).is_ok());
    let _sixth = control.call(ask());
    assert_eq!(ids(&peer), [2, 3, 4]);
    peer.signal(peer.control);
    peer.reactor.turn();
    assert_eq!(ids(&peer), [5, 6]);
}

#[test]
fn requests_to_a_monitor_that_reads_no_more_are_dropped() {
    let (peer, control) = narrow();
    let _calls: Vec<_> = (0..5).map(|_| control.call(ask())).collect();
    assert_eq!(ids(&peer), [1, 2, 3]);
    peer.with_control(BidirectionalPipe::close_read);
    peer.signal(peer.control);
    peer.reactor.turn();
    assert!(control.sender.lock().is_idle());
}

/// A read cursor of the request ring past what was written.
fn break_request_ring(peer: &Peer) {
    let offset = ShmOffset(peer.control.shm_offset);
    let header = peer.reactor.arena().from_offset(offset, 24, 8);
    let header = header.expect("inside").cast::<RingHeader>();
    // SAFETY: the control pipe's first header lies there, and all of it is atomic.
    let header = unsafe { header.as_ref() };
    header.read_cursor.store(1 << 40, Ordering::Relaxed);
}

#[test]
fn an_invalid_cursor_of_the_request_ring_ends_the_session_for_all_that_wait() {
    let invalid = Poll::Ready(Err(Error::Protocol("a cursor of a ring cannot be true")));
    // Found by a request that is made, and while others wait for room.
    for send in [true, false] {
        let (peer, control) = narrow();
        let mut calls: Vec<_> = (0..5).map(|_| control.call(ask())).collect();
        let wakes = Arc::new(Wakes::default());
        for call in &mut calls {
            assert!(wakes.poll(call).is_pending());
        }
        break_request_ring(&peer);
        if send {
            calls.push(control.call(ask()));
        } else {
            peer.signal(peer.control);
            peer.reactor.turn();
        }
        assert_eq!(wakes.count(), 5, "each is told");
        for call in &mut calls {
            assert_eq!(poll(call), invalid);
        }
        assert_eq!(
            poll(&mut control.call(ask())),
            invalid,
            "and who comes later"
        );
    }
}
